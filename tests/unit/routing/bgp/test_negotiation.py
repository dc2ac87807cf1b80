from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from routing.bgp.capabilities import Role
from routing.bgp.messages import Notify, Open, Restart, decode_open, encode_open
from routing.bgp.negotiation import agree, offer, ours_is_kept
from routing.bgp.values import Family, Mode, Neighbor, Speaker

LOCAL = IPv4Address("192.0.2.254")
SPEAKER = Speaker("s", Mode.TRANSPARENT, 65000, LOCAL, (LOCAL,))
NEIGHBOR = Neighbor("n", 65001, IPv4Address("192.0.2.1"), families=tuple(Family))
OURS = offer(NEIGHBOR, SPEAKER)
THEIRS = replace(OURS, asn=65001, router_id=IPv4Address("10.0.0.1"))
MINIMAL = Open(65001, 180, IPv4Address("10.0.0.1"))


def test_we_offer_what_is_configured() -> None:
    """Every family, with forwarding preserved and the N bit; of enhanced refresh nothing."""
    both = ((Family.IPV4, True), (Family.IPV6, True))
    restart = Restart(120, restarting=False, notification=True, families=both)
    assert (
        Open(
            asn=65000,
            hold_time=90,
            router_id=LOCAL,
            families=frozenset(Family),
            four_octet=True,
            refresh=True,
            extended_message=True,
            restart=restart,
        )
        == OURS
    )
    again = offer(NEIGHBOR, SPEAKER, restarting=True)
    assert again.restart == replace(restart, restarting=True)
    assert decode_open(encode_open(OURS)[19:]) == OURS


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"restart_time": 0}, {"restart": None}),
        ({"hold_time": 9}, {"hold_time": 9}),
        ({"client": True}, {"roles": frozenset({Role.ROUTE_SERVER})}),
        ({"extended_next_hop": True}, {"extended_next_hop": True}),
        (
            {"families": (Family.IPV6,), "extended_next_hop": True, "restart_time": 0},
            {"families": frozenset({Family.IPV6}), "extended_next_hop": False, "restart": None},
        ),
    ],
)
def test_what_is_not_configured_is_not_offered(more: dict[str, Any], said: dict[str, Any]) -> None:
    """Graceful restart needs a time, an extended next hop a prefix of IPv4."""
    assert offer(replace(NEIGHBOR, **more), SPEAKER) == replace(OURS, **said)


def test_a_restart_time_fits_into_its_bits() -> None:
    """Twelve of them."""
    restart = offer(replace(NEIGHBOR, restart_time=10000), SPEAKER).restart
    assert restart is not None
    assert restart.time == 4095


def test_both_alike_agree_on_everything() -> None:
    """What both offer holds."""
    agreement = agree(OURS, THEIRS, 65001, LOCAL)
    assert agreement.established.families == agreement.established.kept == frozenset(Family)
    assert agreement.established.preserved == frozenset(Family)
    assert (agreement.established.router_id, agreement.established.local_address) == (THEIRS.router_id, LOCAL)
    assert (agreement.established.restart_time, agreement.established.extended_next_hop) == (120, False)
    assert (agreement.format.families, agreement.format.limit) == (frozenset(Family), 65535)
    assert (agreement.hold_time, agreement.refresh, agreement.notification, agreement.restarting) == (
        90,
        True,
        True,
        False,
    )
    assert not agreement.format.internal


def test_a_neighbour_that_offers_nothing_gets_a_classic_session() -> None:
    """IPv4, two-octet AS numbers, 4096 octets, no restart."""
    agreement = agree(OURS, MINIMAL, 65001, LOCAL)
    assert agreement.format.families == frozenset({Family.IPV4}) == agreement.established.families
    assert (agreement.format.four_octet, agreement.format.limit) == (False, 4096)
    assert agreement.established.restart_time is None
    assert not agreement.established.kept
    assert not agreement.established.preserved
    assert not (agreement.refresh)
    assert not (agreement.notification)
    assert not agreement.restarting


