"""The same rules written in the ways that people write them: what the rule table is measured beside.

A rule is a source /24, a protocol and a port. Each packet is judged anew: nothing here looks at an earlier decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Final

from bench.packets import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST: Final = int(IPv4Address("10.64.0.0"))
#: All know their flow, so that all pay for the record of it.
HEAD: Final = "type filter hook forward priority 0; policy drop; ct state invalid drop"


@dataclass(frozen=True, slots=True)
class Simple:
    """Rule number n."""

    number: int

    @property
    def source(self) -> IPv4Network:
        """From where."""
        return IPv4Network((_FIRST + 256 * self.number, 24))

    @property
    def port(self) -> int:
        """To which UDP port."""
        return 8000 + self.number % 100

    @property
    def match(self) -> str:
        """The rule as nft writes it."""
        return f"ip saddr {self.source} udp dport {self.port} accept"

    def stream(self, destination: IPv4Address) -> Stream:
        """Return packets that it matches."""
        return Stream(self.source[9], 5000, destination, self.port)


def rules(count: int) -> list[Simple]:
    """Return as many rules."""
    return [Simple(number) for number in range(count)]


def workload(number: int) -> IPv4Address:
    """Return the address of a workload."""
    return IPv4Address("10.2.1.0") + 1 + number


def linear(some: Sequence[Simple]) -> str:
    """Write one rule after the other."""
    return _table(f"chain forward {{\n{HEAD}\n" + "".join(f"{each.match}\n" for each in some) + "}")


def jumps(some: Sequence[Simple]) -> str:
    """Write each rule as a chain that others share, and jump to one after the other."""
    shared = "".join(f"chain r{each.number} {{\n{each.match}\n}}\n" for each in some)
    return _table(f"{shared}chain forward {{\n{HEAD}\n" + "".join(f"jump r{each.number}\n" for each in some) + "}")


def iptables(some: Sequence[Simple]) -> str:
    """Write one rule after the other for iptables-restore."""
    lines = "".join(f"-A FORWARD -s {each.source} -p udp --dport {each.port} -j ACCEPT\n" for each in some)
    return f"*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n{lines}COMMIT\n"


def copies(indexes: Sequence[Sequence[Simple]]) -> str:
    """Write the rules of each workload into a chain of its own."""
    chains = "".join(
        f"chain w{number} {{\n" + "".join(f"{each.match}\n" for each in index) + "}\n"
        for number, index in enumerate(indexes)
    )
    ways = ", ".join(f"{workload(number)} : goto w{number}" for number in range(len(indexes)))
    return _table(f"{chains}chain forward {{\n{HEAD}\nip daddr vmap {{ {ways} }}\n}}")


def _table(body: str) -> str:
    return f"table inet other {{\n{body}\n}}\n"
