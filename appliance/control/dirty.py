"""What is out of date, when to look at it, and when to try again what was refused: the memories of the daemon's loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.kernel.port import Failure

#: Seconds before the first and, at most, between later attempts at what the kernel refused.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: Seconds between two looks at a subsystem at least; and a pause is at least so many times what the look took.
LEAST_PAUSE, SHARE = 0.2, 10


@dataclass(slots=True)
class Dirty:
    """What is out of date: the compiled state, or our picture of some subsystems."""

    compiled: bool = False
    subsystems: set[str] = field(default_factory=set)
    event: asyncio.Event = field(default_factory=asyncio.Event)

    def compile(self) -> None:
        """Mark the compiled state."""
        self.compiled = True
        self.event.set()

    def look(self, subsystems: Iterable[str]) -> None:
        """Mark subsystems to be read again."""
        self.subsystems.update(subsystems)
        self.event.set()

    def take(self) -> tuple[bool, set[str]]:
        """Return and clear what is marked."""
        taken = (self.compiled, self.subsystems)
        self.compiled, self.subsystems = False, set()
        self.event.clear()
        return taken


@dataclass(slots=True)
class Patience:
    """When to try again: at once and then ever more rarely while the same things are refused.

    What will not pass by itself is tried too, but rarely: a person may have mended it, and the kernel tells nobody.
    """

    what: frozenset[object] = frozenset()
    pause: float = FIRST_PAUSE
    due: float = 0.0

    def again(self, refused: Iterable[Failure], now: float) -> bool:
        """Tell whether it is time; the answer is yes once for each time."""
        failures = tuple(refused)
        what = frozenset((type(failure.fact), failure.fact.key) for failure in failures)
        if what != self.what:
            passing = any(failure.error.retry for failure in failures)
            self.what, self.pause = what, FIRST_PAUSE if passing else LONGEST_PAUSE
            self.due = now if passing else now + LONGEST_PAUSE
        if not what or now < self.due:
            return False
        self.due, self.pause = now + self.pause, min(2 * self.pause, LONGEST_PAUSE)
        return True


@dataclass(slots=True)
class Pace:
    """When to look at a subsystem that changes under us: at once, and then in pauses that grow with what looking costs.

    A pause is as long as the look and no longer where a device began or ceased to carry: what the kernel took with it
    is missing until somebody looks.
    """

    cost: float = 0.0
    ended: float = -math.inf
    urgent: bool = False

    def looked(self, cost: float, now: float) -> None:
        """Remember a look."""
        self.cost, self.ended, self.urgent = cost, now, False

    def due(self, now: float, *, urgent: bool) -> float:
        """Return when to look, for this reason and all since the last look."""
        self.urgent |= urgent
        return max(now, self.ended + max(LEAST_PAUSE, self.cost if self.urgent else SHARE * self.cost))
