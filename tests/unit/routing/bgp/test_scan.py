"""Messages out of a stream, and ordinary attributes without decoding them: both forms."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routing.bgp.nlri import pack, unpack
from routing.bgp.scan import MARKER
from routing.bgp.values import Family
from tests.support.hot import (
    IPV6,
    LINK_LOCAL,
    PYTHON,
    C,
    Form,
    attribute,
    attribute_sets,
    both_forms,
    hostile,
    message,
    mp_reach,
    needs_c,
    outcome,
    path,
    update,
)

KEEPALIVE = message(4, b"")
ORIGIN = attribute(0x40, 1, b"\0")
AS_PATH = attribute(0x40, 2, path(65001, 4200000000))
NEXT_HOP = attribute(0x40, 3, b"\xc0\0\2\1")
PLAIN = ORIGIN + AS_PATH + NEXT_HOP
MED = attribute(0x80, 4, b"\0\0\0\1")
ONE6 = b"\x20\x20\x01\x0d\xb8"


def large(number: int) -> bytes:
    """Make large communities, no two alike, that differ in octets at both ends."""
    return b"".join(bytes((n % 8,)) + bytes(10) + bytes((n // 8,)) for n in range(number))


# --- split ---


@both_forms
def test_whole_messages_are_taken_and_the_rest_waits(form: Form) -> None:
    """An UPDATE in its parts, the others as they are; a half message is no fault."""
    stream = update(b"\x08\x0a", PLAIN, b"\x08\x0b") + KEEPALIVE + message(5, b"\0\1\0\1")
    wanted = [(2, b"\x08\x0a", PLAIN, b"\x08\x0b"), (4, b""), (5, b"\0\1\0\1")]
    assert form.split(stream, 4096) == (wanted, len(stream), None)
    for more in (1, 18, 19, 30):
        assert form.split(stream + update(b"", PLAIN, b"\x08\x0c")[:more], 4096) == (wanted, len(stream), None)
    assert form.split(b"", 4096) == ([], 0, None)


@both_forms
@pytest.mark.parametrize("body", [b"\0\1\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\0\2\0\0\0", b"\0\1\0\0\1"])
def test_an_update_whose_lengths_disagree_is_left_whole(form: Form, body: bytes) -> None:
    """RFC 7606 3 b: that is an error of the UPDATE, which someone else words."""
    assert form.split(message(2, body), 4096)[0] == [(2, body)]


@both_forms
@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (bytes(16) + b"\0\x13\x04", (1, b"")),
        (MARKER[:-1] + b"\xfe\0\x13\x04", (1, b"")),
        (MARKER + b"\0\x12\x04", (2, b"\0\x12")),
        (MARKER + b"\x10\x01\x02", (2, b"\x10\x01")),
        (MARKER + b"\0\x1c\x01", (2, b"\0\x1c")),
        (MARKER + b"\0\x16\x02", (2, b"\0\x16")),
        (MARKER + b"\0\x14\x03", (2, b"\0\x14")),
        (MARKER + b"\0\x14\x04", (2, b"\0\x14")),
        (MARKER + b"\0\x13\x00", (3, b"\0")),
        (MARKER + b"\0\x13\x06", (3, b"\6")),
    ],
)
def test_a_bad_header_is_a_fault_after_the_messages_before_it(
    form: Form, header: bytes, fault: tuple[int, bytes]
) -> None:
    """RFC 4271 6.1 says which subcode and data; it is seen before the message is complete."""
    assert form.split(KEEPALIVE + header, 4096) == ([(4, b"")], 19, fault)
    assert form.split(KEEPALIVE + header[:-1], 4096) == ([(4, b"")], 19, None)


@both_forms
def test_extended_messages_are_longer_but_never_an_open(form: Form) -> None:
    """RFC 8654 4: OPEN and KEEPALIVE stay within 4096 octets."""
    long = update(b"", b"", bytes(10_000))
    assert form.split(long, 65535) == ([(2, b"", b"", bytes(10_000))], len(long), None)
    assert form.split(long, 4096)[2] == (2, struct.pack(">H", len(long)))
    assert form.split(message(1, bytes(4077)), 65535)[0] == [(1, bytes(4077))]
    assert form.split(message(1, bytes(4078)), 65535)[2] == (2, b"\x10\x01")
    assert form.split(message(3, bytes(9000)), 65535)[0] == [(3, bytes(9000))]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Make messages and break one octet of them, or the end."""
    body = st.binary(max_size=30)
    kinds = st.one_of(
        st.builds(update, body, body, body),
        st.builds(message, st.integers(0, 6), body),
        st.just(KEEPALIVE),
    )
    stream = bytearray(b"".join(draw(st.lists(kinds, max_size=5))))
    if stream and draw(st.booleans()):
        stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    return bytes(stream[: draw(st.integers(0, len(stream)))] if draw(st.booleans()) else stream)


