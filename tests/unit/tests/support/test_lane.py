"""What a machine tells, read; what runs inside, chosen. Whether a machine tells anything: tests/image/test_kernel_lane.py."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.kernel_lane.inside import chosen
from tests.support.lane import Outcome, read


def _line(test: str, phase: str, outcome: str, text: str = "") -> dict[str, Any]:
    return {"test": test, "phase": phase, "outcome": outcome, "seconds": 1.0, "text": text}


def _read(*lines: dict[str, Any]) -> Any:
    return read("".join(f"{json.dumps(line)}\n" for line in lines), 2.0, 1.0, "")


def test_a_machine_that_stopped_in_the_middle_has_no_end() -> None:
    """What it told until then counts."""
    begun = {"collected": ["a", "b"], "kernel": "6.1"}
    report = _read(begun, _line("a", "setup", "passed"), _line("a", "call", "passed"), _line("b", "setup", "passed"))
    assert (report.kernel, report.exit, [each.test for each in report.outcomes]) == ("6.1", None, ["a"])
    assert _read(begun, {"exit": 1}).exit == 1


def test_a_line_that_was_cut_off_is_no_line() -> None:
    """The machine lost its power while it told."""
    report = read('{"kernel": "6.1", "collected": []}\n{"test": "a", "pha', 2.0, 1.0, "")
    assert report.kernel == "6.1"
    assert report.outcomes == ()


def test_a_failure_after_a_passed_test_is_a_failure_and_the_first_counts() -> None:
    """Whichever phase it is in."""
    report = _read(
        _line("a", "call", "passed"),
        _line("a", "teardown", "failed", "left something"),
        _line("b", "call", "failed", "wrong"),
        _line("b", "teardown", "failed", "left something"),
        _line("c", "setup", "skipped", "not here"),
    )
    assert report.of("failed") == [
        Outcome("a", "failed", 2.0, "(teardown) left something"),
        Outcome("b", "failed", 2.0, "wrong"),
    ]
    assert [each.test for each in report.of("skipped")] == ["c"]


def _items(name: str, parameters: list[str]) -> list[pytest.Item]:
    made = [
        SimpleNamespace(
            nodeid=f"f.py::{name}[{value}-{number}]",
            name=f"{name}[{value}-{number}]",
            originalname=name,
            callspec=SimpleNamespace(params={"box": value, "walk": number}),
        )
        for number, value in enumerate(parameters)
    ]
    return cast("list[pytest.Item]", made)


def test_what_runs_in_memory_does_not_run_inside() -> None:
    """It would say nothing about a kernel."""
    items = _items("test_a", ["fake", "real", "fake"])
    assert chosen(items, 1) == [items[1]]


def test_of_walks_each_so_many_th_is_taken() -> None:
    """Of each walk at least one; of other tests all."""
    walk = _items("test_it_depends_on_the_state_and_not_on_the_path", ["real"] * 8)
    other = _items("test_b", ["real"] * 8)
    assert chosen([*walk, *other], 7) == [walk[0], walk[7], *other]
    assert chosen([*walk, *other], 1) == [*walk, *other]
