from __future__ import annotations

import pytest

from routing.interop.cases.sessions import CASES, LAST
from routing.interop.script import Case, Result
from tests.support.interop import caught, parameters, verdict

#: The faults that each case must find.
CAUGHT = {
    "open": "nameless",
    "ipv6": "silent,without 14",
    "four-octet-as": "picky,prepending",
    "old-speaker-hears": "without 17,prepending",
    "old-speaker-tells": "prepending,with 17",
    "no-capabilities": "prepending,picky",
    "unknown-capability": "picky,prepending",
    "repeated-capability": "picky,prepending",
    "parameters": "picky,prepending",
    "long-open": "picky,prepending",
    "same-identifier": "picky,prepending",
    "hold-time-zero": "picky,prepending",
    "keepalive": "breathless",
    "hold-timer": "patient,vague,sticky",
    "collision": "patient,harsh",
    "refresh": "silent,without 3",
    "refresh-other-family": "harsh",
    "shutdown": "sticky,silent",
    "lost": "sticky",
    "stop": "patient",
}
#: What our own engine does otherwise.
OTHERWISE: dict[str, Result] = {}


@pytest.mark.parametrize(("case", "mutants"), parameters((*CASES, LAST), CAUGHT))
def test_a_case_is_content_with_who_is_right_and_not_with_who_is_wrong(case: Case, mutants: str) -> None:
    """Our own engine passes, the mutants do not."""
    found = verdict(case)
    assert found.result is OTHERWISE.get(case.name.partition("/")[2], Result.PASS), found.seen
    assert caught(case, mutants) == []