@needs_c
@given(stream=streams() | hostile, limit=st.sampled_from((4096, 65535, 40, 0, -1)))
def test_both_forms_split_anything_alike(stream: bytes, limit: int) -> None:
    """Whatever arrives, in whatever pieces."""
    assert C.split(stream, limit) == PYTHON.split(stream, limit)


# --- lift ---


@both_forms
@pytest.mark.parametrize("flags", [0x80, 0x90])
def test_what_is_reachable_is_parted_from_its_next_hop(form: Form, flags: int) -> None:
    """The reduced attribute comes first whatever it came as; NEXT_HOP is ignored beside it (RFC 4760 3)."""
    came = ORIGIN + attribute(flags, 14, mp_reach(2, IPV6 + LINK_LOCAL, ONE6)) + AS_PATH + NEXT_HOP + MED
    octets = attribute(0x80, 14, mp_reach(2, IPV6)) + ORIGIN + AS_PATH + MED
    assert form.lift(came) == (octets, 2 << 8 | 1, ONE6, 0, b"")
    assert form.scan(octets, False) == ((65001, 4200000000), IPV6)


@both_forms
def test_what_is_not_reachable_any_more_is_no_attribute(form: Form) -> None:
    """Alone, as the end of a RIB, and beside what is reachable."""
    gone = attribute(0x80, 15, b"\0\2\1" + ONE6)
    assert form.lift(gone) == (b"", 0, b"", 2 << 8 | 1, ONE6)
    assert form.lift(attribute(0x90, 15, b"\0\2\1")) == (b"", 0, b"", 2 << 8 | 1, b"")
    assert form.lift(PLAIN + gone) == (PLAIN, 0, b"", 2 << 8 | 1, ONE6)
    reach = attribute(0x80, 14, mp_reach(1, IPV6, b"\0"))
    assert form.lift(gone + reach) == (attribute(0x80, 14, mp_reach(1, IPV6)), 1 << 8 | 1, b"\0", 2 << 8 | 1, ONE6)
    assert form.lift(PLAIN) == (PLAIN, 0, b"", 0, b"")


@both_forms
def test_ipv4_with_an_ipv4_next_hop_is_as_if_it_had_come_the_classic_way(form: Form) -> None:
    """So that clients get it who know nothing of RFC 4760."""
    came = ORIGIN + attribute(0x80, 14, mp_reach(1, b"\xc0\0\2\1", b"\x08\x0a")) + AS_PATH
    assert form.lift(came) == (NEXT_HOP + ORIGIN + AS_PATH, 1 << 8 | 1, b"\x08\x0a", 0, b"")


