"""FIB sync: what is told step by step gives what would be worked out from the end alone."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.composed import Composed, Kind
from appliance.model.facts import HOST, Hop, Namespace, Network, Route
from appliance.model.marks import PROTO_BGP
from appliance.state.diff import Change
from routing.bgp.values import Attributes
from routing.engines.engine import Best
from routing.fib import Fib, Overlay, Surroundings, explain, routes_of

COMPOSED = IPv6Network("fd00:ed9e::/48")
RED, BLUE = Namespace("vpc-red"), Namespace("vpc-blue")
H2, H3, FAR = ip_address("fd00:fab::12"), ip_address("fd00:fab::13"), ip_address("2001:db8::1")
GUEST, VIP = IPv4Address("172.16.1.12"), IPv4Address("203.0.113.80")

AROUND = Surroundings(
    COMPOSED,
    11,
    ((ip_network("10.0.0.0/24"), "eth1"), (ip_network("fd00:fab::/64"), "eth1"), (ip_network("192.0.2.0/24"), "eth2")),
    {H2: 12, H3: 13, ip_address("10.0.0.12"): 12},
    {101: Overlay(RED, "ew-vx", {12: IPv4Address("100.127.0.12")}), 102: Overlay(BLUE, "ew-vx", {})},
    frozenset({(101, IPv4Address("172.16.1.11"))}),
)
#: Other intents: the VPC has another name, another host, none; the composed prefix is another; devices are swapped.
AROUNDS = (
    AROUND,
    replace(AROUND, overlays={101: Overlay(BLUE, "ew-vx", {12: IPv4Address("100.127.0.12")})}),
    replace(AROUND, overlays={101: Overlay(RED, "ew-vx", {13: IPv4Address("100.127.0.13")})}),
    replace(AROUND, overlays={}, guests_here=frozenset()),
    replace(AROUND, guests_here=frozenset({(101, GUEST)})),
    replace(AROUND, composed=IPv6Network("fd00:ed9f::/48")),
    replace(AROUND, connected=((ip_network("10.0.0.0/24"), "eth9"),)),
)


def guest(vpc: int = 101, address: IPv4Address = GUEST) -> Network:
    """Return a guest's prefix."""
    return Composed(Kind.GUEST, address, vpc).network(COMPOSED)


def member(node: int, address: IPv4Address = VIP) -> Network:
    """Return a VIP member's prefix."""
    return Composed(Kind.VIP, address, node).network(COMPOSED)


def best(prefix: Network | str, next_hop: object = H2, neighbor: str = "rs1") -> Best:
    """Return a best path."""
    network = ip_network(prefix) if isinstance(prefix, str) else prefix
    return Best(network, Attributes(ip_address(str(next_hop))), neighbor)


def gone(prefix: Network | str) -> Best:
    """Return the end of a prefix."""
    return Best(ip_network(prefix) if isinstance(prefix, str) else prefix, None)


PREFIXES: tuple[Network, ...] = (
    ip_network("0.0.0.0/0"), ip_network("198.51.100.0/24"), ip_network("2001:db8:5::/48"), guest(), guest(102), guest(103),
    guest(101, IPv4Address("172.16.1.11")), member(11), member(12), member(13),
    Composed(Kind.SNAT, VIP, 11264, 1024).network(COMPOSED),
)  # fmt: skip
bests = st.builds(
    best,
    st.sampled_from(PREFIXES),
    st.sampled_from([H2, H3, FAR, ip_address("10.0.0.12"), ip_address("192.0.2.1"), ip_address("198.51.100.1")]),
    st.sampled_from(["rs1", "rs1", "local"]),
)
steps = st.lists(
    st.one_of(
        st.lists(st.one_of(bests, st.sampled_from(PREFIXES).map(gone)), min_size=1, max_size=4),
        st.sampled_from(["lost", "synced", *range(len(AROUNDS))]),
    ),
    max_size=25,
)


class Mirror:
    """What a kernel holds that is given every change and refuses what does not fit."""

    def __init__(self) -> None:
        self.held: dict[Hashable, Route] = {}

    def take(self, changes: list[Change[Route]]) -> None:
        """Carry changes out."""
        for change in changes:
            if change.old is not None:
                assert self.held.pop(change.old.key) == change.old
            if change.operation == "update":
                assert change.old is not None
                assert change.new is not None
                assert change.old.key == change.new.key
                assert change.old != change.new
            if change.new is not None:
                assert change.new.key not in self.held
                self.held[change.new.key] = change.new


@given(steps)
def test_told_step_by_step_or_from_the_end_gives_the_same(script: list[list[Best] | str | int]) -> None:
    """Routes and members, through losses and changes of the intent; and the changes lead the kernel there."""
    fib, mirror = Fib(AROUND), Mirror()
    known: dict[Network, Best] = {}
    stale: set[Network] = set()
    for step in script:
        if isinstance(step, list):
            for event in step:
                known[event.prefix] = event
                stale.discard(event.prefix)
            mirror.take(fib.learn(step))
        elif step == "lost":
            stale = {prefix for prefix, event in known.items() if event.attributes is not None}
            fib.lost()
        elif step == "synced":
            for prefix in stale:
                del known[prefix]
            stale = set()
            mirror.take(fib.synced())
        else:
            mirror.take(fib.around_changed(AROUNDS[int(step)]))
    scratch = Fib(fib.around)
    scratch.learn(known.values())
    assert fib.routes == scratch.routes
    assert fib.members == scratch.members
    assert fib.best == scratch.best
    assert set(mirror.held.values()) == set(routes_of(fib))


