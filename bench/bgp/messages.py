"""BGP messages of the tester, encoded before any clock runs: RFC 4271 4, RFC 4760, RFC 6793, RFC 8092.

A prefix is its octets in an UPDATE: the length, then as many octets of the network as it needs. AS numbers have four
octets: every server under measurement speaks RFC 6793.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import chain
from typing import TYPE_CHECKING, Final

from bench.bgp.exchange import HOLD, Client
from bench.feeder import KEEPALIVE, OPEN, UPDATE, message
from routing.bgp.values import Address, Family, Network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NOTIFICATION, REFRESH = 3, 5
ALIVE: Final = message(KEEPALIVE)
#: RFC 4271 4: the longest message, without the header and the two lengths of an UPDATE.
_ROOM: Final = 4096 - 23
_AS_TRANS, _SEQUENCE = 23456, 2
#: Flags and types of attributes.
_WELL_KNOWN, _OPTIONAL, _TRANSITIVE, _EXTENDED = 0x40, 0x80, 0xC0, 0x10
ORIGIN, AS_PATH, NEXT_HOP, MED, COMMUNITIES, REACH, UNREACH, LARGE = 1, 2, 3, 4, 8, 14, 15, 32
#: What MP_REACH_NLRI (flags, type, length of two octets, AFI, SAFI, length of next hop, next hop, reserved) and
#: MP_UNREACH_NLRI need besides prefixes.
_REACH_HEAD, _UNREACH_HEAD = 4 + 3 + 1 + 16 + 1, 4 + 3


@dataclass(frozen=True, slots=True)
class Path:
    """What all prefixes of an UPDATE share."""

    asns: tuple[int, ...]
    next_hop: Address
    origin: int = 0
    med: int | None = None
    communities: tuple[int, ...] = ()
    large: tuple[tuple[int, int, int], ...] = ()

    def attributes(self) -> bytes:
        """Encode the attributes in the order of their types; an IPv6 next hop is none of them."""
        found = [(ORIGIN, _WELL_KNOWN, bytes([self.origin])), (AS_PATH, _WELL_KNOWN, self._sequence())]
        if self.next_hop.version == 4:
            found.append((NEXT_HOP, _WELL_KNOWN, self.next_hop.packed))
        if self.med is not None:
            found.append((MED, _OPTIONAL, struct.pack(">I", self.med)))
        if self.communities:
            found.append((COMMUNITIES, _TRANSITIVE, struct.pack(f">{len(self.communities)}I", *self.communities)))
        if self.large:
            words = tuple(chain.from_iterable(self.large))
            found.append((LARGE, _TRANSITIVE, struct.pack(f">{len(words)}I", *words)))
        return b"".join(_attribute(flags, kind, value) for kind, flags, value in found)

    def _sequence(self) -> bytes:
        return struct.pack(f">BB{len(self.asns)}I", _SEQUENCE, len(self.asns), *self.asns) if self.asns else b""


def _attribute(flags: int, kind: int, value: bytes) -> bytes:
    if len(value) > 255:
        return struct.pack(">BBH", flags | _EXTENDED, kind, len(value)) + value
    return struct.pack(">BBB", flags, kind, len(value)) + value


def nlri(network: Network) -> bytes:
    """Encode a prefix."""
    return bytes([network.prefixlen]) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def network(family: Family, prefix: bytes) -> Network:
    """Decode a prefix."""
    width = 4 if family is Family.IPV4 else 16
    return ip_network((prefix[1:].ljust(width, b"\0"), prefix[0]))


def opening(client: Client, family: Family) -> bytes:
    """Encode the OPEN of a client: its family, route refresh, AS numbers of four octets."""
    afi, safi = family.value
    capabilities = struct.pack(">BBHBB BB BBI", 1, 4, afi, 0, safi, 2, 0, 65, 4, client.asn)
    options = struct.pack(">BB", 2, len(capabilities)) + capabilities
    asn = client.asn if client.asn < 1 << 16 else _AS_TRANS
    return message(OPEN, struct.pack(">BHH4sB", 4, asn, HOLD, client.router_id.packed, len(options)) + options)


def announcements(path: Path, prefixes: Sequence[bytes]) -> bytes:
    """Encode UPDATEs that announce prefixes, each as full as it can be."""
    attributes = path.attributes()
    if path.next_hop.version == 4:
        head = struct.pack(">HH", 0, len(attributes)) + attributes
        return b"".join(message(UPDATE, head + part) for part in _packed(prefixes, _ROOM - len(attributes)))
    afi, safi = Family.IPV6.value
    head = struct.pack(">HBB", afi, safi, 16) + path.next_hop.packed + b"\0"
    return b"".join(
        _of_attributes(attributes + struct.pack(">BBH", _OPTIONAL | _EXTENDED, REACH, len(head + part)) + head + part)
        for part in _packed(prefixes, _ROOM - len(attributes) - _REACH_HEAD)
    )


def withdrawals(family: Family, prefixes: Sequence[bytes]) -> bytes:
    """Encode UPDATEs that withdraw prefixes."""
    if family is Family.IPV4:
        parts = _packed(prefixes, _ROOM)
        return b"".join(message(UPDATE, struct.pack(">H", len(part)) + part + b"\0\0") for part in parts)
    afi, safi = family.value
    return b"".join(
        _of_attributes(struct.pack(">BBHHB", _OPTIONAL | _EXTENDED, UNREACH, 3 + len(part), afi, safi) + part)
        for part in _packed(prefixes, _ROOM - _UNREACH_HEAD)
    )


def end_of_rib(family: Family) -> bytes:
    """Encode the marker that all has been said (RFC 4724 2)."""
    if family is Family.IPV4:
        return message(UPDATE, b"\0\0\0\0")
    return _of_attributes(struct.pack(">BBBHB", _OPTIONAL, UNREACH, 3, *family.value))


def _of_attributes(attributes: bytes) -> bytes:
    return message(UPDATE, struct.pack(">HH", 0, len(attributes)) + attributes)


def _packed(prefixes: Iterable[bytes], room: int) -> Iterator[bytes]:
    """Join prefixes as long as there is room."""
    part: list[bytes] = []
    size = 0
    for prefix in prefixes:
        if size + len(prefix) > room:
            yield b"".join(part)
            part, size = [], 0
        part.append(prefix)
        size += len(prefix)
    if part:
        yield b"".join(part)
