from __future__ import annotations

import pytest

from routing.interop.cases.options import CASES
from routing.interop.script import Case, Result
from tests.support.interop import caught, parameters, verdict

#: The faults that each case must find.
CAUGHT = {
    "long-message": "without 8",
    "too-long-message": "sticky,repeating",
    "role": "nameless",
    "role-mismatch": "role",
    "otc-added": "role",
    "otc-leak": "role",
    "no-policy-in": "repeating",
    "no-policy-out": "repeating",
}


@pytest.mark.parametrize(("case", "mutants"), parameters(CASES, CAUGHT))
def test_a_case_is_content_with_who_is_right_and_not_with_who_is_wrong(case: Case, mutants: str) -> None:
    """Our own engine passes, the mutants do not."""
    found = verdict(case)
    assert found.result is Result.PASS, found.seen
    assert caught(case, mutants) == []
