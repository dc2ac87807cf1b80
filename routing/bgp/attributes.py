"""Attribute sets as octets and back, and their form for a neighbour without four-octet AS numbers.

Called by the tables where a set is out of the ordinary or must be changed, and by `update`. The octets are those of design
note 0008: AS numbers of four octets, for IPv4 with an IPv4 next hop as in an UPDATE, otherwise MP_REACH_NLRI first,
reduced to family and next hop. RFC 4271 4.3 and 5, 1997, 4360, 4456, 4760, 6793, 8092. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from routing.bgp import path
from routing.bgp.values import Address, Attributes, Family, Origin, UnknownAttribute


class Code(IntEnum):
    """Type codes of the attributes we know."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH_NLRI = 14
    MP_UNREACH_NLRI = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    LARGE_COMMUNITIES = 32
    ONLY_TO_CUSTOMER = 35


OPTIONAL = 0x80
TRANSITIVE = 0x40
PARTIAL = 0x20
EXTENDED = 0x10

#: Flags of the attributes we know, without Partial and Extended Length.
FLAGS: dict[int, int] = {
    Code.ORIGIN: TRANSITIVE,
    Code.AS_PATH: TRANSITIVE,
    Code.NEXT_HOP: TRANSITIVE,
    Code.MULTI_EXIT_DISC: OPTIONAL,
    Code.LOCAL_PREF: TRANSITIVE,
    Code.ATOMIC_AGGREGATE: TRANSITIVE,
    Code.AGGREGATOR: OPTIONAL | TRANSITIVE,
    Code.COMMUNITIES: OPTIONAL | TRANSITIVE,
    Code.ORIGINATOR_ID: OPTIONAL,
    Code.CLUSTER_LIST: OPTIONAL,
    Code.MP_REACH_NLRI: OPTIONAL,
    Code.MP_UNREACH_NLRI: OPTIONAL,
    Code.EXTENDED_COMMUNITIES: OPTIONAL | TRANSITIVE,
    Code.AS4_PATH: OPTIONAL | TRANSITIVE,
    Code.AS4_AGGREGATOR: OPTIONAL | TRANSITIVE,
    Code.LARGE_COMMUNITIES: OPTIONAL | TRANSITIVE,
    Code.ONLY_TO_CUSTOMER: OPTIONAL | TRANSITIVE,
}
#: Nothing but an export or a leak depends on its value, so it stays among those that are passed on as they are.
_CARRIED = frozenset({Code.ONLY_TO_CUSTOMER})

_SHORT = 255


class Attribute(NamedTuple):
    """One path attribute as it stands in a message."""

    flags: int
    code: int
    value: bytes

    def octets(self) -> bytes:
        """Write it; the length has two octets where the flags say so or one is too few."""
        if len(self.value) > _SHORT or self.flags & EXTENDED:
            return struct.pack("!BBH", self.flags | EXTENDED, self.code, len(self.value)) + self.value
        return struct.pack("!BBB", self.flags, self.code, len(self.value)) + self.value


def known(code: int, value: bytes) -> Attribute:
    """Make an attribute with the flags that its RFC gives it."""
    return Attribute(FLAGS[code], code, value)


def join(attributes: Iterable[Attribute]) -> bytes:
    """Write a list of attributes."""
    return b"".join(attribute.octets() for attribute in attributes)


def split(octets: bytes) -> tuple[list[Attribute], bytes]:
    """Take attributes apart; what is left is the beginning of one that the octets do not hold (RFC 7606 4)."""
    found = []
    start = 0
    while start + 3 <= len(octets):
        flags, code = octets[start], octets[start + 1]
        value = start + (4 if flags & EXTENDED else 3)
        end = value + int.from_bytes(octets[start + 2 : value], "big")
        if value > len(octets) or end > len(octets):
            break
        found.append(Attribute(flags, code, octets[value:end]))
        start = end
    return found, octets[start:]


def reduced(family: Family, next_hop: bytes) -> Attribute:
    """Make an MP_REACH_NLRI of family and next hop alone."""
    return known(Code.MP_REACH_NLRI, struct.pack("!HBB", *family.value, len(next_hop)) + next_hop + b"\0")


def decode(octets: bytes) -> Attributes:
    """Read a set that was received well (`update.read`) or written here; ValueError for anything else."""
    found = _whole(octets)
    values = {attribute.code: attribute.value for attribute in found}
    try:
        return _decoded(
            values, tuple(UnknownAttribute(f & ~EXTENDED, c, v) for f, c, v in found if c not in FLAGS or c in _CARRIED)
        )
    except (struct.error, IndexError, KeyError) as error:
        raise ValueError(f"attributes are malformed: {octets.hex()}") from error


def _whole(octets: bytes) -> list[Attribute]:
    found, rest = split(octets)
    if rest:
        raise ValueError(f"attributes end within one: {rest.hex()}")
    return found


def _decoded(values: dict[int, bytes], unknown: tuple[UnknownAttribute, ...]) -> Attributes:
    return Attributes(
        next_hop=_next_hop(values),
        origin=Origin(int.from_bytes(values[Code.ORIGIN], "big")),
        as_path=path.decode(values[Code.AS_PATH]),
        med=_number(values.get(Code.MULTI_EXIT_DISC)),
        local_pref=_number(values.get(Code.LOCAL_PREF)),
        atomic_aggregate=Code.ATOMIC_AGGREGATE in values,
        aggregator=_aggregator(values.get(Code.AGGREGATOR)),
        communities=tuple(struct.iter_unpack("!HH", values.get(Code.COMMUNITIES, b""))),
        large_communities=tuple(struct.iter_unpack("!LLL", values.get(Code.LARGE_COMMUNITIES, b""))),
        extended_communities=tuple(
            octets for (octets,) in struct.iter_unpack("8s", values.get(Code.EXTENDED_COMMUNITIES, b""))
        ),
        originator_id=IPv4Address(values[Code.ORIGINATOR_ID]) if Code.ORIGINATOR_ID in values else None,
        cluster_list=tuple(
            IPv4Address(number) for (number,) in struct.iter_unpack("!L", values.get(Code.CLUSTER_LIST, b""))
        ),
        unknown=unknown,
    )


