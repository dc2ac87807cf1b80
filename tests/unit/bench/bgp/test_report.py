from __future__ import annotations

from pathlib import Path

from bench.bgp.contest import Phase
from bench.bgp.dut import Command, Dut
from bench.bgp.duts import OURS, REFERENCE
from bench.bgp.exchange import Exchange
from bench.bgp.report import Bounds, rounds, rows, three
from bench.bgp.tester import Failed


class Fake(Dut):
    """A server that is never started."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def available(self) -> bool:
        """Tell that it is."""
        return True

    def commands(self, home: Path, at: Exchange) -> list[Command]:
        """Start nothing."""
        return []


def test_the_order_is_reversed_every_second_round() -> None:
    """What disturbs the machine for long disturbs all alike."""
    order: list[str] = []

    def once(dut: Dut) -> dict[str, list[Phase]]:
        order.append(dut.name)
        return {}

    rounds("x", [Fake("a"), Fake("b")], 3, once)
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_who_fails_or_takes_long_has_no_more_rounds() -> None:
    """Others go on."""
    asked: list[str] = []

    def once(dut: Dut) -> dict[str, list[Phase]]:
        asked.append(dut.name)
        if dut.name == "fails":
            raise Failed("no")
        return {"all": [Phase(100.0 if dut.name == "slow" else 1.0, 1.0, 1.0)]}

    seen = rounds("x", [Fake("fails"), Fake("slow"), Fake("quick")], 3, once)
    assert (asked.count("fails"), asked.count("slow"), asked.count("quick")) == (1, 1, 3)
    assert seen["fails"] == {}
    assert len(seen["quick"]["all"]) == 3


def test_a_row_tells_whether_all_that_was_promised_is_kept() -> None:
    """One bound that is broken is enough."""
    seen = {OURS: {"all": [Phase(1.0, 1.0, 10.0)]}, REFERENCE: {"all": [Phase(10.0, 2.0, 10.0)]}}
    (ours, reference) = rows("w", seen, {"all": Bounds(0.4, 0.4)})
    assert (ours["x s"], ours["x CPU"], ours["met"]) == (0.1, 0.5, False)
    assert "met" not in reference
    assert rows("w", seen, {"all": Bounds(0.4, 0.5)})[0]["met"]


def test_ratios_are_of_rounds_that_both_had() -> None:
    """The reference may have had one only."""
    seen = {OURS: {"all": [Phase(1.0, 1.0, 1.0), Phase(100.0, 1.0, 1.0)]}, REFERENCE: {"all": [Phase(2.0, 1.0, 1.0)]}}
    row = rows("w", seen, {"all": Bounds(1.0)})[0]
    assert (row["x s"], row["rounds"]) == (0.5, 1)


def test_who_has_nothing_to_show_has_a_row_without_numbers() -> None:
    """A failure is seen in the table."""
    (row,) = rows("w", {OURS: {}}, {"all": Bounds(1.0)})
    assert row == {"what": "w: all", "by": OURS, "met": False}


def test_three_digits_tell_enough() -> None:
    """Small and large."""
    assert (three(0.000123456), three(1234.5)) == (0.000123, 1230.0)