@given(st.lists(bests, max_size=12))
def test_the_same_told_again_changes_nothing(events: list[Best]) -> None:
    """A restarted engine tells everything once more."""
    fib = Fib(AROUND)
    fib.learn(events)
    latest = {event.prefix: event for event in events}
    assert fib.learn(latest.values()) == []
    fib.lost()
    assert fib.learn(latest.values()) + fib.synced() == []
    assert fib.around_changed(AROUND) == []


def test_a_prefix_is_routed_over_the_device_of_its_next_hop() -> None:
    """IPv4 over IPv6 too (RFC 8950)."""
    fib = Fib(AROUND)
    (change,) = fib.learn([best("198.51.100.0/24", H2)])
    route = Route(HOST, ip_network("198.51.100.0/24"), (Hop("eth1", H2),), PROTO_BGP)
    assert change == Change("create", None, route)
    assert fib.learn([gone("198.51.100.0/24")]) == [Change("delete", route, None)]


def test_another_next_hop_is_an_update_of_the_same_route() -> None:
    """Nothing is without a route in between."""
    fib = Fib(AROUND)
    fib.learn([best("198.51.100.0/24", "10.0.0.12")])
    (change,) = fib.learn([best("198.51.100.0/24", "192.0.2.7")])
    assert change.operation == "update"
    assert change.fact.hops == (Hop("eth2", ip_address("192.0.2.7")),)


def test_a_guest_elsewhere_is_a_host_route_over_the_overlay_in_its_namespace() -> None:
    """Never a route of the node itself."""
    fib = Fib(AROUND)
    (change,) = fib.learn([best(guest(), H2)])
    address = ip_network("172.16.1.12/32")
    assert change.new == Route(RED, address, (Hop("ew-vx", IPv4Address("100.127.0.12")),), PROTO_BGP)


@pytest.mark.parametrize(
    ("prefix", "next_hop", "why"),
    [
        (guest(101, IPv4Address("172.16.1.11")), H2, "kept for the overlay"),  # it stands here
        (guest(102), H2, "kept for the overlay"),  # no guest of that VPC there
        (guest(103), H2, "kept for the overlay"),  # the VPC is not here
        (guest(), FAR, "kept for the overlay"),  # no node of ours
        (ip_network("198.51.100.0/24"), FAR, "next hop unreachable"),
        (ip_network("198.51.100.0/24"), ip_address("10.0.1.1"), "next hop unreachable"),
        (ip_network("198.51.100.0/24"), H2, "installed"),
        (guest(), H2, "installed"),
    ],
)
def test_what_became_of_a_path_is_explained(prefix: Network, next_hop: object, why: str) -> None:
    """For `show route`: installed, or the reason why not."""
    fib = Fib(AROUND)
    changes = fib.learn([best(prefix, next_hop)])
    assert explain(fib, prefix) == why
    assert bool(changes) == (why == "installed")


def test_what_is_originated_here_is_no_route_but_counts_as_a_member() -> None:
    """The kernel has a route of its own for it."""
    fib = Fib(AROUND)
    assert fib.learn([best(member(11), H2, "local"), best("10.255.0.11/32", "10.0.0.11", "local")]) == []
    assert fib.members == {VIP: (11,)}
    assert explain(fib, member(11)) == "local"
    assert explain(fib, ip_network("9.9.9.9/32")) is None


def test_members_come_and_go_with_their_prefixes() -> None:
    """Sorted by id; an address that nobody serves is not there."""
    fib = Fib(AROUND)
    fib.learn([best(member(13), H3), best(member(12)), best(member(12))])
    assert fib.members == {VIP: (12, 13)}
    fib.learn([gone(member(13))])
    assert fib.members == {VIP: (12,)}
    fib.learn([gone(member(12)), gone(member(12))])
    assert fib.members == {}


def test_a_lost_engine_takes_no_route_away_until_everything_was_told_again() -> None:
    """The forwarding state is kept (RFC 4724); then what was not named goes."""
    fib = Fib(AROUND)
    fib.learn([best("198.51.100.0/24"), best("2001:db8:5::/48"), best(member(12))])
    fib.lost()
    assert len(fib.routes) == 3
    fib.learn([best("198.51.100.0/24")])
    assert {str(change.fact.destination) for change in fib.synced()} == {"2001:db8:5::/48", str(member(12))}
    assert set(fib.routes) == {ip_network("198.51.100.0/24")}
    assert fib.members == {}
    assert fib.synced() == []


def test_a_new_intent_between_lost_and_synced_forgets_nothing_that_is_stale() -> None:
    """Else a dead route would stay for ever."""
    fib = Fib(AROUND)
    fib.learn([best("198.51.100.0/24")])
    fib.lost()
    assert fib.around_changed(AROUND) == []
    assert [change.operation for change in fib.synced()] == ["delete"]


def test_a_route_that_moves_to_another_namespace_leaves_the_old_one() -> None:
    """It is another route to the kernel: one goes, one comes."""
    fib = Fib(AROUND)
    fib.learn([best(guest())])
    changes = fib.around_changed(AROUNDS[1])
    assert [(change.operation, change.fact.ns) for change in changes] == [("delete", RED), ("create", BLUE)]


def test_members_follow_a_new_composed_prefix() -> None:
    """What is no composed prefix any more serves nothing."""
    fib = Fib(AROUND)
    fib.learn([best(member(12))])
    fib.around_changed(AROUNDS[5])
    assert fib.members == {}
    fib.around_changed(AROUND)
    assert fib.members == {VIP: (12,)}
