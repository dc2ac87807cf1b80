from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from routing.engines.native.tidying import PAUSE, SHARE, Tidying


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """Leave the collector as it was."""
    yield
    gc.enable()


class Ring:
    """What only the collector can remove."""

    def __init__(self) -> None:
        """Hold oneself."""
        self.me = self


class Clock:
    """A clock that a collection moves on."""

    def __init__(self, takes: float) -> None:
        """Move on by so much whenever it is looked at."""
        self.now, self.takes = 0.0, takes

    def __call__(self) -> float:
        """Tell the time."""
        self.now += self.takes
        return self.now


def test_cycles_go_when_it_is_time_and_not_before() -> None:
    """However many objects are made meanwhile."""
    tidying = Tidying(lambda: 0.0)
    assert not gc.isenabled()
    left = weakref.ref(Ring())
    tidying.quiet(PAUSE - 1)
    assert left() is not None
    tidying.quiet(PAUSE)
    assert left() is None


def test_what_takes_long_is_done_rarely() -> None:
    """A share of the time, whatever the size of the table."""
    clock = Clock(takes=2.0)
    tidying = Tidying(clock)
    tidying.quiet(clock.now + PAUSE)
    left = weakref.ref(Ring())
    tidying.quiet(clock.now + SHARE * clock.takes - 1)
    assert left() is not None
    tidying.quiet(clock.now + SHARE * clock.takes)
    assert left() is None
