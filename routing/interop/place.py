"""Two network namespaces joined by a veth: one for the device under test, one for all members.

They have no names: nobody else's daemon takes them for its own, and when the last process in them ends, however it ends, the kernel
removes them. Made and left by `run`; needs root. The thread that makes a place must be the one that uses it.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Final, Self

from appliance.kernel import syscalls
from appliance.model.errors import KernelError, OperatorError
from routing.bgp.values import Family
from routing.interop.world import World

_HERE: Final = "/proc/thread-self/ns/net"
_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC
#: Nobody on this LAN could have a duplicate of an address.
_NO_DAD: Final = Path("/proc/sys/net/ipv6/conf/default/accept_dad")
_FAMILIES: Final = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


class Place:
    """The LAN. `device` and `members` are its namespaces as descriptors."""

    def __init__(self, world: World) -> None:
        """Nothing is made before `with`."""
        self._world = world
        self.device = self.members = -1

    def __enter__(self) -> Self:
        """Make it."""
        if os.geteuid() != 0:
            raise OperatorError.of("network namespaces may be made by root only", "run it as root")
        try:
            self.device, self.members = _new(), _new()
            _make(self.device, *_device(self._world, self.members))
            _make(self.members, *_members(self._world))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        for descriptor in (self.device, self.members):
            if descriptor >= 0:
                os.close(descriptor)
        self.device = self.members = -1

    def socket(self, family: Family) -> socket.socket:
        """Make a TCP socket on the side of the members."""
        with inside(self.members):
            return socket.socket(_FAMILIES[family], socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Be in the namespace with this thread."""
    back = os.open(_HERE, _OPEN)
    try:
        syscalls.setns(namespace)
        try:
            yield
        finally:
            syscalls.setns(back)
    finally:
        os.close(back)


def _new() -> int:
    back = os.open(_HERE, _OPEN)
    try:
        syscalls.unshare_net()
        try:
            with suppress(FileNotFoundError):  # a kernel without IPv6
                _NO_DAD.write_text("0", encoding="ascii")
            return os.open(_HERE, _OPEN)
        finally:
            syscalls.setns(back)
    except OSError as error:
        raise KernelError("namespace", "a new one", error.errno or 1) from error
    finally:
        os.close(back)


def _device(world: World, members: int) -> list[str]:
    peer = f"/proc/{os.getpid()}/fd/{members}"
    link = f"link add eth0 type veth peer name eth0 netns {peer}"
    return [link, "link set lo up", "link set eth0 up", *map(_added, world.own_interfaces)]


def _members(world: World) -> list[str]:
    return ["link set lo up", "link set eth0 up", *map(_added, world.interfaces)]


def _added(address: IPv4Interface | IPv6Interface) -> str:
    # An address that is tentative cannot be bound to, and is until the link has a carrier.
    return f"address add {address} dev eth0" + (" nodad" if isinstance(address, IPv6Interface) else "")


def _make(namespace: int, *lines: str) -> None:
    with inside(namespace):
        done = subprocess.run(
            ["ip", "-batch", "-"], input="\n".join(lines), text=True, capture_output=True, check=False
        )
    if done.returncode:
        raise OperatorError.of(f"the LAN could not be made: {done.stderr.strip()}", "is iproute2 installed?")
