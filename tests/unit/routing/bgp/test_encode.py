"""UPDATE messages: what is written can be read again, and is packed as full as fits. Both forms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routing.bgp.encode import end_of_rib
from routing.bgp.nlri import each
from tests.support.hot import (
    IPV6,
    PYTHON,
    C,
    Form,
    attribute,
    both_forms,
    hostile,
    message,
    mp_reach,
    needs_c,
    outcome,
    packed,
    path,
    update,
)

IPV4_UNICAST = 1 << 8 | 1
IPV6_UNICAST = 2 << 8 | 1
REST = attribute(0x40, 1, b"\0") + attribute(0x40, 2, path(65001))
CLASSIC = REST + attribute(0x40, 3, b"\xc0\0\2\1")
REDUCED = attribute(0x80, 14, mp_reach(2, IPV6)) + REST


def messages_of(stream: bytes, limit: int) -> list[Any]:
    """Read what was written: nothing may be left, nothing may be wrong."""
    messages, consumed, fault = PYTHON.split(stream, limit)
    assert (consumed, fault) == (len(stream), None)
    return messages


def sizes_of(stream: bytes) -> list[int]:
    """Return the length of each message."""
    sizes = []
    while stream:
        sizes.append(int.from_bytes(stream[16:18], "big"))
        stream = stream[sizes[-1] :]
    return sizes


# --- by hand ---


@both_forms
def test_ipv4_with_an_ipv4_next_hop_is_the_classic_message(form: Form) -> None:
    """Attributes as they are, prefixes at the end; nothing for no prefixes."""
    assert form.announce(CLASSIC, b"\x08\x0a\x00", 4096) == update(b"", CLASSIC, b"\x08\x0a\x00")
    assert form.announce(CLASSIC, b"", 4096) == b""
    assert form.announce(b"", b"\x08\x0a", 4096) == update(b"", b"", b"\x08\x0a")


@both_forms
def test_other_routes_stand_in_the_first_attribute(form: Form) -> None:
    """Put where RFC 7606 5.1 wants it."""
    wanted = attribute(0x80, 14, mp_reach(2, IPV6, b"\x08\x20")) + REST
    assert form.announce(REDUCED, b"\x08\x20", 4096) == update(b"", wanted, b"")


@both_forms
def test_routes_are_withdrawn_as_their_family_is(form: Form) -> None:
    """IPv4 unicast at the beginning of the message, others in MP_UNREACH_NLRI."""
    assert form.withdraw(IPV4_UNICAST, b"\x08\x0a", 4096) == update(b"\x08\x0a", b"", b"")
    assert form.withdraw(IPV6_UNICAST, b"\x08\x20", 4096) == update(b"", attribute(0x80, 15, b"\0\2\1\x08\x20"), b"")
    assert form.withdraw(1 << 8 | 2, b"\x08\x0a", 4096) == update(b"", attribute(0x80, 15, b"\0\1\2\x08\x0a"), b"")
    assert form.withdraw(IPV6_UNICAST, b"", 4096) == b""


@both_forms
@pytest.mark.parametrize("family", [-1, 1 << 24])
def test_a_family_has_three_octets(form: Form, family: int) -> None:
    """AFI and SAFI."""
    with pytest.raises(OverflowError):
        form.withdraw(family, b"\0", 4096)


@both_forms
def test_the_length_of_an_attribute_is_extended_where_it_must_be(form: Form) -> None:
    """At 256 octets and not before."""
    value = mp_reach(2, IPV6)
    for count, flags in ((255 - len(value), 0x80), (256 - len(value), 0x90)):
        nlri = bytes(count)
        assert form.announce(REDUCED, nlri, 4096) == update(b"", attribute(flags, 14, value + nlri) + REST, b"")


@both_forms
def test_attributes_that_leave_no_room_are_an_error(form: Form) -> None:
    """Whoever has them must do something else with the route; a limit that no length can say is one, too."""
    large = CLASSIC + attribute(0xD0, 8, bytes(4000))
    with pytest.raises(ValueError, match="room"):
        form.announce(large, b"\x20\0\0\0\0" * 30, len(large) + 27)
    assert form.announce(large, b"\x20\0\0\0\0" * 30, len(large) + 28) != b""
    with pytest.raises(ValueError, match="room"):
        form.withdraw(IPV6_UNICAST, b"\x08\x20", 30)
    with pytest.raises(ValueError, match="65535"):
        form.announce(CLASSIC, b"\0", 65536)


@both_forms
@pytest.mark.parametrize(
    "octets", [b"\x80\x0e", b"\x90\x0e\0\5" + bytes(5), b"\x80\x0e\4" + bytes(4), b"\x80\x0e\6" + bytes(5)]
)
def test_a_multiprotocol_attribute_must_be_reduced(form: Form, octets: bytes) -> None:
    """Anything else would be written as something that nobody can read."""
    with pytest.raises(ValueError, match="reduced"):
        form.announce(octets, b"\0", 4096)


@both_forms
def test_full_messages_of_the_largest_size(form: Form) -> None:
    """Ten thousand prefixes in as few messages as can be."""
    nlri = b"\x18\x0a\0\0" * 10_000
    assert sizes_of(form.announce(CLASSIC, nlri, 4096))[:-1] == [4096 - (4096 - 23 - len(CLASSIC)) % 4] * 9
    assert len(sizes_of(form.announce(CLASSIC, b"\x18\x0a\0\0" * 40_000, 65535))) == 3
    assert len(sizes_of(form.withdraw(IPV6_UNICAST, b"\x30\x20\x01\x0d\xb8\0\1" * 10_000, 65535))) == 2


def test_the_end_of_a_rib_is_an_update_without_routes() -> None:
    """RFC 4724 2: for IPv4 unicast the empty one, for others one that withdraws nothing."""
    assert end_of_rib(IPV4_UNICAST) == message(2, bytes(4))
    assert end_of_rib(IPV6_UNICAST) == update(b"", attribute(0x80, 15, b"\0\2\1"), b"")


# --- with anything ---


@both_forms
@given(nlri=packed(128, 60), limit=st.integers(90, 600), more=st.integers(0, 300))
def test_what_is_announced_is_read_again(form: Form, nlri: bytes, limit: int, more: int) -> None:
    """All prefixes in their order with their attributes, and none that would have fitted in the message before."""
    assume(limit - more > 90)
    rest = REST + attribute(0xD0, 99, bytes(more))
    octets = attribute(0x80, 14, mp_reach(2, IPV6)) + rest
    made = form.announce(octets, nlri, limit) if limit >= 23 + 44 + 4 + len(rest) else b""
    assume(made or not nlri)
    read = [PYTHON.lift(attributes) for _, _, attributes, _ in messages_of(made, limit)]
    assert b"".join(lifted[2] for lifted in read) == nlri
    assert all(lifted[:2] == (octets, IPV6_UNICAST) for lifted in read)
    for size, lifted, after in zip(sizes_of(made), read, read[1:], strict=False):
        first = len(each(after[2])[0])
        value = 21 + len(lifted[2])
        assert size + first + (value <= 255 < value + first) > limit


@both_forms
@given(nlri=packed(32, 100), limit=st.integers(60, 200))
def test_classic_messages_are_read_again(form: Form, nlri: bytes, limit: int) -> None:
    """Announced or withdrawn, as full as possible."""
    announced = form.announce(CLASSIC, nlri, limit)
    withdrawn = form.withdraw(IPV4_UNICAST, nlri, limit)
    assert b"".join(routes for _, _, _, routes in messages_of(announced, limit)) == nlri
    assert b"".join(routes for _, routes, _, _ in messages_of(withdrawn, limit)) == nlri
    for stream in (announced, withdrawn):
        assert all(size + 5 > limit for size in sizes_of(stream)[:-1])


@needs_c
@given(
    octets=st.sampled_from((CLASSIC, REDUCED, REDUCED + attribute(0xD0, 99, bytes(200)), b"")) | hostile,
    nlri=hostile | packed(128, 60),
    limit=st.integers(0, 700) | st.sampled_from((4096, 65535, 65536)),
    family=st.sampled_from((IPV4_UNICAST, IPV6_UNICAST, 0, 1 << 24, -1)),
)
def test_both_forms_write_the_same(octets: bytes, nlri: bytes, limit: int, family: int) -> None:
    """Octet by octet, and the same errors."""
    assert outcome(C.announce, octets, nlri, limit) == outcome(PYTHON.announce, octets, nlri, limit)
    if limit <= 65535:
        assert outcome(C.withdraw, family, nlri, limit) == outcome(PYTHON.withdraw, family, nlri, limit)
