"""Which rule goes to which stage.

Called by `compile`. Rules that cross many others go to a stage of their own kind, as far as the orders of the indexes
allow. A plan is made for each of a few limits of how many crossing rules a rule may find in a stage; `compile` takes the
cheapest. It depends on the content of the rules and nothing else, so that the same rules are always divided alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.rules.order import Precedence, bits, sequence
from services.rules.relations import Relations

#: What a look-up in one more stage may cost in regions.
STAGE_COST: Final = 5000
#: How broad a rule is in each field: many others begin inside it (1), or more than half of them (2).
Kind = tuple[int, ...]
#: A rule's kind and its name.
Key = tuple[Kind, str]
_LIMITS: Final = (0, 4, 32, 256)
#: How broad a rule is when it may not stand beside narrower ones; never for the last.
_APART: Final = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of each stage, as masks, and roughly what it costs at least."""

    stages: tuple[int, ...]
    cost: int


class Planner:
    """Makes plans for one universe of rules; keys tell kinds of rules apart and give the order among them."""

    def __init__(self, relations: Relations, precedence: Precedence, keys: Sequence[Key], most: int) -> None:
        """Look the crossings up once."""
        self._circles = precedence.circles()
        self._before = precedence.before
        #: Narrow rules first, and broad ones first, as far as the indexes allow either.
        self._orders = [
            self._ordered([(tuple(sign * one for one in kind), name) for kind, name in keys]) for sign in (1, -1)
        ]
        self._most = most
        self._kinds = [kind[:2] for kind, _ in keys]
        self.crossings = [relations.crossing(number) for number in range(len(keys))]

    def plans(self) -> list[Plan]:
        """Return the plans worth a try, the cheapest first."""
        narrow, broad = self._orders
        together = self._plan(narrow, len(self.crossings), 3)
        if together.cost == STAGE_COST and len(set(self._kinds)) == 1:
            return [together]
        plans = (
            together,
            *(self._plan(order, limit, apart) for order in (narrow, broad) for apart in _APART for limit in _LIMITS),
        )
        found = {plan.stages: plan for plan in plans}
        return sorted(found.values(), key=lambda plan: (plan.cost, len(plan.stages)))

    def _ordered(self, keys: Sequence[Key]) -> list[int]:
        """Return the circles in an order in which they may be placed."""
        first = [min((keys[number], number) for number in bits(circle)) for circle in self._circles]
        return [self._circles[place] for place in sequence(self._circles, self._before, first)]

    def _plan(self, order: Sequence[int], limit: int, apart: int) -> Plan:
        """Put each rule into the first stage that the order allows and where it crosses few others.

        Also as broad as the rules there, from `apart` on: a broad rule is cut along all that is narrow beside it, even
        where they do not overlap.
        """
        stages: list[int] = []
        kinds: list[Kind] = []
        crossed = 0
        for circle in order:
            kind = tuple(int(broad >= apart) for broad in self._kinds[circle.bit_length() - 1])
            place, crosses = min(self._offers(circle, stages, [limit if kind == one else -1 for one in kinds]))[1:]
            if place == len(stages):
                stages.append(0)
                kinds.append(kind)
            stages[place] |= circle
            crossed += crosses
        return Plan(tuple(stages), len(stages) * STAGE_COST + crossed)

    def _offers(self, circle: int, stages: Sequence[int], limits: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yield the stages a circle may go to: how bad that is, which one, how many crossings it makes."""
        numbers = list(bits(circle))
        first = 0
        for place, stage in enumerate(stages):
            if any(self._before[number] & stage for number in numbers):
                first = place
        for place in range(first, len(stages)):
            counts = [(self.crossings[number] & (stages[place] | circle)).bit_count() for number in numbers]
            if max(counts) <= limits[place]:
                yield 0, place, sum(counts)
                return
            yield 2 + max(counts), place, sum(counts)
        if len(stages) < self._most:
            inside = sum((self.crossings[number] & circle).bit_count() for number in numbers)
            yield 1, len(stages), inside
