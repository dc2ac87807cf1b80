"""Five routers and all cases of `edgeway interop`: what each of them does is kept, so that a change is seen.

The results are those of the versions that Debian 12 has; EDGEWAY_GOLDEN=write writes them anew. What is not in the file is how
long it took and what exactly was seen.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from routing.interop import report
from routing.interop.cases import ALL
from routing.interop.dialects import DIALECTS
from routing.interop.run import Dut, Row, run, run_all
from routing.interop.script import Result

pytestmark = [pytest.mark.kernel, pytest.mark.engine]
GOLDEN = Path(__file__).with_suffix(".golden")


@pytest.fixture(scope="module")
def results() -> dict[str, list[Row]]:
    """Play all cases at all devices, all at once: they wait most of the time."""
    duts = [Dut(name, dialect, dialect.command) for name, dialect in DIALECTS.items()]
    found = run_all(duts, lambda dut, stop: run(dut, stop=stop), len(duts))
    return dict(zip(DIALECTS, found, strict=True))


def text(results: dict[str, list[Row]]) -> str:
    """Write the table: a line for each case."""
    rows = report.table(results)
    head = f"{'':40}" + "".join(f"{name:16}" for name in results)
    lines = [f"{row['case']:40}" + "".join(f"{row[name]:16}" for name in results) for row in rows]
    return "\n".join(line.rstrip() for line in [head, *lines]) + "\n"


def test_every_device_does_what_it_did(results: dict[str, list[Row]]) -> None:
    """The table is the one that is kept."""
    found = text(results)
    if os.environ.get("EDGEWAY_GOLDEN") == "write":
        GOLDEN.write_text(found)
    seen = {(row["device"], row["case"]): row["seen"] for row in report.details(results)}
    wanted = GOLDEN.read_text().splitlines()
    assert found.splitlines() == wanted, "\n".join(map(str, seen.items()))


def test_our_own_engine_breaks_no_must(results: dict[str, list[Row]]) -> None:
    """Whatever the table says."""
    count = Counter(row.verdict.result for row in results["edgeway"])
    assert (count[Result.FAIL], count[Result.ERROR]) == (0, 0)
    assert count[Result.PASS] > 100


def test_every_case_that_can_be_passed_is_passed_by_somebody(results: dict[str, list[Row]]) -> None:
    """A sentence that nobody keeps is perhaps none of the RFC."""
    passed = {row.case.name for rows in results.values() for row in rows if row.verdict.result is Result.PASS}
    assert {case.name for case in ALL} - passed == set()
