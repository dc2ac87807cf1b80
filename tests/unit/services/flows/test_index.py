"""Flows are found by what a change names, and let go of without a trace."""

from __future__ import annotations

import random
import tracemalloc
from ipaddress import ip_address, ip_network

import pytest

from appliance.model.facts import Flow, FlowKey
from services.flows.index import FlowIndex, pack, public_port, unpack
from tests.unit.services.flows.examples import (
    CLIENT,
    GATEWAY,
    PUBLIC,
    R1,
    R2,
    R3,
    SHARED,
    SUBNET,
    TCP,
    UDP,
    VIP,
    called,
    entered,
    key,
    left,
    pinged,
    plain,
)

#: A guest that calls a VIP of its own VPC: the answer comes through the gateway's address.
HAIRPIN = Flow(key(R2, 900, VIP, 80), key(R1, 8080, GATEWAY, 900))
#: A flow that called the VIP while nothing translated it.
VAIN = Flow(key(CLIENT, 901, VIP, 80, UDP), key(VIP, 80, CLIENT, 901, UDP))
OUT = left(40, R1, public=PUBLIC, to=40)
SIX = Flow(
    FlowKey(ip_address("2001:db8::1"), 1, ip_address("2001:db8::80"), 80, TCP, 7),
    FlowKey(ip_address("fd00::1"), 80, ip_address("2001:db8::1"), 1, TCP, 7),
)
EVERY = (
    called(1),
    called(2, R3),
    called(3, protocol=UDP),
    called(4, service=443, target=443),
    called(5, service=80, target=80),
    left(10),
    left(11, to=5119),
    left(12, to=5120),
    entered(20),
    OUT,
    plain(30),
    pinged(77),
    HAIRPIN,
    VAIN,
    SIX,
)


@pytest.fixture
def index() -> FlowIndex:
    """Hold one flow of each kind."""
    made = FlowIndex([SUBNET, ip_network("fd00::/64")])
    for flow in EVERY:
        made.add(flow)
    return made


@pytest.mark.parametrize("flow", EVERY)
def test_a_flow_can_be_packed_and_read_back(flow: Flow) -> None:
    """Nothing but the mark is lost."""
    assert unpack(pack(flow)) == flow
    assert len(pack(flow)) == (29 if flow is not SIX else 77)


def test_a_service_has_its_flows_and_those_of_one_backend(index: FlowIndex) -> None:
    """Also of services that share address and backend and keep their ports."""
    vip, backend = ip_address(VIP), ip_address(R1)
    assert set(index.of_service(vip, 80, TCP)) == {called(1), called(2, R3), called(5, target=80), HAIRPIN}
    assert set(index.of_service(vip, 80, TCP, (backend, 8080))) == {called(1), HAIRPIN}
    assert set(index.of_service(vip, 80, TCP, (backend, 80))) == {called(5, target=80)}
    assert set(index.of_service(vip, 443, TCP, (backend, 443))) == {called(4, service=443, target=443)}
    assert set(index.of_service(vip, 80, UDP)) == {called(3, protocol=UDP)}
    assert not list(index.of_service(vip, 81, TCP))


def test_a_public_source_has_its_flows_by_port(index: FlowIndex) -> None:
    """The port of an echo is its identifier; a border between ports is exact though bundles are wide."""
    shared = ip_address(SHARED)
    assert set(index.from_public(shared)) == {left(10), left(11, to=5119), left(12, to=5120), pinged(77)}
    assert set(index.from_public(shared, 4096, 5119)) == {left(10), left(11, to=5119), pinged(77)}
    assert set(index.from_public(shared, 5001, 5001)) == {pinged(77)}
    assert public_port(pinged(77)) == 5001


def test_a_pair_has_its_flows_in_both_directions(index: FlowIndex) -> None:
    """And no flows of another guest with the same public address."""
    other = entered(21, guest=R3)
    index.add(other)
    assert set(index.of_pair(ip_address(PUBLIC), ip_address(R1))) == {entered(20), OUT}
    assert set(index.of_pair(ip_address(PUBLIC), ip_address(R3))) == {other}


def test_a_guest_has_what_it_begins_and_what_it_answers(index: FlowIndex) -> None:
    """Translated or not."""
    assert set(index.of_guest(ip_address(R2))) == {left(10), left(11, to=5119), left(12, to=5120)} | {
        plain(30),
        pinged(77),
        HAIRPIN,
    }
    assert set(index.of_guest(ip_address("fd00::1"))) == {SIX}
    assert not list(index.of_guest(ip_address(CLIENT)))


def test_flows_that_called_in_vain_are_found_by_what_they_called(index: FlowIndex) -> None:
    """A flow that was translated did not."""
    assert list(index.astray(ip_address(VIP), 80, UDP)) == [VAIN]
    assert not list(index.astray(ip_address(VIP), 80, TCP))


def test_adding_twice_is_once_and_what_is_gone_leaves_nothing(index: FlowIndex) -> None:
    """In whatever order they go."""
    index.add(EVERY[0])
    assert len(index) == len(EVERY)
    assert set(index) == set(EVERY)
    for flow in random.Random(1).sample(EVERY, len(EVERY)):
        assert flow in index
        assert index.remove(flow)
        assert not index.remove(flow)
    assert not any((index._bundles, index._guests, index._publics, index._astray, len(index)))


def test_the_same_tuple_translated_otherwise_is_another_flow(index: FlowIndex) -> None:
    """An end that was missed must not hide the next beginning."""
    assert not index.remove(called(1, R2))
    index.add(called(1, R2))
    assert called(1) in index
    assert called(1, R2) in index


def test_what_is_not_named_can_be_let_go_of_at_once(index: FlowIndex) -> None:
    """As after a look at the kernel; what is named and not held is nothing."""
    kept = {pack(flow) for flow in (*EVERY[:3], left(99))}
    assert set(index.keep(kept)) == set(EVERY[3:])
    assert set(index) == set(EVERY[:3])
    assert index.keep(kept) == ()


def test_flows_may_be_let_go_of_while_they_are_looked_through(index: FlowIndex) -> None:
    """As who deletes records does."""
    assert [index.remove(flow) for flow in index] == [True] * len(EVERY)


@pytest.mark.parametrize("make", [called, left, entered])
def test_a_flow_costs_few_octets(make: object) -> None:
    """However many flows share a service."""
    assert callable(make)
    tracemalloc.start()
    try:
        index = FlowIndex([SUBNET])
        for port in range(1024, 5120):
            index.add(make(port))
        octets, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert octets / len(index) < 250


def test_a_scan_of_a_public_address_makes_one_bundle() -> None:
    """Ports that are kept are not told apart."""
    index = FlowIndex([SUBNET])
    for port in range(1, 1000):
        index.add(Flow(key(CLIENT, 9, PUBLIC, port), key(R1, port, CLIENT, 9)))
    assert len(index) == 999
    assert len(index._bundles) == 1
