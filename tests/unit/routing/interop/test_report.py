from __future__ import annotations

from routing.interop import report
from routing.interop.cases import ALL, chosen, world
from routing.interop.run import Row
from routing.interop.script import Result, Verdict

ONE, TWO = ALL[0], ALL[1]
RESULTS = {
    "bird": [Row(ONE, Verdict(Result.PASS), 1.0), Row(TWO, Verdict(Result.FAIL, "seen"), 2.0)],
    "frr": [Row(ONE, Verdict(Result.NOT_SUPPORTED), 0.1), Row(TWO, Verdict(Result.DIFFERS, "other"), 0.2)],
}


def test_the_table_has_a_row_for_each_case_and_a_column_for_each_device() -> None:
    """In the order in which they were run."""
    assert report.table(RESULTS) == [
        {"case": ONE.name, "RFC": "4271 4.2", "": "MUST", "bird": "pass", "frr": "not supported"},
        {"case": TWO.name, "RFC": "4760 8", "": "MUST", "bird": "fail", "frr": "differs"},
    ]


def test_what_was_seen_is_told_where_it_is_not_as_it_should_be() -> None:
    """With the RFC."""
    assert [(row["device"], row["case"], row["seen"]) for row in report.details(RESULTS)] == [
        ("bird", TWO.name, "seen"),
        ("frr", TWO.name, "other"),
    ]


def test_results_are_counted() -> None:
    """For each device, with the time that they took."""
    bird, frr = report.counts(RESULTS)
    assert (bird["pass"], bird["fail"], bird["seconds"]) == (1, 1, 3)
    assert (frr["differs"], frr["not supported"], frr["fail"]) == (1, 1, 0)


def test_only_what_must_be_makes_it_fail() -> None:
    """A SHOULD that is not done is no failure; not to know is one."""
    assert report.failed(RESULTS)
    assert not report.failed({"frr": RESULTS["frr"]})
    assert report.failed({"x": [Row(ONE, Verdict(Result.ERROR))]})


def test_programs_get_everything() -> None:
    """Cases with their words, results with what was seen."""
    found = report.document(RESULTS)["cases"][1]
    assert found["what must be"] == TWO.text
    assert found["results"]["bird"] == {"result": "fail", "seen": "seen", "seconds": 2.0}


def test_a_configuration_by_hand_is_told_what_it_must_hold() -> None:
    """The device, the witnesses, every member with what is special about it."""
    rows = report.neighbors(world(chosen(["options", "routes/path-hiding"])))
    assert [row["who"] for row in rows[:4]] == ["the router", "the router", "witnesses/w", "witnesses/w6"]
    special = {row["also"] for row in rows if row["also"]}
    assert {"no policy", "role: route server"} < special
    assert any(str(what).startswith("gets no route whose path begins with 65") for what in special)
