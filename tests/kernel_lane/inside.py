"""A plugin of pytest inside the machine: chooses what is worth its time there, and tells each outcome as it happens.

Everything is emulated there, ten to twenty times slower. What runs in memory only says nothing about a kernel; of walks
through every state of a port each so-many-th is taken (`--lane-each`). Outcomes are lines of JSON,
written to what `EDGEWAY_LANE` names: a port of the machine inside; a file where `tests.support.lane` finds out what there
is to run. Whatever runs was chosen by this file, on either side.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import is_hypothesis_test

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What walks through the states of a port.
WALKS: Final = ("_depend_on_the_state_and_not_on_the_path", "_depends_on_the_state_and_not_on_the_path")


def chosen(items: Sequence[pytest.Item], each: int) -> list[pytest.Item]:
    """Return what runs inside, in order."""
    seen: Counter[str] = Counter()
    kept = []
    for item in items:
        parameters = getattr(item, "callspec").params if hasattr(item, "callspec") else {}  # noqa: B009 - items of other kinds have none
        if "fake" in parameters.values():
            continue
        # What takes thousands of values is about values.
        if is_hypothesis_test(getattr(item, "obj", None)):
            continue
        name = getattr(item, "originalname", item.name)
        if name.endswith(WALKS):
            walk = item.nodeid.partition("[")[0]
            seen[walk] += 1
            if (seen[walk] - 1) % each:
                continue
        kept.append(item)
    return kept


def tell(**what: Any) -> None:
    """Write a line; it is out when this returns."""
    with Path(os.environ["EDGEWAY_LANE"]).open("a", encoding="utf-8") as port:
        port.write(json.dumps(what) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose."""
    kept = chosen(items, config.getoption("lane_each"))
    ids = {id(item) for item in kept}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in ids])
    items[:] = kept


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the words say how much."""
    parser.addoption("--lane-each", type=int, default=12, help="take each so-many-th walk")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell what there is to run, and on what."""
    tell(collected=[item.nodeid for item in session.items], kernel=os.uname().release)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell how each phase went."""
    tell(test=report.nodeid, phase=report.when, outcome=report.outcome, seconds=report.duration, text=_text(report))


def _text(report: pytest.TestReport) -> str:
    said = report.longreprtext if report.failed else str(report.longrepr or "")
    return "\n".join([said, *(f"-- {name}\n{content}" for name, content in report.sections if report.failed)])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tell that this is the end."""
    tell(exit=int(exitstatus))
