"""When the garbage collector runs: never in the middle of a burst, and never over what has lived through it once.

Called by the process's loop. Paths live long and are let go by reference; the collector's own occasions are numbers of objects
made, so it would walk over a growing table again and again while that is being told. What is left for it are cycles of
sessions that ended.
"""

from __future__ import annotations

import gc
from typing import Final

#: Seconds between two collections.
PAUSE: Final = 60.0


class Tidying:
    """The occasions to collect."""

    def __init__(self, now: float) -> None:
        """Take them from the collector."""
        gc.disable()
        self._next = now + PAUSE

    def quiet(self, now: float) -> None:
        """Collect if it is time: little happens."""
        if now >= self._next:
            self._next = now + PAUSE
            gc.collect()
            gc.freeze()
