from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp import path
from routing.bgp.values import Segment, SegmentType

Path = tuple[Segment, ...]

ASNS = st.one_of(st.integers(1, 2**32 - 1), st.integers(1, 65535), st.just(23456))
SEGMENTS = st.builds(
    Segment, st.sampled_from(list(SegmentType)), st.lists(ASNS, min_size=1, max_size=5).map(tuple)
)  # fmt: skip
PATHS = st.lists(SEGMENTS, max_size=4).map(tuple)


def sequence(*asns: int) -> Segment:
    """Make an AS_SEQUENCE."""
    return Segment(SegmentType.SEQUENCE, asns)


def unordered(*asns: int) -> Segment:
    """Make an AS_SET."""
    return Segment(SegmentType.SET, asns)


def test_a_path_is_written_as_rfc_4271_has_it() -> None:
    """Type, number of AS numbers, AS numbers."""
    found = (sequence(65001, 4200000000), unordered(1, 2))
    assert path.encode(found) == bytes.fromhex("0202 0000fde9 fa56ea00 0102 00000001 00000002")
    assert path.encode(found, 2) == bytes.fromhex("0202 fde9 5ba0 0102 0001 0002")
    assert path.encode(()) == b""


@given(PATHS)
def test_a_path_is_read_as_it_was_written(found: Path) -> None:
    """In both widths; in two octets with AS_TRANS for what does not fit."""
    assert path.decode(path.encode(found)) == found
    short = tuple(Segment(segment.type, tuple(map(path.two_octets, segment.asns))) for segment in found)
    assert path.decode(path.encode(found, 2), 2) == short


def test_a_segment_that_is_too_long_becomes_several() -> None:
    """RFC 4271 5.1.2: the number is one octet."""
    asns = tuple(range(1, 601))
    read = path.decode(path.encode((sequence(*asns),)))
    assert [len(segment.asns) for segment in read] == [255, 255, 90]
    assert sum((segment.asns for segment in read), ()) == asns


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ("02", "empty or cut off"),
        ("0200", "empty or cut off"),
        ("0201 000000", "empty or cut off"),
        ("0201 00000001 02", "empty or cut off"),
        ("0202 00000001", "empty or cut off"),
        ("0001 00000001", "segment type 0 is unknown"),
        ("0501 00000001", "segment type 5 is unknown"),
        ("0301 00000001", "within a confederation"),
        ("0401 00000001", "within a confederation"),
        ("0202 00000001 00000000", "AS 0"),
    ],
)
def test_a_malformed_path_is_told_from_a_good_one(octets: str, why: str) -> None:
    """RFC 7606 7.2, RFC 5065 5, RFC 7607 2."""
    with pytest.raises(ValueError, match=why):
        path.decode(bytes.fromhex(octets))


def test_a_confederation_is_left_out_where_it_must_be() -> None:
    """RFC 6793 6: of AS4_PATH its segments are discarded, and what else is wrong is still wrong."""
    octets = bytes.fromhex("0301 00000001 0201 00000002 0401 00000000")
    assert path.decode(octets, without_confederation=True) == (sequence(2),)
    with pytest.raises(ValueError, match="unknown"):
        path.decode(octets + bytes.fromhex("0601 00000001"), without_confederation=True)


def test_a_set_is_one_step() -> None:
    """RFC 4271 9.1.2.2 a."""
    assert path.length((sequence(1, 2, 3), unordered(4, 5), sequence(6))) == 5
    assert path.length(()) == 0


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        # An old speaker prepended itself: its number leads.
        ((sequence(7, 23456, 8),), (sequence(70000, 8),), (sequence(7, 70000, 8),)),
        # Nobody did.
        ((sequence(23456, 8),), (sequence(70000, 8),), (sequence(70000, 8),)),
        # An old speaker aggregated: AS4_PATH is out of date.
        ((unordered(7, 8),), (sequence(70000, 8),), (unordered(7, 8),)),
        # A set leads, and counts one.
        ((unordered(5, 6), sequence(23456, 8)), (sequence(70000, 8),), (unordered(5, 6), sequence(70000, 8))),
        ((sequence(1, 2), unordered(5, 6), sequence(9)), (unordered(70000),), (sequence(1, 2), unordered(5, 6), unordered(70000))),
        # Nothing is left of AS4_PATH.
        ((sequence(7, 23456),), (), (sequence(7, 23456),)),
        ((), (), ()),
        ((), (sequence(70000),), ()),
    ],
)  # fmt: skip
def test_what_an_old_speaker_left_is_put_together(old: Path, new: Path, merged: Path) -> None:
    """RFC 6793 4.2.3."""
    assert path.merge(old, new) == merged


def test_a_sequence_that_is_full_is_not_joined() -> None:
    """One that grew beyond 255 stays two."""
    new = sequence(*range(70000, 70255))
    assert path.merge((sequence(7), sequence(*[23456] * 255)), (new,)) == (sequence(7), new)


@given(PATHS, st.lists(st.integers(1, 65535), max_size=3))
def test_a_path_through_old_speakers_comes_out_whole(found: Path, prepended: list[int]) -> None:
    """They prepend themselves to AS_PATH and pass AS4_PATH on: the length and all numbers come out right."""
    lead = (sequence(*prepended),) if prepended else ()
    merged = path.merge(lead + path.decode(path.encode(found, 2), 2), found)
    assert [asn for segment in merged for asn in segment.asns] == prepended + [
        asn for segment in found for asn in segment.asns
    ]
    assert path.length(merged) == len(prepended) + path.length(found)
