"""Packed prefixes and filters over them: the reference and the C form, and both against `ipaddress`."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.nlri import each, pack, rules_of, unpack
from routing.bgp.values import Family, PrefixRule
from tests.support.hot import PYTHON, C, Form, both_forms, both_widths, hostile, needs_c, outcome, packed, prefixes

FAMILY = {32: Family.IPV4, 128: Family.IPV6}


def nets(*texts: str) -> bytes:
    """Pack what a person writes."""
    return pack(ip_network(text) for text in texts)


# --- normal, count, cut ---


@both_forms
@both_widths
def test_what_has_no_host_bits_stays_the_same_object(form: Form, width: int) -> None:
    """Nearly everything is normal already, and then nothing is copied."""
    nlri = nets("10.0.0.0/8", "0.0.0.0/0", "10.1.2.0/24", "192.0.2.1/32")
    assert form.normal(nlri, width) is nlri


@both_forms
def test_host_bits_are_cleared(form: Form) -> None:
    """RFC 4271 4.3: their value is irrelevant, so two spellings are one prefix."""
    assert form.normal(b"\x09\xff\xff\x00\x18\x0a\x01\xff\x01\xff", 32) == b"\x09\xff\x80\x00\x18\x0a\x01\xff\x01\x80"


@both_forms
@pytest.mark.parametrize("octets", [b"\x21\0\0\0\0\0", b"\x81" + bytes(17), b"\xff" + bytes(40), b"\x18\0\0", b"\x08"])
def test_octets_that_are_no_prefixes_are_an_error(form: Form, octets: bytes) -> None:
    """A length that no address has, or too few octets."""
    with pytest.raises(ValueError, match="NLRI"):
        form.normal(octets, 32)


@both_forms
def test_the_width_is_that_of_an_address(form: Form) -> None:
    """Nothing but IPv4 and IPv6; what is good for the one may be too long for the other."""
    with pytest.raises(ValueError, match="width"):
        form.normal(b"", 64)
    with pytest.raises(ValueError, match="NLRI"):
        form.normal(nets("2001:db8::/48"), 32)
    assert form.count(nets("2001:db8::/48", "::/0")) == 2


@both_forms
@both_widths
@given(data=st.data())
def test_normal_is_what_ipaddress_says(form: Form, width: int, data: st.DataObject) -> None:
    """The same network, whatever the host bits."""
    bits = data.draw(st.integers(0, (1 << width) - 1))
    length = data.draw(st.integers(0, width))
    octets = bytes((length,)) + bits.to_bytes(width // 8, "big")[: (length + 7) // 8]
    host = (bits >> (width - length)) << (width - length)
    network = ip_network((host.to_bytes(width // 8, "big"), length))
    assert form.normal(octets, width) == pack([network])
    assert unpack(form.normal(octets, width), FAMILY[width]) == [network]


@both_forms
@given(nlri=packed(32), room=st.integers(5, 60))
def test_pieces_are_whole_prefixes_and_as_full_as_possible(form: Form, nlri: bytes, room: int) -> None:
    """Put together they are what was cut; the first prefix of each would not have fitted before."""
    pieces = form.cut(nlri, room)
    assert b"".join(pieces) == nlri
    assert all(0 < len(piece) <= room for piece in pieces)
    assert sum(map(form.count, pieces)) == form.count(nlri) == len(each(nlri))
    for before, after in pairwise(pieces):
        assert len(before) + len(each(after)[0]) > room


@both_forms
def test_a_prefix_longer_than_the_room_is_an_error(form: Form) -> None:
    """Also if those before it fit, and also if there is no room at all; nothing fits everywhere."""
    for room in (4, 0, -5):
        with pytest.raises(ValueError, match="room"):
            form.cut(nets("10.0.0.0/8", "10.1.1.1/32"), room)
        assert form.cut(b"", room) == []


# --- PrefixFilter ---


@st.composite
def rule_sets(draw: st.DrawFn, width: int) -> list[tuple[bytes, int, int]]:
    """Make rules, several of one network among them, and such that never match."""
    lengths = st.integers(0, width) | st.sampled_from((-1, 0, width, 300, 1 << 70, -(1 << 70)))
    made = draw(st.lists(st.tuples(prefixes(width), lengths, lengths), max_size=8))
    exact = [(network, network[0], network[0]) for network in draw(st.lists(prefixes(width), max_size=3))]
    return made + exact


@both_forms
@both_widths
@given(data=st.data())
def test_a_filter_covers_what_a_rule_matches(form: Form, width: int, data: st.DataObject) -> None:
    """As `PrefixRule.matches` says, prefix by prefix, and the order stays."""
    rules = data.draw(rule_sets(width))
    nlri = data.draw(packed(width))
    slow = [PrefixRule(unpack(network, FAMILY[width])[0], low, high) for network, low, high in rules]
    verdicts = [
        (prefix, any(rule.matches(network) for rule in slow))
        for prefix, network in zip(each(nlri), unpack(nlri, FAMILY[width]), strict=True)
    ]
    wanted = tuple(b"".join(prefix for prefix, verdict in verdicts if verdict is side) for side in (True, False))
    found = form.PrefixFilter(width, rules)
    assert found.split(nlri) == wanted
    assert (found.covers_all(nlri), found.covers_none(nlri)) == (not wanted[1], not wanted[0])


@both_forms
def test_a_filter_gives_back_the_object_itself_if_all_are_alike(form: Form) -> None:
    """Covered or not: nothing is copied where nothing is parted."""
    nlri = nets("10.1.0.0/16", "10.2.0.0/16")
    covering = form.PrefixFilter(32, [(nets("10.0.0.0/8"), 8, 24)])
    other = form.PrefixFilter(32, iter([(nets("11.0.0.0/8"), 8, 24)]))
    everything = form.PrefixFilter(32, [(nets("0.0.0.0/0"), 0, 32)])
    assert covering.split(nlri)[0] is nlri
    assert other.split(nlri)[1] is nlri
    assert everything.split(nlri)[0] is nlri
    assert form.PrefixFilter(32, []).split(nlri)[1] is nlri
    assert covering.split(nlri + nets("12.0.0.0/8")) == (nlri, nets("12.0.0.0/8"))


@both_forms
def test_thousands_of_rules_are_told_apart(form: Form) -> None:
    """Each network is covered by its own rule only; none of their neighbours is covered."""
    networks = [bytes((24, 10, number >> 8, number & 0xFF)) for number in range(5000)]
    covering = form.PrefixFilter(32, [(network, 24, 24) for network in networks[::2]])
    assert covering.split(b"".join(networks)) == (b"".join(networks[::2]), b"".join(networks[1::2]))


@both_forms
@pytest.mark.parametrize("network", [b"", b"\x08", b"\x08\x0a\x00", b"\x21" + bytes(5)])
def test_a_rule_is_about_one_network(form: Form, network: bytes) -> None:
    """What is no prefix, or more than one, is refused when the filter is made."""
    with pytest.raises(ValueError, match=r"rule|NLRI"):
        form.PrefixFilter(32, [(network, 0, 32)])


def test_rules_become_what_a_filter_takes() -> None:
    """Those of the family only."""
    rules = (PrefixRule(ip_network("10.0.0.0/8"), 8, 24), PrefixRule.exact(ip_network("2001:db8::/32")))
    assert rules_of(rules, Family.IPV4) == [(b"\x08\x0a", 8, 24)]
    assert rules_of(rules, Family.IPV6) == [(b"\x20\x20\x01\x0d\xb8", 32, 32)]


# --- both forms alike ---


@needs_c
@both_widths
@given(nlri=hostile, room=st.integers(-1, 70))
def test_both_forms_do_the_same_with_anything(width: int, nlri: bytes, room: int) -> None:
    """Octets from a neighbour are what the neighbour likes."""
    rules = [(b"\x08\x00", 0, 128), (b"\x05\x18", 5, 9)]
    calls: list[Any] = [
        lambda form: form.normal(nlri, width),
        lambda form: form.count(nlri),
        lambda form: form.cut(nlri, room),
        lambda form: form.PrefixFilter(width, rules).split(nlri),
        lambda form: form.PrefixFilter(width, rules).covers_all(nlri),
        lambda form: form.PrefixFilter(width, rules).covers_none(nlri),
        lambda form: form.PrefixFilter(width, [(nlri, 0, room)]).split(nlri),
    ]
    for call in calls:
        assert outcome(call, C) == outcome(call, PYTHON)
