"""A LAN in namespaces: one bridge, N members with 192.0.2.x/24 and 2001:db8::x/64, gone when the block ends.

Every namespace is called ewt-PID-NUMBER-NAME. A run that crashed leaves its namespaces behind; the next one that starts
removes those whose PID is dead, and whatever still lives in them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Self

_NETNS = Path("/run/netns")
_TAG = "ewt"
_COUNTER = itertools.count(1)


class Lan:
    """Members are numbered from 1 in the order given, or get the number given: `Lan("rs", "bird", late=200)`."""

    def __init__(self, *names: str, **numbered: int) -> None:
        """Remember who is on the LAN; nothing is made before `with`."""
        self._number = next(_COUNTER)
        self.numbers = {name: number for number, name in enumerate(names, 1)} | numbered

    def __enter__(self) -> Self:
        """Make the bridge and the members; half a LAN is removed again."""
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove every namespace with the processes in it."""
        self.remove()

    def namespace(self, name: str) -> str:
        """Return the name of a member's namespace."""
        return f"{_TAG}-{os.getpid()}-{self._number}-{name}"

    def ipv4(self, name: str) -> IPv4Address:
        """Return a member's IPv4 address."""
        return IPv4Address("192.0.2.0") + self.numbers[name]

    def ipv6(self, name: str) -> IPv6Address:
        """Return a member's IPv6 address; its last group has the digits of the IPv4 one."""
        return IPv6Address(f"2001:db8::{self.numbers[name]}")

    def inside(self, name: str, *argv: str) -> list[str]:
        """Return the command line that runs `argv` in a member's namespace.

        nsenter and not `ip netns exec`: the latter mounts another /sys and forks nothing less.
        """
        return ["nsenter", f"--net={_NETNS / self.namespace(name)}", "--", *argv]

    def remove(self) -> None:
        """Remove every namespace of this LAN; what is not there is no error."""
        for name in ("br", *self.numbers):
            _delete(self.namespace(name))

    def _make(self) -> None:
        bridge = self.namespace("br")
        _ip("netns", "add", bridge)
        _batch(bridge, "link set lo up", "link add br0 type bridge", "link set br0 up")
        for name, number in self.numbers.items():
            member = self.namespace(name)
            _ip("netns", "add", member)
            # FRR and BIRD want a link-local address at once; nobody here could have a duplicate of it.
            quick = "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"
            subprocess.run(self.inside(name, "sh", "-c", quick), check=True)
            _batch(
                member,
                "link set lo up",
                f"link add eth0 type veth peer name p{number} netns {bridge}",
                "link set eth0 up",
                f"address add {self.ipv4(name)}/24 dev eth0",
                f"address add {self.ipv6(name)}/64 dev eth0",
            )
            _batch(bridge, f"link set p{number} master br0 up")


def remove_leftovers() -> None:
    """Remove the namespaces of runs that are no more."""
    for path in _NETNS.glob(f"{_TAG}-*-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            _delete(path.name)


def _ip(*argv: str, text: str | None = None) -> str:
    done = subprocess.run(["ip", *argv], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"ip {' '.join(argv)}: {done.stderr.strip()}"
        raise OSError(msg)
    return done.stdout


def _batch(namespace: str, *lines: str) -> None:
    _ip("-n", namespace, "-batch", "-", text="\n".join(lines))


def _delete(namespace: str) -> None:
    if not (_NETNS / namespace).exists():
        return
    for pid in _ip("netns", "pids", namespace).split():
        if int(pid) != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "delete", namespace)
