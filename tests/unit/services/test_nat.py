"""Source NAT by blocks of ports, and one-to-one translation."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.composed import Kind, decompose
from appliance.model.facts import HOST, Advertisement, Hop, NftSet, Route
from appliance.model.intent import SourceNat
from appliance.model.marks import PROTO_BOX
from services.feature import EdgeParts
from services.nat import block_network, block_of, compile_floating, compile_snat, next_block, own_blocks
from services.place import Place
from tests.support.intents import changed, intent, one_vpc

INTENT = intent(one_vpc())
RED = INTENT.vpcs["red"]
H1, H2 = Place.of(INTENT, "h1", "red"), Place.of(INTENT, "h2", "red")
SIZES = (64, 128, 256, 512, 1024, 2048, 4096)


def nat(block: int = 1024, watermark: float = 0.75) -> SourceNat:
    """Return a source NAT with these numbers."""
    return SourceNat.model_validate({"address": "203.0.113.1", "block": block, "watermark": watermark})


nats = st.builds(nat, st.sampled_from(SIZES), st.floats(0.01, 1))
slots = st.sampled_from([4, 8, 16])


@pytest.mark.parametrize("block", SIZES)
@pytest.mark.parametrize("count", [4, 8, 16, 32])
def test_the_blocks_of_all_slots_are_disjoint_and_cover_every_usable_port(block: int, count: int) -> None:
    """No two hosts ever claim one port, and none lies idle."""
    owned = [
        port
        for slot in range(count)
        for start in own_blocks(nat(block), slot, count)
        for port in range(start, start + block)
    ]
    assert sorted(owned) == list(range(max(1024, block), 65536))


@pytest.mark.parametrize("block", [64, 1024, 4096])
def test_the_prefixes_of_different_blocks_never_overlap(block: int) -> None:
    """The longest match finds the one host that holds a port."""
    starts = [start for slot in range(4) for start in own_blocks(nat(block), slot, 4)][:64]
    networks = [block_network(nat(block), start, H1.composed) for start in starts]
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))
    meanings = [decompose(network, H1.composed) for network in networks]
    assert [(m.kind, m.selector, m.width) for m in meanings if m] == [(Kind.SNAT, start, block) for start in starts]


@given(nats, slots, st.integers(0, 65535))
def test_every_usable_port_belongs_to_one_block_of_one_slot(made: SourceNat, count: int, port: int) -> None:
    """And a port that is not usable to none."""
    owners = [(slot, index) for slot in range(count) if (index := block_of(port, made, slot, count)) is not None]
    assert len(owners) == (port >= max(1024, made.block))
    for slot, index in owners:
        assert own_blocks(made, slot, count)[index] <= port < own_blocks(made, slot, count)[index] + made.block


def test_nothing_is_translated_without_source_nat() -> None:
    """Guests then need public addresses of their own."""
    vpc = intent(changed(one_vpc(), "vpcs.red.snat", ...)).vpcs["red"]
    assert compile_snat(H1, vpc, ()) == EdgeParts()


def test_what_leaves_is_translated_to_the_newest_block_and_all_blocks_are_received() -> None:
    """Slot 11 of 16, blocks of 1024: 11264 first, then 27648."""
    parts = compile_snat(H1, RED, (1, 0))
    assert parts.postrouting == (
        'oifname "ew-up" ip saddr 172.16.1.0/24 meta l4proto { tcp, udp, icmp } snat ip to 203.0.113.1:11264-12287',
    )
    networks = [block_network(nat(), start, H1.composed) for start in (27648, 11264)]
    assert [route.destination for route in parts.routes] == networks
    assert [a.prefix for a in parts.advertisements] == networks
    assert {a.kind for a in parts.advertisements} == {"snat"}
    assert all(route.hops[0].decapsulate is not None and route.ns == HOST for route in parts.routes)


@pytest.mark.parametrize(
    ("taken", "low"),
    [((), 11264), ((0,), 11264), ((0, 1), 27648), ((0, 99), 11264), ((99,), 11264), ((-1,), 11264), ((1, 0, 1), 11264)],
)
def test_blocks_that_another_intent_had_are_forgotten(taken: tuple[int, ...], low: int) -> None:
    """The store may remember indexes of smaller blocks; a host always has its first."""
    parts = compile_snat(H1, RED, taken)
    assert parts.postrouting[0].endswith(f"snat ip to 203.0.113.1:{low}-{low + 1023}")
    assert len(parts.routes) == len({route.key for route in parts.routes})


def test_two_hosts_translate_to_different_ports() -> None:
    """With everything taken."""
    every = tuple(range(4))
    ours, theirs = ({a.prefix for a in compile_snat(place, RED, every).advertisements} for place in (H1, H2))
    assert len(ours) == len(theirs) == 4
    assert not ours & theirs


blocks_in_hand = st.lists(st.integers(0, 3), unique=True, max_size=4).map(tuple)
usage = st.dictionaries(st.integers(0, 3), st.integers(0, 1024))


@given(nats, blocks_in_hand, usage)
def test_the_next_blocks_hold_every_block_in_hand_once(
    made: SourceNat, taken: tuple[int, ...], used: dict[int, int]
) -> None:
    """A block in use is never dropped, at most one is added, and each is one of the host's own."""
    wanted = next_block(made, 3, 4, taken, used)
    assert set(taken) <= set(wanted)
    assert len(wanted) == len(set(wanted)) <= max(1, len(taken)) + 1
    assert all(0 <= index < len(own_blocks(made, 3, 4)) for index in wanted)
    assert wanted


