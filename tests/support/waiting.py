"""Wait for what another process or the kernel is about to make true: poll with a deadline, never sleep and hope.

Tests of every kind call this. The deadline is generous because it is paid only by a test that fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.2


class _Unsettled:
    """What the probe said last, kept for the message of the failure."""

    def __init__(self, what: str, within: float, longest: float = LONGEST_PAUSE) -> None:
        self.what = what
        self.within = within
        self.last: object = None
        self.cause: AssertionError | None = None
        self.deadline = time.monotonic() + within
        self.pause, self.longest = FIRST_PAUSE, longest

    def refused(self, cause: AssertionError) -> None:
        self.cause = cause

    def falsy(self, value: object) -> None:
        self.last, self.cause = value, None

    def next_pause(self) -> float:
        """Return how long to wait before the next try, longer each time; raise once the deadline has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            said = f"it raised: {self.cause}" if self.cause is not None else f"it returned {self.last!r}"
            message = f"not within {self.within:g} s: {self.what}; when last asked, {said}"
            raise AssertionError(message) from self.cause
        pause = min(self.pause, left)
        self.pause = min(self.pause * 2, self.longest)
        return pause


def eventually(
    probe: Callable[[], T], *, within: float = 30.0, what: str = "the condition holds", pause: float = LONGEST_PAUSE
) -> T:
    """Call `probe` until it returns something true; return that. An AssertionError inside it means: not yet.

    `pause` is the longest time between two calls, seconds: longer where asking costs those who are asked.

    A probe made of assertions only must end with `return True`. Any other exception is a failure at once.
    """
    state = _Unsettled(what, within, pause)
    while True:
        try:
            if value := probe():
                return value
            state.falsy(value)
        except AssertionError as error:
            state.refused(error)
        time.sleep(state.next_pause())


@overload
async def eventually_async(probe: Callable[[], Awaitable[T]], *, within: float = ..., what: str = ...) -> T: ...
@overload
async def eventually_async(probe: Callable[[], T], *, within: float = ..., what: str = ...) -> T: ...
async def eventually_async(
    probe: Callable[[], T | Awaitable[T]], *, within: float = 30.0, what: str = "the condition holds"
) -> T:
    """Do as `eventually` without holding up the event loop; the probe may be a coroutine function."""
    state = _Unsettled(what, within)
    while True:
        try:
            answer = probe()
            value = await answer if isinstance(answer, Awaitable) else answer
            if value:
                return value
            state.falsy(value)
        except AssertionError as error:
            state.refused(error)
        await asyncio.sleep(state.next_pause())
