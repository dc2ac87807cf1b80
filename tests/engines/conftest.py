"""Parameters of the route-server scenarios: every engine that exists, and both families."""

from __future__ import annotations

import pytest

from routing.bgp.values import Family
from tests.support.engines import available
from tests.support.scenario import IDS


@pytest.fixture(scope="module", params=available())
def engine_name(request: pytest.FixtureRequest) -> str:
    """Name the engine under test."""
    name: str = request.param
    return name


@pytest.fixture(params=list(Family), ids=list(IDS.values()))
def family(request: pytest.FixtureRequest) -> Family:
    """Name the family a scenario looks at; its sessions of both families run at once."""
    found: Family = request.param
    return found
