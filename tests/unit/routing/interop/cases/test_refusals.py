from __future__ import annotations

import pytest

from routing.interop.cases.refusals import CASES
from routing.interop.script import Case, Result
from tests.support.interop import caught, parameters, verdict

#: The faults that each case must find.
CAUGHT = {
    "marker": "patient,vague",
    "length-18": "patient,vague",
    "length-4097": "patient,vague",
    "keepalive-length": "patient,vague",
    "type": "patient,vague",
    "second-open": "patient,vague",
    "update-first": "patient,vague",
    "version": "patient,vague",
    "as": "patient,vague",
    "identifier": "patient,vague",
    "hold-time-1": "patient,vague",
    "hold-time-2": "patient,vague",
    "parameter": "patient,vague",
    "capability-cut-off": "patient,vague",
    "no-family": "patient,vague",
}
#: What our own engine does otherwise.
OTHERWISE: dict[str, Result] = {}


@pytest.mark.parametrize(("case", "mutants"), parameters(CASES, CAUGHT))
def test_a_case_is_content_with_who_is_right_and_not_with_who_is_wrong(case: Case, mutants: str) -> None:
    """Our own engine passes, the mutants do not."""
    found = verdict(case)
    assert found.result is OTHERWISE.get(case.name.partition("/")[2], Result.PASS), found.seen
    assert caught(case, mutants) == []
