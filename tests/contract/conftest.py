"""Namespaces for contract tests: made for one test, in a directory of their own, and always taken away again.

A test of a real port never sees the machine's own namespaces: HOST is an empty namespace made for the test, and names
stand in `/run/ewt-<pid>-<number>` instead of `/run/netns`. What a crashed run left behind is removed at the next start.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.namespaces import Namespaces
from appliance.model.facts import Namespace
from tests.contract.boxes import Box, FakeBox, RealBox
from tests.contract.worlds import PREFIX, World, remove

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _leftovers() -> None:
    """Remove what runs that crashed left behind."""
    for top in Path("/run").glob(f"{PREFIX}*-*"):
        process = top.name.removeprefix(PREFIX).split("-")[0]
        if not Path("/proc", process).exists():
            remove(top)


@pytest.fixture
def world() -> Iterator[World]:
    """Give an empty HOST and a directory for names; everything is gone afterwards."""
    top = Path(f"/run/{PREFIX}{os.getpid()}-{next(_NUMBERS)}")
    outside = Namespaces(top / "outside")
    try:
        outside.create(Namespace("host"))
        host = outside.path(Namespace("host"))
        namespaces = Namespaces(top / "netns", host)
        try:
            yield World(namespaces, host)
        finally:
            namespaces.close()
    finally:
        outside.close()
        remove(top)


@pytest.fixture(params=["fake", "real"])
def box(request: pytest.FixtureRequest) -> Box:
    """Give a node in memory, then one in namespaces: every contract test runs on both."""
    if request.param == "fake":
        return FakeBox()
    return RealBox(request.getfixturevalue("world"))
