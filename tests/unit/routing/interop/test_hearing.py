from __future__ import annotations

from ipaddress import ip_network

import pytest

from routing.bgp.attributes import Code
from routing.bgp.encode import end_of_rib
from routing.bgp.values import Family
from routing.interop.hearing import Hearing, Unreadable, key
from routing.interop.octets import Update
from routing.interop.world import P6, Member, P, Q
from tests.unit.routing.interop.test_octets import ME, ME6, said


def hearing(*updates: tuple[Update, Member]) -> Hearing:
    """Hear UPDATEs."""
    made = Hearing()
    for update, me in updates:
        made.update(*said(update.octets(me)))
    return made


def test_what_is_announced_and_not_withdrawn_is_there() -> None:
    """With its attributes as octets."""
    found = hearing((Update((P, Q)), ME), (Update(withdrawn=(P,)), ME))
    assert set(found.routes) == {key(Q)}
    assert found.routes[key(Q)][Code.NEXT_HOP].value == ME.address.packed
    assert found.ever == {key(P), key(Q)}


def test_ipv6_is_heard_with_its_next_hop() -> None:
    """And withdrawn by MP_UNREACH_NLRI."""
    found = hearing((Update((P6,), family=Family.IPV6), ME6))
    assert found.routes[key(P6)][Code.MP_REACH_NLRI].value == bytes.fromhex("00020110") + ME6.address.packed + b"\0"
    found.update(*said(Update(withdrawn=(P6,), family=Family.IPV6).octets(ME6)))
    assert not found.routes


def test_ipv4_in_the_fields_of_rfc_4760_is_the_same() -> None:
    """With an IPv4 next hop it means nothing else."""
    found = Hearing()
    found.update(b"", bytes.fromhex("40010100" + "400200" + "800e0d00010104c000020c00180a0100"), b"")
    assert found.routes[key(P)][Code.NEXT_HOP].value == ME.address.packed


@pytest.mark.parametrize("family", Family)
def test_the_end_of_rib_is_heard(family: Family) -> None:
    """Of each family."""
    found = Hearing()
    found.update(*said(end_of_rib(family.value[0] << 8 | family.value[1])))
    assert found.ends_of_rib == {family}


def test_repetitions_are_counted() -> None:
    """Whoever must not hear a thing twice."""
    found = hearing((Update((P,)), ME), (Update((P,)), ME))
    assert found.announced[key(P)] == 2
    found.forget()
    assert (found.routes, found.ever, found.announced) == ({}, set(), {})


@pytest.mark.parametrize(
    "parts",
    [
        (b"", b"\x40\x01\x05\0", b""),
        (b"", bytes.fromhex("4001010040010100"), b""),
        (b"\x21\0\0\0\0\0", b"", b""),
        (b"", bytes.fromhex("800f0400190041"), b""),
        (b"", bytes.fromhex("800e050002011000"), b""),
    ],
    ids=["cut off", "twice", "33 bits", "another family", "no next hop"],
)
def test_what_is_no_bgp_is_not_heard(parts: tuple[bytes, bytes, bytes]) -> None:
    """It is the device's fault."""
    with pytest.raises(Unreadable):
        Hearing().update(*parts)


def test_host_bits_are_not_looked_at() -> None:
    """RFC 4271 4.3."""
    found = Hearing()
    found.update(b"", bytes.fromhex("40010100"), bytes.fromhex("140a010f"))
    assert set(found.routes) == {key(ip_network("10.1.0.0/20"))}