def test_restart_is_agreed_on_only_if_both_offer_it() -> None:
    """Without ours, theirs means nothing but that forwarding was preserved."""
    ours = offer(replace(NEIGHBOR, restart_time=0), SPEAKER)
    theirs = replace(
        THEIRS,
        restart=Restart(7, restarting=True, notification=True, families=((Family.IPV4, False), (Family.IPV6, True))),
    )
    alone = agree(ours, theirs, 65001, LOCAL)
    assert (alone.established.restart_time, alone.established.kept) == (None, frozenset())
    assert alone.established.preserved == frozenset({Family.IPV6})
    assert not alone.notification
    assert not alone.restarting
    both = agree(OURS, theirs, 65001, LOCAL)
    assert (both.established.restart_time, both.established.kept) == (7, frozenset(Family))
    assert both.notification
    assert both.restarting


def test_an_extended_next_hop_needs_both() -> None:
    """Of one alone it is not agreed on."""
    ours = replace(OURS, extended_next_hop=True)
    assert not agree(ours, THEIRS, 65001, LOCAL).format.extended_next_hop
    both = agree(ours, replace(THEIRS, extended_next_hop=True), 65001, LOCAL)
    assert both.format.extended_next_hop
    assert both.established.extended_next_hop


@pytest.mark.parametrize(("ours", "theirs", "agreed"), [(90, 30, 30), (30, 90, 30), (90, 0, 0), (0, 90, 0), (90, 3, 3)])
def test_the_lower_hold_time_holds(ours: int, theirs: int, agreed: int) -> None:
    """Zero is the lowest."""
    assert agree(replace(OURS, hold_time=ours), replace(THEIRS, hold_time=theirs), 65001, LOCAL).hold_time == agreed


@pytest.mark.parametrize(
    ("more", "subcode", "data"),
    [
        ({"asn": 65002}, 2, b""),
        ({"asn": 0}, 2, b""),
        ({"hold_time": 2}, 6, b""),
        ({"families": frozenset()}, 7, bytes.fromhex("0104000100010104 00020001")),
    ],
)
def test_an_open_that_does_not_do_is_refused(more: dict[str, Any], subcode: int, data: bytes) -> None:
    """With the subcode of RFC 4271 6.2 or 5492 5, and in the latter case the capabilities that are missing."""
    with pytest.raises(Notify) as refused:
        agree(OURS, replace(THEIRS, **more), 65001, LOCAL)
    assert refused.value == Notify(2, subcode, data)


def test_a_client_is_a_client_or_knows_no_roles() -> None:
    """RFC 9234 4.2; we without a role do not care what others think that they are."""
    server = offer(replace(NEIGHBOR, client=True), SPEAKER)
    for roles in (frozenset[int](), frozenset({Role.CLIENT})):
        assert agree(server, replace(THEIRS, roles=roles), 65001, LOCAL).asn == 65001
    for wrong in ({Role.CUSTOMER}, {Role.CLIENT, Role.PEER}, {77}):
        with pytest.raises(Notify, match="Role Mismatch: it is") as refused:
            agree(server, replace(THEIRS, roles=frozenset(wrong)), 65001, LOCAL)
        assert refused.value == Notify(2, 11)
        assert agree(OURS, replace(THEIRS, roles=frozenset(wrong)), 65001, LOCAL).asn == 65001


def test_only_an_internal_neighbour_must_have_another_identifier() -> None:
    """RFC 6286: identifiers are unique within an AS."""
    theirs = replace(THEIRS, router_id=OURS.router_id)
    assert agree(OURS, theirs, 65001, LOCAL).established.router_id == OURS.router_id
    with pytest.raises(Notify) as refused:
        agree(OURS, replace(theirs, asn=65000), 65000, LOCAL)
    assert (refused.value.code, refused.value.subcode) == (2, 3)
    assert agree(OURS, replace(THEIRS, asn=65000), 65000, IPv6Address("2001:db8::1")).format.internal


def test_both_ends_keep_the_same_connection() -> None:
    """The higher identifier's; if they are equal, that of the higher AS."""
    for theirs in (THEIRS, replace(THEIRS, router_id=IPv4Address("223.0.0.1")), replace(THEIRS, router_id=LOCAL)):
        here = ours_is_kept(OURS, agree(OURS, theirs, 65001, LOCAL))
        there = ours_is_kept(theirs, agree(theirs, OURS, 65000, LOCAL))
        assert here is not there
    assert ours_is_kept(OURS, agree(OURS, THEIRS, 65001, LOCAL))
