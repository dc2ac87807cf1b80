from __future__ import annotations

import pytest

from routing.interop.cases.routes import CASES
from routing.interop.script import Case, Result
from tests.support.interop import caught, parameters, verdict

#: The faults that each case must find.
CAUGHT = {
    "withdraw": "sticky,repeating",
    "withdraw-ipv6": "sticky",
    "both": "sticky",
    "withdraw-unknown": "harsh",
    "implicit-withdraw": "prepending",
    "best-path": "prepending,without 3",
    "next-best": "prepending,without 3",
    "as-loop": "repeating",
    "not-back": "repeating",
    "own-best": "silent,prepending",
    "path-hiding": "silent",
    "late-comer": "silent,prepending",
    "lengths": "silent",
    "host-bits": "silent",
    "many": "sticky",
    "many-different": "without 4",
    "many-ipv6": "without 14",
}
#: What our own engine does otherwise.
OTHERWISE: dict[str, Result] = {"path-hiding": Result.DIFFERS}


@pytest.mark.parametrize(("case", "mutants"), parameters(CASES, CAUGHT))
def test_a_case_is_content_with_who_is_right_and_not_with_who_is_wrong(case: Case, mutants: str) -> None:
    """Our own engine passes, the mutants do not."""
    found = verdict(case)
    assert found.result is OTHERWISE.get(case.name.partition("/")[2], Result.PASS), found.seen
    assert caught(case, mutants) == []
