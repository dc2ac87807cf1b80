"""One zone for all tests of the lab: brought up once, taken down whatever happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.panel.lab import runner
from tests.lab.zone import TOPOLOGY, Zone


@pytest.fixture(scope="session")
def zone() -> Iterator[Zone]:
    """The zone of labs/az, converged."""
    runner.up(TOPOLOGY)
    try:
        made = Zone()
        made.green()
        yield made
    finally:
        runner.down(TOPOLOGY)