@given(nats, blocks_in_hand, usage)
def test_nothing_changes_while_the_newest_block_has_room(
    made: SourceNat, taken: tuple[int, ...], used: dict[int, int]
) -> None:
    """Only a block that fills up is a reason to move."""
    taken = taken or (0,)
    wanted = next_block(made, 3, 4, taken, used)
    if used.get(taken[-1], 0) < made.watermark * made.block:
        assert wanted == taken
    else:
        assert wanted == taken or wanted[-1] != taken[-1]


@given(nats, blocks_in_hand, usage)
def test_asking_again_with_an_empty_newest_block_changes_nothing(
    made: SourceNat, taken: tuple[int, ...], used: dict[int, int]
) -> None:
    """A decision does not swing back."""
    wanted = next_block(made, 3, 4, taken, used)
    assert next_block(made, 3, 4, wanted, {**used, wanted[-1]: 0}) == wanted


@pytest.mark.parametrize(
    ("taken", "used", "wanted"),
    [
        ((), {}, (0,)),
        ((0,), {0: 767}, (0,)),
        ((0,), {0: 768}, (0, 1)),
        ((0, 1), {0: 800, 1: 800}, (0, 1, 2)),
        ((0, 1), {0: 100, 1: 800}, (1, 0)),  # an older one has emptied
        ((0, 1), {0: 400, 1: 800}, (0, 1, 2)),  # not enough
        ((0, 1, 2), {0: 300, 1: 200, 2: 800}, (0, 2, 1)),  # the emptiest
        ((2, 0), {0: 1024, 2: 1024}, (2, 0, 1)),  # the first that is not in hand
        ((0, 1, 2, 3), dict.fromkeys(range(4), 1024), (0, 1, 2, 3)),  # all are full
    ],
)
def test_the_next_block_is_an_empty_one_in_hand_or_a_fresh_one(
    taken: tuple[int, ...], used: dict[int, int], wanted: tuple[int, ...]
) -> None:
    """Four blocks a host; the watermark is 768 ports."""
    assert len(own_blocks(nat(), 11, 16)) == 4
    assert next_block(nat(), 11, 16, taken, used) == wanted


def test_floating_addresses_are_translated_both_ways_where_the_guest_stands() -> None:
    """And announced and routed by this host alone."""
    parts = compile_floating(H1, RED)
    assert parts.sets == (
        NftSet(H1.ns, "floating_in", frozenset({"203.0.113.11 : 172.16.1.11"})),
        NftSet(H1.ns, "floating_out", frozenset({"172.16.1.11 : 203.0.113.11"})),
    )
    public = IPv4Network("203.0.113.11/32")
    assert parts.routes == (Route(HOST, public, (Hop("ew-v101", IPv4Address("100.64.0.203")),), PROTO_BOX),)
    assert parts.advertisements == (Advertisement(public, "floating", "red"),)
    assert compile_floating(H2, RED) == EdgeParts()
