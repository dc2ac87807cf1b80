from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Event

import pytest

from appliance.model.errors import OperatorError
from routing.interop.cases import ALL, chosen
from routing.interop.dialects import DIALECTS
from routing.interop.dialects.dialect import Dialect
from routing.interop.run import Dut, Row, run, run_all
from routing.interop.script import Case, Result, Stop

pytestmark = [pytest.mark.kernel, pytest.mark.engine]
OURS = DIALECTS["edgeway"]


def dut(dialect: Dialect = OURS, command: str = "") -> Dut:
    """Return a device."""
    return Dut("dut", dialect, command or dialect.command)


def results(rows: Sequence[Row]) -> dict[str, Result]:
    """Return what came of each case."""
    return {row.case.name: row.verdict.result for row in rows}


def test_our_own_engine_plays_its_cases_one_by_one() -> None:
    """What its dialect cannot say is not configured; progress is told row by row."""
    told: list[Row] = []
    rows = run(dut(), chosen(["sessions/open", "transparency/as-path", "routes/path-hiding"]), progress=told.append)
    assert results(rows) == {
        "sessions/open": Result.PASS,
        "transparency/as-path": Result.PASS,
        "routes/path-hiding": Result.NOT_CONFIGURED,
    }
    assert told == rows


def test_a_device_that_dies_fails_the_case_and_is_started_again() -> None:
    """With its last words."""
    (good,) = chosen(["sessions/open"])
    deadly = replace(good, name="sessions/ipv6", acts=(*good.acts, Stop(), *chosen(["sessions/lost"])[0].acts))
    killer = f"{OURS.command}"
    rows = run(Dut("dut", OURS, killer), (good, deadly, chosen(["sessions/lost"])[0]))
    assert [row.verdict.result for row in rows] == [Result.PASS, Result.FAIL, Result.PASS]


def test_a_device_that_does_not_start_is_told_with_its_last_words() -> None:
    """There is nothing to judge."""
    with pytest.raises(OperatorError, match=r"status 7(?s:.)*no such option"):
        run(dut(command="sh -c 'echo no such option; exit 7'"), chosen(["sessions/open"]))
    with pytest.raises(OperatorError, match="not there"):
        run(dut(command="no-such-router"), chosen(["sessions/open"]))


def test_one_that_cannot_be_asked_ends_the_others() -> None:
    """Nobody waits for them."""
    duts = [dut(), dut(command="false")]

    def play(one: Dut, stop: Event) -> list[Row]:
        return run(one, ALL, stop=stop)

    with pytest.raises(OperatorError, match="status 1"):
        run_all(duts, play, 2)


def test_several_are_asked_at_once() -> None:
    """Each in a place of its own."""
    cases: tuple[Case, ...] = chosen(["sessions/open"])
    found = run_all([dut(), dut()], lambda one, stop: run(one, cases, stop=stop), 2)
    assert [results(rows) for rows in found] == [{"sessions/open": Result.PASS}] * 2
