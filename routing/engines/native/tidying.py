"""When the garbage collector runs: never in the middle of a burst, and the more rarely the longer it takes.

Called by the process's loop. Paths live long and are let go by reference; the collector's own occasions are numbers of objects
made, so it would walk over a growing table again and again while that is being told. What is left for it are cycles of
sessions that ended.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

#: Seconds between two collections, and how many times as long as the last one took.
PAUSE: Final = 30.0
SHARE: Final = 300.0


class Tidying:
    """The occasions to collect."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take them from the collector."""
        gc.disable()
        self._clock = clock
        self._next = clock() + PAUSE

    def quiet(self, now: float) -> None:
        """Collect if it is time: little happens."""
        if now >= self._next:
            begun = self._clock()
            gc.collect()
            ended = self._clock()
            self._next = ended + max(PAUSE, SHARE * (ended - begun))