@both_forms
@pytest.mark.parametrize(
    "attributes",
    [
        attribute(0x80, 14, mp_reach(2, IPV6)) * 2,
        attribute(0x80, 15, b"\0\2\1") * 2,
        ORIGIN + ORIGIN + attribute(0x80, 15, b"\0\2\1"),
        attribute(0xC0, 14, mp_reach(2, IPV6)),
        attribute(0x40, 15, b"\0\2\1"),
        attribute(0x80, 14, mp_reach(2, b"\xc0\0\2\1")),
        attribute(0x80, 14, mp_reach(2, IPV6 + b"\0")),
        attribute(0x80, 14, mp_reach(1, bytes(12))),
        attribute(0x80, 14, mp_reach(2, IPV6)[:-1]),
        attribute(0x80, 14, b"\0\2\1"),
        attribute(0x80, 14, b""),
        attribute(0x80, 15, b"\0\2"),
        attribute(0x80, 15, b"\0\2\1") + b"\x40",
        attribute(0x80, 15, b"\0\2\1") + b"\x40\x01\x02\0",
        attribute(0x80, 15, b"\0\2\1") + b"\x50\x01\x00",
    ],
)
def test_what_is_out_of_the_ordinary_is_not_lifted(form: Form, attributes: bytes) -> None:
    """Someone else says what is wrong with it."""
    assert form.lift(attributes) is None


@both_forms
@given(value=hostile)
def test_any_octets_may_stand_where_prefixes_should(form: Form, value: bytes) -> None:
    """They are given back as they are: `normal` judges them."""
    came = attribute(0x90, 14, mp_reach(2, IPV6, value)) + attribute(0x90, 15, b"\0\2\1" + value)
    assert form.lift(came) == (attribute(0x80, 14, mp_reach(2, IPV6)), 513, value, 513, value)


# --- scan ---


@both_forms
def test_an_ordinary_set_gives_path_and_next_hop(form: Form) -> None:
    """With everything that is allowed in it, in any order, with extended lengths and partial bits."""
    assert form.scan(PLAIN, False) == ((65001, 4200000000), b"\xc0\0\2\1")
    rest = (
        attribute(0x40, 6, b""),
        attribute(0xE0, 7, b"\0\0\0\1\xc0\0\2\1"),
        attribute(0xF0, 8, b"\0\1\0\2" * 100),
        attribute(0xC0, 16, bytes(8)),
        attribute(0xF0, 32, large(64)),
        MED,
    )
    several = attribute(0x50, 2, path(1, 2) + path(*range(3, 258)))
    assert form.scan(b"".join(rest) + NEXT_HOP + several + ORIGIN, False) == (tuple(range(1, 258)), b"\xc0\0\2\1")
    assert form.scan(ORIGIN + attribute(0x40, 2, b"") + NEXT_HOP, internal=False) == ((), b"\xc0\0\2\1")


@both_forms
@pytest.mark.parametrize(
    "extra", [attribute(0x40, 5, bytes(4)), attribute(0x80, 9, bytes(4)), attribute(0x80, 10, bytes(8))]
)
def test_what_belongs_inside_an_as_is_ordinary_only_there(form: Form, extra: bytes) -> None:
    """RFC 7606 7.5, 7.9, 7.10: from outside it is dropped, which is not ordinary."""
    assert form.scan(PLAIN + extra, True) == ((65001, 4200000000), b"\xc0\0\2\1")
    assert form.scan(PLAIN + extra, internal=True) is not None
    assert form.scan(PLAIN + extra, False) is None


