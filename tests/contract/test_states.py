"""The ports of a whole node on this kernel: every named state of a host, one after the other, by the difference.

The same ways on the ports in memory, and many more of them: `tests/sequences`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from appliance.control.reconcile import Reconciler
from appliance.kernel.kernel import Kernel
from appliance.model.facts import HOST
from tests.contract.worlds import World
from tests.support.worlds import DEVICES, STATES, held

pytestmark = pytest.mark.kernel


@pytest.fixture
def real(world: World) -> Iterator[Kernel]:
    """Give the real ports of an empty host on which others made the devices."""
    for device in DEVICES:
        world.run(HOST, "ip", "link", "add", device, "type", "veth", "peer", "name", f"p-{device}")
        world.run(HOST, "ip", "link", "set", f"p-{device}", "up")
    with world.namespaces.in_namespace(HOST):
        kernel = Kernel.real(world.namespaces.directory)
    try:
        yield kernel
    finally:
        kernel.close()


@pytest.mark.parametrize("seed", [0, 1])
def test_this_kernel_follows_every_state_of_a_host(real: Kernel, seed: int) -> None:
    """It holds exactly what is desired after each step, and a second run changes nothing."""
    reconciler, before = Reconciler(real.ports), STATES["EMPTY"]
    for name in [*random.Random(seed).sample(tuple(STATES), len(STATES)), "EMPTY"]:
        outcome = reconciler.move(before, STATES[name])
        if not outcome.done:
            outcome = reconciler.apply(STATES[name])
        assert outcome.pending == (), name
        assert held(real) == STATES[name], name
        assert reconciler.apply(STATES[name]).changed == {}, name
        before = STATES[name]