def _next_hop(values: dict[int, bytes]) -> Address:
    reach = values.get(Code.MP_REACH_NLRI)
    if reach is None:
        return IPv4Address(values[Code.NEXT_HOP])
    return address(reach[4 : 4 + reach[3]])


def address(octets: bytes) -> Address:
    """Read a next hop of four or sixteen octets."""
    return IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets)  # noqa: PLR2004 - the width of IPv4


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(struct.unpack("!L", value)[0])


def _aggregator(value: bytes | None) -> tuple[int, IPv4Address] | None:
    if value is None:
        return None
    asn, router_id = struct.unpack("!L4s", value)
    return asn, IPv4Address(router_id)


def encode(attributes: Attributes, family: Family) -> bytes:
    """Write a set for prefixes of a family, in the order of RFC 4271 5: by type, MP_REACH_NLRI first (RFC 7606 5.1)."""
    return join(
        _ordered([*_encoded(attributes, family), *(Attribute(u.flags, u.code, u.value) for u in attributes.unknown)])
    )


def _ordered(found: list[Attribute]) -> list[Attribute]:
    return sorted(found, key=lambda attribute: (attribute.code != Code.MP_REACH_NLRI, attribute.code))


def _encoded(attributes: Attributes, family: Family) -> Iterator[Attribute]:
    yield _hop(attributes.next_hop, family)
    yield known(Code.ORIGIN, bytes((attributes.origin,)))
    yield known(Code.AS_PATH, path.encode(attributes.as_path))
    if attributes.med is not None:
        yield known(Code.MULTI_EXIT_DISC, struct.pack("!L", attributes.med))
    if attributes.local_pref is not None:
        yield known(Code.LOCAL_PREF, struct.pack("!L", attributes.local_pref))
    if attributes.atomic_aggregate:
        yield known(Code.ATOMIC_AGGREGATE, b"")
    if attributes.aggregator is not None:
        asn, router_id = attributes.aggregator
        yield known(Code.AGGREGATOR, struct.pack("!L4s", asn, router_id.packed))
    if attributes.originator_id is not None:
        yield known(Code.ORIGINATOR_ID, attributes.originator_id.packed)
    for code, value in (
        (Code.COMMUNITIES, b"".join(struct.pack("!HH", *pair) for pair in attributes.communities)),
        (Code.CLUSTER_LIST, b"".join(identifier.packed for identifier in attributes.cluster_list)),
        (Code.EXTENDED_COMMUNITIES, b"".join(attributes.extended_communities)),
        (Code.LARGE_COMMUNITIES, b"".join(struct.pack("!LLL", *three) for three in attributes.large_communities)),
    ):
        if value:
            yield known(code, value)


def _hop(next_hop: Address, family: Family) -> Attribute:
    if isinstance(next_hop, IPv6Address):
        return reduced(family, next_hop.packed)
    if family is Family.IPV4:
        return known(Code.NEXT_HOP, next_hop.packed)
    # RFC 4291 2.5.5.2: an IPv6 prefix has no other way to name an IPv4 next hop.
    return reduced(family, IPv6Address(0xFFFF_0000_0000 | int(next_hop)).packed)


def has(attributes: Attributes, code: Code) -> bool:
    """Tell whether an attribute is among those that are passed on as they are."""
    return any(one.code == code for one in attributes.unknown)


def marked(octets: bytes, asn: int) -> bytes:
    """Add ONLY_TO_CUSTOMER with our AS unless it is there already (RFC 9234 5)."""
    found = _whole(octets)
    if any(attribute.code == Code.ONLY_TO_CUSTOMER for attribute in found):
        return octets
    return join(_ordered([*found, known(Code.ONLY_TO_CUSTOMER, struct.pack("!L", asn))]))


def downgrade(octets: bytes) -> bytes:
    """Rewrite a set for a neighbour without four-octet AS numbers (RFC 6793 4.2.2).

    AS_TRANS in the place of what does not fit, and the truth in AS4_PATH and AS4_AGGREGATOR where anything did not.
    """
    try:
        return join(_ordered([new for old in _whole(octets) for new in _downgraded(old)]))
    except struct.error as error:
        raise ValueError(f"attributes are malformed: {octets.hex()}") from error


def _downgraded(attribute: Attribute) -> Iterator[Attribute]:
    if attribute.code == Code.AS_PATH:
        segments = path.decode(attribute.value)
        yield known(Code.AS_PATH, path.encode(segments, 2))
        if any(asn > path.TWO_OCTETS for segment in segments for asn in segment.asns):
            yield known(Code.AS4_PATH, attribute.value)
    elif attribute.code == Code.AGGREGATOR:
        asn, router_id = struct.unpack("!L4s", attribute.value)
        # Partial stays: "once set, it must not be set to 0" (RFC 4271 5).
        yield attribute._replace(value=struct.pack("!H4s", path.two_octets(asn), router_id))
        if asn > path.TWO_OCTETS:
            yield known(Code.AS4_AGGREGATOR, attribute.value)
    else:
        yield attribute
