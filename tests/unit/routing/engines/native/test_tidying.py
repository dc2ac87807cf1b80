from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from routing.engines.native.tidying import PAUSE, Tidying


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """Leave the collector as it was."""
    yield
    gc.unfreeze()
    gc.enable()


class Ring:
    """What only the collector can remove."""

    def __init__(self) -> None:
        """Hold oneself."""
        self.me = self


def test_cycles_go_when_it_is_time_and_not_before() -> None:
    """However many objects are made meanwhile."""
    tidying = Tidying(0)
    assert not gc.isenabled()
    left = weakref.ref(Ring())
    tidying.quiet(PAUSE - 1)
    assert left() is not None
    tidying.quiet(PAUSE)
    assert left() is None


def test_what_lived_through_it_is_not_looked_at_again() -> None:
    """A collection costs what was made since the last one."""
    kept = [[number] for number in range(1000)]
    Tidying(0).quiet(PAUSE)
    assert gc.get_freeze_count() >= len(kept)
    assert not any(kept is found for found in gc.get_objects())
