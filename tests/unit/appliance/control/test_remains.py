"""What an earlier daemon left that the intent does not tell."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from appliance.control.remains import kept_instructions, kept_members, with_kept_routes
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.facts import HOST, Compose, FlowKey, Hop, Instruction, Namespace, Netns, Route
from appliance.model.marks import PROTO_BGP, PROTO_BOX, Action

RED, BLUE = Namespace("vpc-red"), Namespace("vpc-blue")


def route(third: int, ns: Namespace = HOST, proto: int = PROTO_BGP, via: str = "10.0.0.1") -> Route:
    """Return a route to 10.N.0.0/16."""
    return Route(ns, IPv4Network(f"10.{third}.0.0/16"), (Hop("lo", IPv4Address(via)),), proto)


@pytest.fixture
def world() -> FakeWorld:
    """Give a world with routes of BGP and of the compile, in three namespaces."""
    world = FakeWorld("eth1")
    world.namespaces |= {RED, BLUE}
    for fact in (route(1), route(2, RED), route(3, BLUE), route(4, proto=PROTO_BOX)):
        world.routes[fact.key] = fact
    return world


def test_routes_of_bgp_are_kept_in_namespaces_that_stay(world: FakeWorld) -> None:
    """Those of the compile are compiled again; those of a VPC that goes go with it."""
    facts = with_kept_routes(fake_kernel(world).ports, [Netns(RED)])
    assert set(facts) == {Netns(RED), route(1), route(2, RED)}


def test_what_bgp_has_told_already_is_better_than_what_was_kept(world: FakeWorld) -> None:
    """A path may have changed while no daemon ran."""
    newer = route(1, via="10.0.0.2")
    facts = with_kept_routes(fake_kernel(world).ports, [], [newer])
    assert facts == (newer,)


def test_members_of_vips_are_read_from_the_composing_device(world: FakeWorld) -> None:
    """Of every one there is."""
    members = ((IPv4Address("203.0.113.80"), (11, 12)), (IPv4Address("203.0.113.81"), (11,)))
    compose = Compose(HOST, "ew-comp1", IPv6Address("fd00:ff::1"), IPv6Network("fd00:ed9e::/48"), members)
    world.composes[compose.key] = compose
    assert kept_members(fake_kernel(world).ports) == dict(members)


def test_a_new_machine_has_nothing_to_keep() -> None:
    """And that is no error."""
    ports = fake_kernel().ports
    assert kept_members(ports) == {}
    assert with_kept_routes(ports, []) == ()


def test_instructions_are_kept_in_namespaces_that_stay(world: FakeWorld) -> None:
    """They are no intent, and the flows they are for live on."""
    flow = FlowKey(IPv4Address("10.0.0.1"), 1, IPv4Address("10.0.0.2"), 2, 6)
    rows = [Instruction(ns, flow, Action.DENY) for ns in (RED, BLUE)]
    for row in rows:
        world.nft[Instruction, row.key] = row
    assert kept_instructions(fake_kernel(world).ports, [Netns(RED)]) == (rows[0],)
