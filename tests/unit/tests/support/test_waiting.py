"""Waiting ends with the truth, or says what never became true."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.waiting import eventually, eventually_async


def test_the_first_true_answer_is_returned() -> None:
    """Falsy answers mean: not yet."""
    answers: Iterator[object] = iter([None, 0, [], "there"])
    assert eventually(lambda: next(answers)) == "there"


def test_an_assertion_error_means_not_yet() -> None:
    """A probe may assert instead of returning something false."""
    calls = []

    def probe() -> bool:
        calls.append(1)
        assert len(calls) == 3
        return True

    assert eventually(probe)


def test_a_missed_deadline_names_the_wish_and_the_last_value() -> None:
    """Whoever reads the failure must see what was waited for and how far it came."""
    with pytest.raises(AssertionError, match=r"the route is there.*returned \[\]"):
        eventually(list, within=0.0, what="the route is there")


def test_a_missed_deadline_carries_the_last_assertion() -> None:
    """The assertion inside the probe says more than the wish."""

    def refuse() -> bool:
        message = "two routes"
        raise AssertionError(message)

    with pytest.raises(AssertionError, match=r"one route.*raised: two routes") as caught:
        eventually(refuse, within=0.0, what="one route")
    assert isinstance(caught.value.__cause__, AssertionError)


def test_another_exception_is_a_failure_at_once() -> None:
    """A broken probe is no reason to wait."""
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 / 0)


async def test_a_coroutine_is_awaited_and_its_answer_returned() -> None:
    """The probe of the asynchronous twin may be of either kind."""
    answers = iter([False, True])

    async def probe() -> bool:
        return next(answers)

    assert await eventually_async(probe)
    assert await eventually_async(lambda: 7) == 7


async def test_the_asynchronous_twin_misses_its_deadline_too() -> None:
    """Both say the same."""
    with pytest.raises(AssertionError, match=r"peace.*returned None"):
        await eventually_async(lambda: None, within=0.0, what="peace")