@both_forms
@pytest.mark.parametrize(
    "octets",
    [
        b"",
        ORIGIN + AS_PATH,
        ORIGIN + NEXT_HOP,
        AS_PATH + NEXT_HOP,
        PLAIN + MED + MED,
        PLAIN + attribute(0xC0, 99, b""),
        PLAIN + attribute(0x80, 14, mp_reach(2, IPV6)),
        attribute(0x80, 14, mp_reach(2, IPV6)) + PLAIN,
        ORIGIN + attribute(0x80, 14, mp_reach(2, IPV6)) + AS_PATH,
        attribute(0x80, 14, mp_reach(2, IPV6 + IPV6)) + ORIGIN + AS_PATH,
        attribute(0x80, 14, mp_reach(2, IPV6, b"\0")) + ORIGIN + AS_PATH,
        attribute(0x90, 14, mp_reach(2, IPV6)) + ORIGIN + AS_PATH,
        attribute(0x80, 14, mp_reach(2, IPV6)[:-1] + b"\1") + ORIGIN + AS_PATH,
        attribute(0x80, 15, b"\0\2\1") + PLAIN,
        attribute(0x40, 1, b"\3") + AS_PATH + NEXT_HOP,
        attribute(0x40, 1, b"") + AS_PATH + NEXT_HOP,
        attribute(0xC0, 1, b"\0") + AS_PATH + NEXT_HOP,
        attribute(0x60, 1, b"\0") + AS_PATH + NEXT_HOP,
        attribute(0x41, 1, b"\0") + AS_PATH + NEXT_HOP,
        ORIGIN + attribute(0x40, 2, path(1, kind=1)) + NEXT_HOP,
        ORIGIN + attribute(0x40, 2, path(1, kind=3)) + NEXT_HOP,
        ORIGIN + attribute(0x40, 2, path(1) + path()) + NEXT_HOP,
        ORIGIN + attribute(0x40, 2, path(1)[:-1]) + NEXT_HOP,
        ORIGIN + attribute(0x40, 2, path(1) + b"\2") + NEXT_HOP,
        ORIGIN + attribute(0xC0, 2, path(1)) + NEXT_HOP,
        ORIGIN + AS_PATH + attribute(0x40, 3, bytes(16)),
        PLAIN + attribute(0x80, 4, bytes(3)),
        PLAIN + attribute(0xC0, 4, bytes(4)),
        PLAIN + attribute(0x40, 6, b"\0"),
        PLAIN + attribute(0xC0, 7, bytes(6)),
        PLAIN + attribute(0xC0, 7, bytes(8)),
        PLAIN + attribute(0xC0, 8, b""),
        PLAIN + attribute(0xC0, 8, bytes(6)),
        PLAIN + attribute(0xC0, 16, bytes(4)),
        PLAIN + attribute(0xC0, 32, bytes(8)),
        PLAIN + attribute(0xC0, 32, bytes(24)),
        PLAIN + attribute(0xD0, 32, large(9) + large(64)[12:24]),
        PLAIN + attribute(0xD0, 32, large(65)),
        PLAIN + b"\x80",
        PLAIN + b"\x80\x04\x04\0\0\0",
        PLAIN + b"\x90\x04\x00",
    ],
)
def test_what_is_out_of_the_ordinary_is_declined(form: Form, octets: bytes) -> None:
    """Missing, twice, unknown, of wrong flags or length, or cut off; with something redundant, or too much to tell."""
    assert form.scan(octets, False) is None


@needs_c
@given(octets=attribute_sets() | hostile, internal=st.booleans())
@example(octets=b"\xc0\xff\0", internal=False)
def test_both_forms_read_any_attributes_alike(octets: bytes, internal: bool) -> None:
    """Whatever a neighbour sends, and whatever becomes of it when it is lifted."""
    assert outcome(C.scan, octets, internal) == outcome(PYTHON.scan, octets, internal)
    lifted = PYTHON.lift(octets)
    assert C.lift(octets) == lifted
    if lifted is not None:
        assert C.scan(lifted[0], internal) == PYTHON.scan(lifted[0], internal)


@given(octets=attribute_sets())
def test_lifting_twice_changes_nothing_more(octets: bytes) -> None:
    """What is left has no prefixes: `octets` stand for themselves."""
    lifted = PYTHON.lift(octets)
    if lifted is not None:
        again = PYTHON.lift(lifted[0])
        assert again is not None
        assert again[0] == lifted[0]
        assert unpack(again[2], Family.IPV6) == [] == unpack(pack([]), Family.IPV4)
