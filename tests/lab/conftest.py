"""One zone for all tests of the lab: brought up once, taken down whatever happens.

The machine can have one zone of this name: a run of tests beside this one waits for its end.
KEEP_ZONE=1 takes a zone that is up as it is and leaves it up: quicker while one works on a test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from appliance.panel.lab import runner
from tests.lab.driving import alone
from tests.lab.zone import TOPOLOGY, Zone

#: Seconds that a test of the zone may take, with what makes the zone and with the end of another run's.
PATIENCE = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of the zone time."""
    for item in items:
        if "zone" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(PATIENCE))


@pytest.fixture(scope="session")
def zone() -> Iterator[Zone]:
    """The zone of labs/az, converged."""
    keep = os.environ.get("KEEP_ZONE") == "1"
    with alone("zone"):
        if not keep:
            runner.up(TOPOLOGY)
        try:
            made = Zone()
            made.green(within=240)
            yield made
            if keep:
                made.mend()
        finally:
            if not keep:
                runner.down(TOPOLOGY)


@pytest.fixture(scope="module", autouse=True)
def _whole() -> None:
    """Begin every file with a whole zone, if there is one."""
    Zone().mend()
