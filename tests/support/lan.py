"""A LAN in namespaces: one bridge, N members with 192.0.2.x/24 and 2001:db8::x/64, gone when the block ends.

Each LAN takes a token of its own from `tests.support.namespaces`, which also removes what crashed runs left behind.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from tests.support.namespaces import NAMED, PREFIX, Namespaces, remove_leftovers, run_of_tests


class Lan:
    """Members are numbered from 1 in the order given, or get the number given: `Lan("rs", "bird", late=200)`."""

    def __init__(self, *names: str, **numbered: int) -> None:
        """Remember who is on the LAN; nothing is made before `with`."""
        self.numbers = {name: number for number, name in enumerate(names, 1)} | numbered
        self._made: Namespaces | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make the bridge and the members; half a LAN is removed again."""
        with ExitStack() as stack:
            made = self._made = Namespaces(stack.enter_context(run_of_tests()))
            stack.callback(made.close)
            _remove_leftovers_once()
            self._make(made)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove every namespace with the processes in it."""
        self._stack.close()

    def namespace(self, name: str) -> str:
        """Return the name of a member's namespace."""
        assert self._made is not None, "a LAN has namespaces only inside `with`"
        return f"{PREFIX}{self._made.token}-{name}"

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
        return ["nsenter", f"--net={NAMED / self.namespace(name)}", "--", *argv]

    def _make(self, made: Namespaces) -> None:
        bridge = made("br")
        _batch(bridge, "link add br0 type bridge", "link set br0 up")
        for name, number in self.numbers.items():
            member = made(name)
            # FRR and BIRD want a link-local address at once; nobody here could have a duplicate of it.
            quick = "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"
            subprocess.run(self.inside(name, "sh", "-c", quick), check=True)
            _batch(
                member,
                f"link add eth0 type veth peer name p{number} netns {bridge}",
                "link set eth0 up",
                f"address add {self.ipv4(name)}/24 dev eth0",
                f"address add {self.ipv6(name)}/64 dev eth0",
            )
            _batch(bridge, f"link set p{number} master br0 up")


@cache
def _remove_leftovers_once() -> None:
    remove_leftovers()


def _batch(namespace: str, *lines: str) -> None:
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), text=True, check=True)
