"""Composed IPv6 destinations: an IPv4 address and a 16-bit selector inside one address (design 0003).

    prefix (48) | kind (16) | IPv4 address (32) | selector (16) | 0 (16)

kind 1: a shared source NAT address; the selector is the port, so a host's block of ports is one prefix.
kind 2: a VIP; the selector is the id of one node that serves it.
kind 3: a guest's private address; the selector is the id of its VPC, which makes overlapping subnets distinct.

Pure. The same layout stands in `appliance/kernel/bpf/compose.bpf.c`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Network


class Kind(IntEnum):
    """What the selector means."""

    SNAT = 1
    VIP = 2
    GUEST = 3


#: Length of a prefix that fixes the whole selector.
FULL = 48 + 16 + 32 + 16


@dataclass(frozen=True, slots=True, order=True)
class Composed:
    """A composed prefix: `width` selectors from `selector` on, a power of two."""

    kind: Kind
    address: IPv4Address
    selector: int
    width: int = 1

    def network(self, prefix: IPv6Network) -> IPv6Network:
        """Return the IPv6 prefix; `prefix` is the zone's /48."""
        value = int(prefix.network_address) | self.kind << 64 | int(self.address) << 32 | self.selector << 16
        return IPv6Network((value, FULL - (self.width.bit_length() - 1)))


def decompose(network: object, prefix: IPv6Network) -> Composed | None:
    """Return what a prefix means, or None if it is no composed prefix of this zone."""
    if not isinstance(network, IPv6Network) or not 96 <= network.prefixlen <= FULL or not network.subnet_of(prefix):  # noqa: PLR2004 - the address is whole
        return None
    value = int(network.network_address)
    kind = value >> 64 & 0xFFFF
    if kind not in Kind.__members__.values():
        return None
    width = 1 << (FULL - network.prefixlen)
    if width > 1 and kind != Kind.SNAT:
        return None
    return Composed(Kind(kind), IPv4Address(value >> 32 & 0xFFFF_FFFF), value >> 16 & 0xFFFF, width)
