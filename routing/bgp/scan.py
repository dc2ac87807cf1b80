"""From octets received to messages, and from attributes to what a policy needs of them, without decoding them.

The reference of what `routing.bgp.hot` offers (design note 0008); the C form behaves the same and has the same tests.
`split` finds messages and faults of their headers (RFC 4271 4.1, 6.1; RFC 8654). `lift` takes out of the attributes
what RFC 4760 put there although it belongs to the prefixes. `scan` knows ordinary attribute sets, those that RFC 7606 has
no complaint about and that hold nothing rare. Whatever `lift` and `scan` decline is decoded in full elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

Message = tuple[int, bytes] | tuple[int, bytes, bytes, bytes]
Fault = tuple[int, bytes]  # subcode of Message Header Error, and its data
Lifted = tuple[bytes, int, bytes, int, bytes]

OPEN: Final = 1
UPDATE: Final = 2
NOTIFICATION: Final = 3
KEEPALIVE: Final = 4
ROUTE_REFRESH: Final = 5

HEADER_SIZE: Final = 19
MARKER: Final = b"\xff" * 16

NOT_SYNCHRONIZED: Final = 1
BAD_LENGTH: Final = 2
BAD_TYPE: Final = 3

IPV4_UNICAST: Final = 1 << 8 | 1

EXTENDED: Final = 0x10
OPTIONAL: Final = 0x80
WELL_KNOWN: Final = 0x40
OPTIONAL_TRANSITIVE: Final = 0xC0
PARTIAL: Final = 0x20

ORIGIN: Final = 1
AS_PATH: Final = 2
NEXT_HOP: Final = 3
AGGREGATOR: Final = 7
MP_REACH_NLRI: Final = 14
MP_UNREACH_NLRI: Final = 15
LARGE_COMMUNITY: Final = 32

_LAST_ORIGIN: Final = 2
_SEQUENCE: Final = 2
_AFI_IPV6: Final = 2
# More large communities than anybody has are not compared, each with every other, to find redundant ones.
_MOST: Final = 64
_FAMILY_SIZE: Final = 3

# RFC 8654 4: "the OPEN and KEEPALIVE messages" stay within 4096 octets whatever was agreed upon.
_CLASSIC_LIMIT: Final = 4096
# RFC 4271 4.2 to 4.5. A ROUTE-REFRESH of a wrong length has an error code of its own (RFC 7313).
_SHORTEST: Final = {OPEN: 29, UPDATE: 23, NOTIFICATION: 21, KEEPALIVE: 19, ROUTE_REFRESH: 19}

_TWO = struct.Struct(">H").unpack_from


class _Attribute(NamedTuple):
    """Where an attribute stands: from its flags at `begin`, its value from `value`, both to `end`."""

    flags: int
    kind: int
    begin: int
    value: int
    end: int


class _Shape(NamedTuple):
    """What flags an attribute must have, and its length: exactly `size`, or a multiple of it that is not 0."""

    flags: int
    size: int
    multiple: bool = False


# RFC 7606 7, RFC 8092 3. AS_PATH is looked at more closely.
_SHAPES: Final = {
    ORIGIN: _Shape(WELL_KNOWN, 1),
    NEXT_HOP: _Shape(WELL_KNOWN, 4),
    4: _Shape(OPTIONAL, 4),
    6: _Shape(WELL_KNOWN, 0),
    AGGREGATOR: _Shape(OPTIONAL_TRANSITIVE, 8),
    8: _Shape(OPTIONAL_TRANSITIVE, 4, multiple=True),
    16: _Shape(OPTIONAL_TRANSITIVE, 8, multiple=True),
    LARGE_COMMUNITY: _Shape(OPTIONAL_TRANSITIVE, 12, multiple=True),
}
# RFC 7606 7.5, 7.9, 7.10: from an external neighbour these are to be dropped.
_INTERNAL_SHAPES: Final = {
    **_SHAPES,
    5: _Shape(WELL_KNOWN, 4),
    9: _Shape(OPTIONAL, 4),
    10: _Shape(OPTIONAL, 4, multiple=True),
}

# Values that an attribute of the right length must not have (RFC 7606 7.1, RFC 7607 2).
_REFUSED: Final[dict[int, Callable[[bytes], bool]]] = {
    ORIGIN: lambda value: value[0] > _LAST_ORIGIN,
    AGGREGATOR: lambda value: value[:4] == bytes(4),
}


def split(buffer: bytes, limit: int, /) -> tuple[list[Message], int, Fault | None]:
    """Return the whole messages at the start of `buffer`, how many octets they are, and the fault of what follows.

    An UPDATE whose lengths agree is (2, withdrawn routes, attributes, NLRI), every other message (type, body). A fault of
    a header is seen as soon as the header is there.
    """
    messages: list[Message] = []
    at, end = 0, len(buffer)
    while end - at >= HEADER_SIZE:
        size, kind = _TWO(buffer, at + 16)[0], buffer[at + 18]
        fault = _fault(buffer[at : at + 16], size, kind, limit)
        if fault is not None:
            return messages, at, fault
        if size > end - at:
            break
        body = buffer[at + HEADER_SIZE : at + size]
        messages.append(_update(body) if kind == UPDATE else (kind, body))
        at += size
    return messages, at, None


def _fault(marker: bytes, size: int, kind: int, limit: int) -> Fault | None:
    if marker != MARKER:
        return NOT_SYNCHRONIZED, b""
    if not HEADER_SIZE <= size <= limit:
        return BAD_LENGTH, size.to_bytes(2, "big")
    if kind not in _SHORTEST:
        return BAD_TYPE, bytes((kind,))
    if (
        size < _SHORTEST[kind]
        or (kind == KEEPALIVE and size != HEADER_SIZE)
        or (kind == OPEN and size > _CLASSIC_LIMIT)
    ):
        return BAD_LENGTH, size.to_bytes(2, "big")
    return None


def _update(body: bytes) -> Message:
    """Take an UPDATE apart; the body is at least the two lengths."""
    attributes = 2 + _TWO(body)[0]
    if attributes + 2 > len(body):
        return UPDATE, body
    nlri = attributes + 2 + _TWO(body, attributes)[0]
    if nlri > len(body):
        return UPDATE, body
    return UPDATE, body[2:attributes], body[attributes + 2 : nlri], body[nlri:]


def walk(octets: bytes) -> list[_Attribute] | None:
    """Return the attributes; None if they do not end where the octets do or if one is there twice."""
    found: dict[int, _Attribute] = {}
    at, end = 0, len(octets)
    while at < end:
        header = at + (4 if octets[at] & EXTENDED else 3)
        if header > end:
            return None
        flags, kind = octets[at], octets[at + 1]
        after = header + (_TWO(octets, at + 2)[0] if flags & EXTENDED else octets[at + 2])
        if after > end or kind in found:
            return None
        found[kind] = _Attribute(flags, kind, at, header, after)
        at = after
    return list(found.values())


def lift(attributes: bytes, /) -> Lifted | None:
    """Take MP_REACH_NLRI and MP_UNREACH_NLRI out of the attributes of an UPDATE that has no other NLRI.

    Returns octets (what is left, with the next hop, as the design note says), AFI << 8 | SAFI and NLRI of what is
    reachable, and the same of what is not (0 and nothing where absent). None: out of the ordinary.
    """
    walked = walk(attributes)
    if walked is None:
        return None
    head, kept = b"", []
    reach, unreach = (0, b""), (0, b"")
    has_reach = any(attribute.kind == MP_REACH_NLRI for attribute in walked)
    for flags, kind, begin, value, end in walked:
        if kind not in (MP_REACH_NLRI, MP_UNREACH_NLRI):
            # RFC 4760 3: the NEXT_HOP of such a message "MUST be ignored".
            if kind != NEXT_HOP or not has_reach:
                kept.append(attributes[begin:end])
            continue
        if flags & ~EXTENDED != OPTIONAL or end - value < _FAMILY_SIZE:
            return None
        family = _TWO(attributes, value)[0] << 8 | attributes[value + 2]
        if kind == MP_UNREACH_NLRI:
            unreach = family, attributes[value + _FAMILY_SIZE : end]
            continue
        found = _reduced(attributes[value:end], family)
        if found is None:
            return None
        head, reach = found[0], (family, found[1])
    return head + b"".join(kept), *reach, *unreach


def _reduced(value: bytes, family: int) -> tuple[bytes, bytes] | None:
    """Reduce a MP_REACH_NLRI to what all its prefixes share, and return its NLRI beside."""
    size = value[3] if len(value) > _FAMILY_SIZE else 0
    # RFC 2545 3, RFC 8950 4: of two addresses the first is the global one, the second link-local.
    if size not in (4, 16, 32) or (size == 4 and family >> 8 == _AFI_IPV6) or len(value) < 5 + size:  # noqa: PLR2004
        return None
    nlri = value[5 + size :]
    if family == IPV4_UNICAST and size == 4:  # noqa: PLR2004 - an IPv4 address
        return bytes((WELL_KNOWN, NEXT_HOP, 4)) + value[4:8], nlri
    size = min(size, 16)
    return bytes((OPTIONAL, MP_REACH_NLRI, 5 + size)) + value[:3] + bytes((size,)) + value[4 : 4 + size] + b"\0", nlri


def scan(octets: bytes, /, internal: bool) -> tuple[tuple[int, ...], bytes] | None:  # noqa: FBT001 - a fact of the session
    """Return the AS numbers of the path and the next hop of an ordinary attribute set; None: out of the ordinary."""
    walked = walk(octets)
    if walked is None:
        return None
    shapes = _INTERNAL_SHAPES if internal else _SHAPES
    values: dict[int, bytes] = {}
    for attribute in walked:
        value = octets[attribute.value : attribute.end]
        if not _ordinary(attribute, value, shapes):
            return None
        values[attribute.kind] = value
    if ORIGIN not in values or AS_PATH not in values or (NEXT_HOP in values) == (MP_REACH_NLRI in values):
        return None
    asns = _sequences(values[AS_PATH])
    next_hop = values[MP_REACH_NLRI][4:-1] if MP_REACH_NLRI in values else values[NEXT_HOP]
    return None if asns is None else (asns, next_hop)


def _ordinary(attribute: _Attribute, value: bytes, shapes: dict[int, _Shape]) -> bool:
    flags, kind = attribute.flags, attribute.kind
    if kind == AS_PATH:
        return flags & ~EXTENDED == WELL_KNOWN
    if kind == MP_REACH_NLRI:
        return attribute.begin == 0 and flags == OPTIONAL and _is_reduced(value)
    if kind not in shapes:
        return False
    wanted, size, multiple = shapes[kind]
    ignored = EXTENDED | PARTIAL if wanted == OPTIONAL_TRANSITIVE else EXTENDED
    if flags & ~ignored != wanted:
        return False
    if multiple:
        return len(value) > 0 and len(value) % size == 0 and (kind != LARGE_COMMUNITY or _distinct(value, size))
    return len(value) == size and (kind not in _REFUSED or not _REFUSED[kind](value))


def _distinct(value: bytes, size: int) -> bool:
    """Tell whether no large community is there twice: RFC 8092 3 has redundant ones removed."""
    number = len(value) // size
    return number <= _MOST and len({value[at : at + size] for at in range(0, len(value), size)}) == number


def _is_reduced(value: bytes) -> bool:
    return len(value) in (5 + 4, 5 + 16) and value[3] == len(value) - 5 and value[-1] == 0


def _sequences(path: bytes) -> tuple[int, ...] | None:
    """Return the AS numbers of a path of AS_SEQUENCEs, none of them empty."""
    asns: tuple[int, ...] = ()
    at, end = 0, len(path)
    while at < end:
        number = path[at + 1] if end - at > 1 and path[at] == _SEQUENCE else 0
        after = at + 2 + 4 * number
        if number == 0 or after > end:
            return None
        asns += struct.unpack_from(f">{number}I", path, at + 2)
        at = after
    return asns
