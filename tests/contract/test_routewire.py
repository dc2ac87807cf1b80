"""Packed batches on this kernel."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.routewire import scattered
from appliance.model.facts import HOST
from tests.contract.boxes import reach
from tests.contract.roads import ONE, RealRoads, many

if TYPE_CHECKING:
    from appliance.kernel.port import Failure
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel


@pytest.fixture
def real(world: World) -> RealRoads:
    """Give a node of this kernel."""
    return RealRoads(world)


def test_scattered_destinations_are_all_there_and_no_longer_neighbours() -> None:
    """What stood side by side is far apart."""
    order = scattered(range(100))
    assert sorted(order) == list(range(100))
    assert all(abs(one - other) > 1 for one, other in pairwise(order))


def test_every_refusal_of_a_large_batch_is_found_again(real: RealRoads) -> None:
    """Of 3,000 routes every tenth stands in the place of a foreign one: exactly those fail."""
    wanted = many(3000, ONE)
    taken = wanted[::10]
    path = real.world.host.parent / "batch"
    path.write_text("".join(f"route add {r.destination} via 10.255.0.9 metric 2048\n" for r in taken))
    real.ip(HOST, "-batch", str(path))
    failures: tuple[Failure, ...] = reach(real.port(), wanted)
    assert {failure.fact for failure in failures} == set(taken)
    assert len(failures) == len(taken)
    assert real.port().read() == frozenset(wanted) - frozenset(taken)
