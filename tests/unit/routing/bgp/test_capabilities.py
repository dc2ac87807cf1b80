from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from exabgp.bgp.message import Open as ExaOpen

from routing.bgp.capabilities import Open, Restart, Role, apply, encode, split
from routing.bgp.messages import HEADER, Notify, encode_open
from routing.bgp.values import Family

PLAIN = Open(65001, 90, IPv4Address("10.0.0.1"))
FULL = Open(
    asn=4200000001,
    hold_time=90,
    router_id=IPv4Address("10.0.0.1"),
    families=frozenset(Family),
    four_octet=True,
    refresh=True,
    enhanced_refresh=True,
    extended_message=True,
    extended_next_hop=True,
    restart=Restart(120, restarting=True, notification=True, families=((Family.IPV4, True), (Family.IPV6, False))),
    roles=frozenset({Role.ROUTE_SERVER}),
)
OCTETS = bytes.fromhex(
    "010400010001 010400020001 0200 0506000100010002 0600 090101 400ac07800010180 00020100 4104fa56ea01 4600"
)


def test_capabilities_are_written_as_their_rfcs_have_them() -> None:
    """Code, length, value; one multiprotocol capability for each family."""
    assert encode(FULL) == OCTETS
    assert encode(replace(PLAIN, families=frozenset())) == b""


def test_capabilities_are_read_as_they_were_written() -> None:
    """And what each says is found in the OPEN."""
    said = replace(PLAIN, families=frozenset())
    for code, value in split(OCTETS):
        said = apply(said, code, value)
    assert said == FULL


def test_another_implementation_reads_what_we_offer() -> None:
    """ExaBGP is the witness, of all but the role."""
    read = ExaOpen.unpack_message(encode_open(FULL)[HEADER:])
    assert str(read) == (
        "OPEN version=4 asn=23456 hold_time=90 router_id=10.0.0.1 capabilities=["
        "Multiprotocol(ipv4 unicast,ipv6 unicast), Route Refresh, NextHop(ipv4 unicast ipv6), Extended Message(65535), "
        "Unknown 9, "
        "Graceful Restart Flags 0xc Time 120 ipv4/unicast=0x80 ipv6/unicast=0x0, ASN4(4200000001), "
        "Enhanced Route Refresh]"
    )


@pytest.mark.parametrize("code", [0, 3, 7, 8, 9, 69, 73, 128, 131, 255])
def test_what_we_do_not_know_says_nothing(code: int) -> None:
    """RFC 5492 3: "MUST ignore it"."""
    assert apply(PLAIN, code, b"\1\2\3") == PLAIN


def test_families_of_others_say_nothing() -> None:
    """Multicast, labelled, VPN: not ours, wherever they are named."""
    assert apply(PLAIN, 1, b"\0\1\0\x80") == PLAIN
    assert apply(PLAIN, 5, b"\0\1\0\4\0\2") == PLAIN
    assert apply(PLAIN, 64, b"\0\x5a\0\1\x80\x80").restart == Restart(90)


def test_the_next_hop_may_be_one_pair_of_several() -> None:
    """RFC 8950 4: a list."""
    assert apply(PLAIN, 5, bytes.fromhex("000100040002 000100010002")).extended_next_hop


def test_all_roles_that_somebody_claims_are_known() -> None:
    """RFC 9234 4.2: two that differ are a mismatch, so none may be forgotten."""
    said = apply(apply(apply(PLAIN, 9, b"\2"), 9, b"\2"), 9, b"\7")
    assert said.roles == {Role.CLIENT, 7}


def test_of_a_capability_that_is_there_twice_the_last_holds() -> None:
    """RFC 5492 4 leaves it open, RFC 4724 3 wants the last; families add up."""
    said = apply(apply(PLAIN, 64, b"\x80\x0a"), 64, b"\x00\x14")
    assert said.restart == Restart(20)
    assert apply(apply(PLAIN, 1, b"\0\2\0\1"), 1, b"\0\1\0\1").families == frozenset(Family)


@pytest.mark.parametrize("code", [2, 6, 70])
def test_a_value_where_none_belongs_does_not_matter(code: int) -> None:
    """That the capability is there is all it says."""
    assert apply(PLAIN, code, b"\1") == apply(PLAIN, code, b"") != PLAIN


@pytest.mark.parametrize(
    ("code", "value"), [(1, b"\0\1\0"), (5, b"\0\1\0\1"), (64, b"\1"), (64, b"\0\x78\0\1"), (65, b"\0\0\1"), (65, b"")]
)
def test_a_malformed_capability_is_a_malformed_open(code: int, value: bytes) -> None:
    """Unspecific OPEN Message Error, and the log says which."""
    with pytest.raises(Notify, match=f"capability {code} is malformed") as caught:
        apply(PLAIN, code, value)
    assert caught.value == Notify(2, 0)


@pytest.mark.parametrize("octets", [b"\x01", b"\x01\x04\0\1\0", b"\x02\0\x41\x05\0\0\0\1"])
def test_a_capability_that_is_cut_off_is_a_malformed_open(octets: bytes) -> None:
    """The lengths must come out even."""
    with pytest.raises(Notify, match="cut off"):
        list(split(octets))
