from __future__ import annotations

import pytest

from routing.interop.cases.errors import CASES
from routing.interop.script import Case, Result
from tests.support.interop import caught, parameters, verdict

#: The faults that each case must find.
CAUGHT = {
    "origin-value": "harsh,sticky",
    "origin-length": "harsh,sticky",
    "origin-flags": "harsh,sticky",
    "no-origin": "harsh,sticky",
    "as-path": "harsh,sticky",
    "as-path-type": "harsh,sticky",
    "no-as-path": "harsh,sticky",
    "as-zero": "harsh,sticky",
    "next-hop-length": "harsh,sticky",
    "no-next-hop": "harsh,sticky",
    "med-length": "harsh,sticky",
    "communities-length": "harsh,sticky",
    "extended-communities-length": "harsh,sticky",
    "large-communities-length": "harsh,sticky",
    "attribute-cut-off": "harsh,sticky",
    "aggregator": "harsh,with 7",
    "atomic-aggregate": "harsh,with 6",
    "local-pref": "harsh,with 5",
    "originator-id": "harsh,with 9",
    "cluster-list": "harsh,with 10",
    "as4-path": "harsh,with 17",
    "twice": "harsh,repeating",
    "never-heard": "harsh,repeating",
    "unknown-well-known": "patient,vague,sticky",
    "prefix-length": "patient,vague,sticky",
    "two-reach": "patient,vague,sticky",
    "reach-next-hop": "patient,vague,sticky",
}
#: What our own engine does otherwise.
OTHERWISE: dict[str, Result] = {}


@pytest.mark.parametrize(("case", "mutants"), parameters(CASES, CAUGHT))
def test_a_case_is_content_with_who_is_right_and_not_with_who_is_wrong(case: Case, mutants: str) -> None:
    """Our own engine passes, the mutants do not."""
    found = verdict(case)
    assert found.result is OTHERWISE.get(case.name.partition("/")[2], Result.PASS), found.seen
    assert caught(case, mutants) == []
