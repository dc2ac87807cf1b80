"""AS_PATH: segments as octets and back, and the merging of what a two-octet speaker left of a path.

Called by `attributes` and `update`. RFC 4271 4.3 and 5.1.2, RFC 6793 4.2, RFC 7606 7.2, RFC 7607. AS numbers within this
package have four octets; two-octet ones exist only on the wire to an old speaker.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from routing.bgp.capabilities import AS_TRANS
from routing.bgp.values import Segment, SegmentType

#: The number of AS numbers in a segment is one octet.
LONGEST_SEGMENT = 255
#: RFC 5065 3: AS_CONFED_SEQUENCE and AS_CONFED_SET.
CONFEDERATION = (3, 4)
#: The highest AS number that an old speaker can name.
TWO_OCTETS = 0xFFFF

_FORMATS = {2: "H", 4: "L"}


def split(octets: bytes, width: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Take a path apart: types and AS numbers, `width` octets each; ValueError if it does not come out even.

    RFC 7606 7.2: a segment that ends beyond the path, a single octet after the last, a segment without AS numbers.
    """
    start = 0
    while start < len(octets):
        count = octets[start + 1] if start + 1 < len(octets) else 0
        end = start + 2 + count * width
        if not count or end > len(octets):
            raise ValueError("a segment is empty or cut off")
        yield octets[start], struct.unpack_from(f"!{count}{_FORMATS[width]}", octets, start + 2)
        start = end


def decode(octets: bytes, width: int = 4, *, without_confederation: bool = False) -> tuple[Segment, ...]:
    """Read a path, of AS4_PATH without the confederation's segments (RFC 6793 6); ValueError says why it is malformed."""
    found = split(octets, width)
    kept = [(kind, asns) for kind, asns in found if not (without_confederation and kind in CONFEDERATION)]
    segments = tuple(Segment(_type(kind), asns) for kind, asns in kept)
    if any(0 in segment.asns for segment in segments):
        raise ValueError("AS 0 is in the path")  # RFC 7607 2
    return segments


def _type(kind: int) -> SegmentType:
    if kind in CONFEDERATION:  # RFC 5065 5: from a neighbour outside of the confederation, and we are in none
        raise ValueError(f"segment type {kind} belongs within a confederation")
    if kind not in (SegmentType.SET, SegmentType.SEQUENCE):
        raise ValueError(f"segment type {kind} is unknown")
    return SegmentType(kind)


def encode(segments: tuple[Segment, ...], width: int = 4) -> bytes:
    """Write a path; to two octets what does not fit becomes AS_TRANS. A segment that is too long becomes several."""
    return b"".join(
        _segment(segment.type, segment.asns[start : start + LONGEST_SEGMENT], width)
        for segment in segments
        for start in range(0, len(segment.asns), LONGEST_SEGMENT)
    )


def _segment(kind: SegmentType, asns: tuple[int, ...], width: int) -> bytes:
    fitting = asns if width == 4 else tuple(map(two_octets, asns))  # noqa: PLR2004
    return struct.pack(f"!BB{len(asns)}{_FORMATS[width]}", kind, len(asns), *fitting)


def two_octets(asn: int) -> int:
    """Return how an old speaker is told an AS number (RFC 6793 4.2.2)."""
    return asn if asn <= TWO_OCTETS else AS_TRANS


def length(segments: tuple[Segment, ...]) -> int:
    """Count AS numbers as route selection does (RFC 4271 9.1.2.2 a): a set is one."""
    return sum(1 if segment.type is SegmentType.SET else len(segment.asns) for segment in segments)


def merge(old: tuple[Segment, ...], new: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Put AS_PATH and AS4_PATH of an old speaker together (RFC 6793 4.2.3).

    The leading part of AS_PATH, as long as AS4_PATH is shorter, and then AS4_PATH.
    """
    surplus = length(old) - length(new)
    if surplus < 0:
        return old
    lead: list[Segment] = []
    for segment in old:
        if surplus <= 0:
            break
        lead.append(segment if segment.type is SegmentType.SET else Segment(segment.type, segment.asns[:surplus]))
        surplus -= length((segment,))
    return _joined(tuple(lead), new)


def _joined(lead: tuple[Segment, ...], rest: tuple[Segment, ...]) -> tuple[Segment, ...]:
    # A sequence that the merging cut in two is one again: the same path has the same octets however it came.
    if lead and rest and lead[-1].type is rest[0].type is SegmentType.SEQUENCE:
        asns = lead[-1].asns + rest[0].asns
        if len(asns) <= LONGEST_SEGMENT:
            return (*lead[:-1], Segment(SegmentType.SEQUENCE, asns), *rest[1:])
    return lead + rest
