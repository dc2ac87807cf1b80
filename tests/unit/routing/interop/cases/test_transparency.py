from __future__ import annotations

import pytest

from routing.interop.cases.transparency import CASES
from routing.interop.script import Case, Result
from tests.support.interop import caught, parameters, verdict

#: The faults that each case must find.
CAUGHT = {
    "next-hop": "without 3",
    "third-party-next-hop": "without 3",
    "as-path": "prepending",
    "long-as-path": "prepending",
    "med": "without 4",
    "med-zero": "without 4",
    "origin": "without 1",
    "aggregate": "without 6,without 7",
    "nothing-added": "adding",
    "communities": "without 8",
    "many-communities": "without 8",
    "extended-communities": "without 16",
    "non-transitive-communities": "without 16",
    "large-communities": "without 32",
    "unknown": "without 213",
    "unknown-partial": "without 213",
    "unknown-non-transitive": "with 213",
    "ipv6": "without 4,without 8,adding,prepending",
    "ipv6-third-party": "without 14",
    "ipv6-link-local": "without 14",
}
#: What our own engine does otherwise.
OTHERWISE: dict[str, Result] = {"ipv6-link-local": Result.DIFFERS}


@pytest.mark.parametrize(("case", "mutants"), parameters(CASES, CAUGHT))
def test_a_case_is_content_with_who_is_right_and_not_with_who_is_wrong(case: Case, mutants: str) -> None:
    """Our own engine passes, the mutants do not."""
    found = verdict(case)
    assert found.result is OTHERWISE.get(case.name.partition("/")[2], Result.PASS), found.seen
    assert caught(case, mutants) == []
