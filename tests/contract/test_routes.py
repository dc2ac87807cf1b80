"""Routes: whatever the path, the kernel ends with the routes that are desired, and nobody else's are touched."""

from __future__ import annotations

from dataclasses import replace
from errno import EEXIST, ENETDOWN, ENODEV
from ipaddress import IPv4Address
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from appliance.model.facts import HOST, Hop, Namespace, Route
from appliance.model.marks import PROTO_BGP, PROTO_BOX
from appliance.state.diff import Plan, diff
from tests.contract.boxes import reach
from tests.contract.roads import GUEST, ONE, OTHER, RED, SIX, THREE, TWO, FakeRoads, RealRoads, Roads, many, route

if TYPE_CHECKING:
    from tests.contract.worlds import World


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kernel)])
def roads(request: pytest.FixtureRequest) -> Roads:
    """Give a node in memory, and one of this kernel."""
    return FakeRoads() if request.param == "fake" else RealRoads(request.getfixturevalue("world"))


@pytest.fixture
def real(world: World) -> RealRoads:
    """Give a node of this kernel."""
    return RealRoads(world)


STATES: dict[str, tuple[Route, ...]] = {
    "nothing": (),
    "one way": (
        route("192.0.2.0/24", ONE),
        route("198.51.100.0/24", ONE, proto=PROTO_BOX),
        route("203.0.113.0/25", ONE, mtu=1400),
        route("0.0.0.0/0", ONE),
        route("::/0", SIX),
        route("2001:db8::/32", SIX, mtu=1300),
        route("192.0.2.0/24", ONE, ns=RED),
    ),
    "two ways": (
        route("192.0.2.0/24", ONE, OTHER),
        route("198.51.100.0/24", OTHER, ONE, proto=PROTO_BOX),
        route("203.0.113.0/25", ONE, TWO, THREE),
        route("0.0.0.0/0", TWO, mtu=1280),
        route("192.0.2.0/24", OTHER, ns=RED),
    ),
    "all kinds": (
        route("192.0.2.0/24", SIX),
        route("192.0.2.0/24", ONE, proto=PROTO_BOX),
        route("198.51.100.0/24", Hop("b0"), proto=PROTO_BOX),
        route("203.0.113.0/25", Hop("b0", IPv4Address("198.51.100.7")), proto=PROTO_BOX),
        route("2001:db8::/32", Hop("b0"), SIX),
        route("fd00:1::/100", GUEST, proto=PROTO_BOX),
        route("::/0", SIX, ns=RED, mtu=1400),
    ),
}


@pytest.mark.parametrize("path", list(permutations(STATES, 3)), ids=" -> ".join)
def test_the_kernel_depends_on_the_state_and_not_on_the_path(roads: Roads, path: tuple[str, ...]) -> None:
    """After each state the kernel holds it, for another process too, and once more is an empty plan."""
    port = roads.port()
    for name in path:
        desired = frozenset(STATES[name])
        assert reach(port, desired) == ()
        assert port.read() == desired
        assert roads.port().read() == desired
        assert not diff(port.read(), desired)


def test_each_step_may_be_done_by_another_process(roads: Roads) -> None:
    """What a process has made, the next one changes and removes without having read it before."""
    before: frozenset[Route] = frozenset()
    for name in ("one way", "two ways", "all kinds", "nothing"):
        after = frozenset(STATES[name])
        assert roads.port().apply(diff(before, after)) == ()
        assert roads.port().read() == after
        before = after


def test_deleting_what_is_absent_succeeds(roads: Roads) -> None:
    """A plan that deletes what is gone fails nowhere, also where the whole namespace is gone."""
    plan: Plan[Route] = diff([route("192.0.2.0/24", ONE), route("192.0.2.0/24", ONE, ns=Namespace("gone"))], [])
    assert roads.port().apply(plan) == ()


def test_a_route_to_a_missing_device_fails_alone_and_may_be_tried_again(roads: Roads) -> None:
    """The other routes of the batch are made; the failure names the route that was not."""
    good = [route("192.0.2.0/24", ONE), route("203.0.113.0/24", OTHER)]
    bad = route("198.51.100.0/24", Hop("nix", IPv4Address("10.255.0.2")))
    worse = route("198.51.100.0/24", ONE, ns=Namespace("nowhere"))
    port = roads.port()
    failures = reach(port, [*good, bad, worse])
    assert {failure.fact for failure in failures} == {bad, worse}
    assert all(failure.error.retry and failure.error.errno == ENODEV for failure in failures)
    assert port.read() == frozenset(good)


def test_a_route_with_one_dead_hop_goes_the_other_way_and_stays_pending(roads: Roads) -> None:
    """It is made with what works, told as a failure, and completed once the device carries again."""
    port, want = roads.port(), route("192.0.2.0/24", ONE, OTHER)
    roads.carrier(HOST, "b0", up=False)
    for _ in range(2):
        (failure,) = reach(port, [want])
        assert (failure.fact, failure.error.errno, failure.error.retry) == (want, ENETDOWN, True)
        assert port.read() == {route("192.0.2.0/24", ONE)}
    roads.carrier(HOST, "b0", up=True)
    assert reach(port, [want]) == ()
    assert port.read() == {want}


