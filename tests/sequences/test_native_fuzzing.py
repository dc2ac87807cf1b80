"""Octets that are nearly right against our own BGP engine, for a moment; `make fuzz` takes longer, EDGEWAY_SEED begins elsewhere."""

from __future__ import annotations

import gc
import os
from random import Random

import pytest

from routing.bgp.attributes import downgrade, encode
from routing.bgp.hot import announce
from routing.bgp.peering import Peering
from routing.bgp.peers import Peer
from routing.bgp.values import Attributes, Family, Segment, SegmentType
from tests.support.fuzzing import Target
from tests.support.fuzzing_engine import TARGETS
from tests.support.fuzzing_sessions import House, Line, at, neighbor, speaker

SEED = int(os.environ.get("EDGEWAY_SEED", "1"))


@pytest.mark.parametrize("target", dict.fromkeys(TARGETS), ids=lambda target: target.__name__)
def test_what_is_nearly_right_breaks_nothing(target: Target) -> None:
    """Each target asserts what its part of the engine promises for any octets."""
    for seed in range(SEED, SEED + 150):
        try:
            target(Random(seed))
        except BaseException as error:
            error.add_note(f"EDGEWAY_SEED={seed}")
            raise


def test_neighbours_that_are_no_more_leave_nothing_to_the_collector() -> None:
    """It hardly ever looks at what has lived for long: whatever knows one another must let go by itself."""
    gc.collect()
    others = _parties()
    gc.disable()
    try:
        house = House(Random(1))
        for which in (1, 2):
            number = house.join(which)
            house.core.received(number, _route(house.lines[number][1]), 0.0)
            house.settle()
        for _ in house.core.configure(speaker(neighbor(3, passive=True)), 0.0):
            house.settle()
        house.settle()
        assert set(house.core.peerings) == set(house.core.server.peers) == {at(3)}
        left = [one for one in _parties() if not any(one is other for other in others)]
        assert {one.address for one in left} == {at(3)}
    finally:
        gc.enable()


def _parties() -> list[Peer | Peering]:
    """Return every neighbour that the process knows: other tests may have left theirs."""
    return [one for one in gc.get_objects() if isinstance(one, Peer | Peering)]


def _route(line: Line) -> bytes:
    """Write an UPDATE of a route that nobody else has."""
    path = (Segment(SegmentType.SEQUENCE, (line.theirs.asn,)),)
    octets = encode(Attributes(line.theirs.router_id, as_path=path), Family.IPV4)
    octets = octets if line.theirs.four_octet else downgrade(octets)
    return announce(octets, bytes((32, 10, 0, 0, line.theirs.asn & 0xFF)), 4096)
