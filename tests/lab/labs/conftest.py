"""A lab of labs/ for the tests of one file: up and green before the first, down after the last, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.driving import Lab, brought_up

#: Seconds that a test may take with what brings the lab up, also while another run has it.
PATIENCE = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of labs time."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(PATIENCE))


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab that the file's LAB names, with every check of its checks.yaml true."""
    with brought_up(request.module.LAB) as made:
        yield made