def test_routes_that_a_lost_carrier_took_come_back_by_reading_again(roads: Roads) -> None:
    """Link down: routes gone and groups shrunk, silently. Link up: nothing comes back but by read, diff and apply."""
    port = roads.port()
    gone, kept = [*many(5, ONE), route("2001:db8::/32", SIX)], route("203.0.113.0/24", OTHER)
    both = route("198.51.100.0/24", ONE, OTHER)
    assert reach(port, [*gone, kept, both]) == ()
    roads.carrier(HOST, "a0", up=False)
    shrunk = {kept, replace(both, hops=(OTHER,))}
    assert port.read() == shrunk
    roads.carrier(HOST, "a0", up=True)
    assert port.read() == shrunk
    assert reach(port, [*gone, kept, both]) == ()
    assert port.read() == roads.port().read() == {*gone, kept, both}


def test_a_lost_carrier_that_nobody_has_read_does_not_spoil_the_next_plan(roads: Roads) -> None:
    """A plan made from what was true before the link went down and came back is carried out all the same."""
    port, old = roads.port(), many(5, ONE)
    reach(port, old)
    roads.carrier(HOST, "a0", up=False)
    roads.carrier(HOST, "a0", up=True)
    new = [*many(3, OTHER), route("198.51.100.0/24", ONE)]
    assert port.apply(diff(old, new)) == ()
    assert port.read() == frozenset(new)


def test_replacing_hops_moves_their_routes_and_no_others(roads: Roads) -> None:
    """Groups that share a hop with the old tuple keep it; another process reads the same."""
    port = roads.port()
    rest = [
        route("192.0.2.0/24", ONE, OTHER),
        route("198.51.100.0/24", OTHER),
        route("203.0.113.0/24", ONE, proto=PROTO_BOX),
        route("203.0.113.0/24", ONE, ns=RED),
    ]
    reach(port, [*many(100, ONE), *rest])
    assert port.replace_hops(HOST, PROTO_BGP, (ONE,), (TWO, OTHER)) == 100
    assert port.read() == roads.port().read() == {*many(100, TWO, OTHER), *rest}
    assert port.replace_hops(HOST, PROTO_BGP, (TWO, OTHER), (OTHER,)) == 100
    assert port.read() == {*many(100, OTHER), *rest}
    assert port.replace_hops(HOST, PROTO_BGP, (OTHER,), (ONE,)) == 101, "two ids stood for the same hops by then"
    assert port.replace_hops(HOST, PROTO_BGP, (THREE,), (ONE,)) == 0
    assert reach(port, STATES["all kinds"]) == ()
    assert port.read() == frozenset(STATES["all kinds"])


def test_replacing_hops_by_dead_ones_is_refused_and_moves_nothing(roads: Roads) -> None:
    """The error says that trying again can help."""
    port = roads.port()
    reach(port, many(3, ONE))
    roads.carrier(HOST, "b0", up=False)
    with pytest.raises(Exception, match="b0") as caught:
        port.replace_hops(HOST, PROTO_BGP, (ONE,), (OTHER,))
    assert getattr(caught.value, "retry", False)
    assert port.read() == frozenset(many(3, ONE))


# -- what only a kernel shows -----------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_routes_of_others_stay(real: RealRoads) -> None:
    """Other protocols and other tables are neither read nor touched, also where the destination is the same."""
    foreign = (
        ("10.0.0.0/24", "via", "10.255.0.9", "proto", "bird"),
        ("10.0.1.0/24", "via", "10.255.0.9", "table", "100", "proto", str(PROTO_BGP)),
        ("10.0.2.0/24", "via", "10.255.0.9", "proto", "static"),
    )
    for words in foreign:
        real.ip(HOST, "route", "add", *words)
    port = real.port()
    assert port.read() == frozenset()
    for state in (many(5, ONE), many(5, TWO, OTHER), []):
        assert reach(port, state) == ()
        assert port.read() == frozenset(state)
    shown = real.ip(HOST, "route", "show", "table", "all")
    assert all(" ".join(words[:3]) in shown for words in foreign)


@pytest.mark.kernel
@pytest.mark.parametrize("text", ["10.0.1.0/24", "2001:db8::/32"])
def test_a_foreign_route_in_our_place_is_a_failure_and_stays(real: RealRoads, text: str) -> None:
    """The kernel tells routes apart by metric, not by protocol: ours never replaces one of another protocol."""
    hop = SIX if ":" in text else ONE
    real.ip(HOST, "route", "add", text, "via", str(hop.via), "metric", "2048", "proto", "static")
    port, others = real.port(), many(3, ONE)
    want = route(text, hop)
    (failure,) = reach(port, {*others, want})
    assert (failure.fact, failure.error.errno) == (want, EEXIST)
    assert text in str(failure.error)
    assert port.read() == frozenset(others) - {want}
    assert "static" in real.ip(HOST, "-6" if ":" in text else "-4", "route", "show", text)


@pytest.mark.kernel
def test_a_namespace_made_anew_under_its_name_starts_empty(real: RealRoads) -> None:
    """Nothing that was known of the earlier one is believed."""
    port, want = real.port(), route("192.0.2.0/24", Hop("lo"), ns=RED)
    assert reach(port, [want]) == ()
    real.world.namespaces.delete(RED)
    assert port.read() == frozenset()
    real.world.namespaces.create(RED)
    assert port.apply(diff([], [want])) == ()
    assert port.read() == {want}


@pytest.mark.kernel
def test_replacing_is_made_cheap_in_each_namespace(real: RealRoads) -> None:
    """The kernel tells listeners of each route behind a next hop unless nexthop_compat_mode is 0."""
    reach(real.port(), [route("192.0.2.0/24", ONE), route("192.0.2.0/24", ONE, ns=RED)])
    for ns in (HOST, RED):
        assert real.world.run(ns, "cat", "/proc/sys/net/ipv4/nexthop_compat_mode").strip() == "0"
