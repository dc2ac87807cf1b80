"""One zone for all tests of the lab: brought up once, taken down whatever happens.

KEEP_ZONE=1 takes a zone that is up as it is and leaves it up: quicker while one works on a test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from appliance.panel.lab import runner
from tests.lab.zone import TOPOLOGY, Zone


@pytest.fixture(scope="session")
def zone() -> Iterator[Zone]:
    """The zone of labs/az, converged."""
    keep = os.environ.get("KEEP_ZONE") == "1"
    if not keep:
        runner.up(TOPOLOGY)
    try:
        made = Zone()
        made.green(within=240)
        yield made
    finally:
        if not keep:
            runner.down(TOPOLOGY)
