"""What gobgpd must be, and the difference to what it was."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from appliance.model.errors import InternalError
from routing.bgp.values import (
    Announcement,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    PrefixRule,
    Speaker,
)
from routing.engines.gobgp_config import Changes, changes, compile_speaker

A = Neighbor("a", 65001, ip_address("192.0.2.2"))
B = Neighbor("b", 65000, ip_address("2001:db8::3"))
RANGE = Neighbor("r", 65003, range=ip_network("10.0.0.0/8"))
RS = Speaker(
    "rs", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.1"), (ip_address("192.0.2.1"),), neighbors=(A, B, RANGE)
)
ONE = (PrefixRule.exact(ip_network("198.51.100.0/24")),)


def after(speaker: Speaker, *neighbors: Neighbor) -> Changes:
    """Return the changes from `speaker`, wholly applied, to other neighbours."""
    was = compile_speaker(speaker, {})
    wanted = compile_speaker(replace(speaker, neighbors=neighbors), {})
    return changes(was.digests, [peer.key for peer in was.peers], wanted)


@pytest.mark.parametrize(
    ("mode", "clients"),
    [
        (Mode.TRANSPARENT, ["server", "server", "server"]),
        (Mode.REFLECTOR, ["", "reflector", ""]),
        (Mode.ROUTER, ["", "", ""]),
    ],
)
def test_the_mode_says_whose_client_a_neighbour_is(mode: Mode, clients: list[str]) -> None:
    """Only neighbours of our own AS can be clients of a reflector."""
    config = compile_speaker(replace(RS, mode=mode), {})
    assert [peer.client for peer in config.peers] == clients
    assert [bool(peer.imports and peer.exports) for peer in config.peers] == [mode is Mode.TRANSPARENT] * 3


def test_neighbours_are_named_by_address_and_ranges_by_name() -> None:
    """Gobgpd knows sessions by address only."""
    assert [peer.key for peer in compile_speaker(RS, {}).peers] == ["192.0.2.2", "2001:db8::3", "r"]


def test_nothing_changes_between_equal_speakers() -> None:
    """Digests are those of values, not of objects."""
    assert after(RS, A, replace(B), RANGE) == Changes()


def test_a_neighbour_that_comes_and_one_that_goes() -> None:
    """Its policies come with it."""
    plan = after(RS, A, Neighbor("d", 65004, ip_address("192.0.2.4")), RANGE)
    assert (plan.remove, [peer.key for peer in plan.add]) == (("2001:db8::3",), ["192.0.2.4"])
    assert plan.policies
    assert (plan.reimport, plan.reexport) == ((), ())


@pytest.mark.parametrize(
    "changed",
    [
        {"asn": 65009},
        {"families": (Family.IPV6,)},
        {"hold_time": 30},
        {"passive": True},
        {"restart_time": 0},
        {"local_address": ip_address("192.0.2.1")},
        {"imports": ImportPolicy(max_prefixes=1)},
    ],
)
def test_what_a_session_begins_with_makes_it_anew(changed: dict[str, object]) -> None:
    """And it alone."""
    plan = after(RS, replace(A, **changed), B, RANGE)  # type: ignore[arg-type] # fields of a neighbour
    assert (plan.remove, [peer.key for peer in plan.add]) == (("192.0.2.2",), ["192.0.2.2"])


@pytest.mark.parametrize("mode", list(Mode))
def test_a_policy_changes_without_the_session(mode: Mode) -> None:
    """Only the routes of that neighbour, in that direction, are looked at again."""
    speaker = replace(RS, mode=mode)
    plan = after(speaker, replace(A, imports=ImportPolicy(accept=ONE)), B, replace(RANGE, exports=ExportPolicy(ONE)))
    assert plan == Changes(policies=True, reimport=("192.0.2.2",), reexport=("r",))


def test_next_hop_self_sends_again() -> None:
    """It is a part of what is sent."""
    sending = replace(B, exports=ExportPolicy(ONE))
    router = replace(RS, mode=Mode.ROUTER, neighbors=(A, sending, RANGE))
    plan = after(router, A, replace(sending, next_hop_self=True), RANGE)
    assert plan.reexport == ("2001:db8::3",)


def test_what_has_no_digest_is_made_anew_and_what_is_not_ours_goes() -> None:
    """The daemon died while it changed them."""
    config = compile_speaker(RS, {})
    known = {key: value for key, value in config.digests.items() if "r" not in key.split() and key != "policies"}
    plan = changes(known, ["192.0.2.2", "2001:db8::3", "r", "192.0.2.77"], config)
    assert plan.remove == ("192.0.2.77", "r")
    assert [peer.key for peer in plan.add] == ["r"]
    assert plan.policies


def test_a_transparent_speaker_cannot_announce() -> None:
    """Gobgpd's own routes reach no route-server client."""
    with pytest.raises(InternalError, match="cannot announce"):
        compile_speaker(replace(RS, announcements=(Announcement(ip_network("10.0.0.0/8")),)), {})


@pytest.mark.parametrize("neighbor", [replace(A, range=ip_network("10.0.0.0/8")), replace(A, address=None)])
def test_a_neighbour_has_an_address_or_a_range(neighbor: Neighbor) -> None:
    """Never both, never none."""
    with pytest.raises(InternalError, match="either an address or a range"):
        compile_speaker(replace(RS, neighbors=(neighbor,)), {})


def test_two_neighbours_with_one_address_are_refused() -> None:
    """The second would silently replace the first."""
    with pytest.raises(InternalError, match="one address"):
        compile_speaker(replace(RS, neighbors=(A, replace(A, name="again"))), {})


def test_a_limit_changes_the_session_only_when_its_bulwark_does() -> None:
    """Gobgpd ends sessions far above the limit; the limit itself is kept by policy."""
    limited = [replace(A, imports=ImportPolicy(accept=ONE, max_prefixes=limit)) for limit in (100, 999, 1000)]
    bulwarks = [compile_speaker(replace(RS, neighbors=(neighbor,)), {}).peers[0].bulwark for neighbor in limited]
    assert bulwarks == [10_000, 10_000, 100_000]
    assert after(replace(RS, neighbors=(limited[0],)), limited[1]) == Changes()


def test_what_is_above_a_limit_changes_the_import_of_that_neighbour() -> None:
    """Its routes are judged again and nobody else's."""
    was = compile_speaker(RS, {})
    wanted = compile_speaker(RS, {ip_address("10.0.0.1"): frozenset({ip_network("198.51.100.0/24")})})
    assert changes(was.digests, [peer.key for peer in was.peers], wanted) == Changes(policies=True, reimport=("r",))


def test_policies_that_take_back_are_of_the_same_speaker() -> None:
    """Only the policies differ, and only for a moment."""
    config = compile_speaker(RS, {})
    taking = config.taking_back(["r"])
    assert [policy.name for policy in taking.policies] == [policy.name for policy in config.policies]
    different = [a.name for a, b in zip(taking.policies, config.policies, strict=True) if a != b]
    assert different == ["export r"]
    assert replace(taking, policies=config.policies) == config
