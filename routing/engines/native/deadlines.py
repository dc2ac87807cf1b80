"""When somebody wants to be woken, for many of whom most move their deadline away again before it comes.

Called by `routing.engines.native.core`. Pure. A deadline that moves later costs nothing until the earlier one has come: then
its owner is looked at, and noted again. RFC 4271's hold timer does just that with every message.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """At most one deadline for each key, never later than the one last noted."""

    def __init__(self) -> None:
        """Start with none."""
        self._heap: list[tuple[float, int, K]] = []
        self._at: dict[K, float] = {}
        self._number = count()

    def note(self, key: K, due: float | None) -> None:
        """Note when a key is due; one that is later than known, or None, is found out when the known one has come."""
        if due is None:
            return
        known = self._at.get(key)
        if known is None or due < known:
            self._at[key] = due
            heapq.heappush(self._heap, (due, next(self._number), key))

    def next(self) -> float | None:
        """Return the earliest deadline."""
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> list[K]:
        """Return and forget the keys whose noted deadline has come."""
        found = []
        while (first := self.next()) is not None and first <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._at[key]
            found.append(key)
        return found
