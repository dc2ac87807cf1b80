"""Compile rules and the orders in which indexes have them into stages of disjoint regions (design 0004).

A packet's region in a stage gives the set of rules that cover it there; the first of them in the order of the index
decides, and if none of them is in the index the next stage is asked. So the regions are shared by all indexes. Pure:
what comes out depends on the content of the rules, never on the order of a mapping.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.model.errors import Finding, InternalError, OperatorError
from services.rules.order import Precedence, bits, numbered
from services.rules.plan import STAGE_COST, Key, Plan, Planner
from services.rules.regions import Cutter, TooManyError, field_order
from services.rules.relations import Relations
from services.rules.rule import FIELDS, Box, Field, Index, Match, Packet, RuleId, Spans

MOST_REGIONS: Final = 500_000
MOST_STAGES: Final = 16
#: Numbers of sets are 1 to this.
SETS: Final = 2**20 - 1
#: What an element that matches the first field costs, in regions (a look-up in a stage is as dear as about 16 of them).
_CROWD_COST: Final = STAGE_COST // 16
#: Regions that are nothing to worry about; beyond, plans are sought that need few for each rule.
_SPARE: Final = 10_000
#: A value is broad if more than so many others begin inside it.
_BROAD: Final = 8


class RulesMultiplyError(OperatorError):
    """The overlap of some rules needs more regions than allowed; `rules` are those that cross the most others."""

    rules: tuple[RuleId, ...] = ()

    @classmethod
    def among(cls, rules: tuple[RuleId, ...], most: int) -> RulesMultiplyError:
        """Name the rules."""
        message = f"the rules overlap in more than {most} ways; these cross the most others: {', '.join(rules)}"
        hint = "give them the same source or destination, or put them behind the rules that they cross"
        error = cls((Finding(0, 0, "", message, hint),))
        error.rules = rules
        return error


@dataclass(frozen=True, slots=True)
class Stage:
    """One look-up: disjoint regions, the set of rules that covers each, and the order of fields that is cheap."""

    order: tuple[Field, ...]
    regions: Mapping[Box, int]
    sets: Mapping[int, tuple[RuleId, ...]]

    def covering(self, packet: Packet) -> tuple[RuleId, ...]:
        """Return the rules that may decide about a packet."""
        for box, number in self.regions.items():
            if all(low <= value <= high for (low, high), value in zip(box, packet, strict=True)):
                return self.sets[number]
        return ()


@dataclass(frozen=True, slots=True)
class Stages:
    """All look-ups in order. A number means the same set of rules in every stage."""

    stages: tuple[Stage, ...]

    @property
    def sets(self) -> dict[int, tuple[RuleId, ...]]:
        """Return the sets of all stages."""
        return {number: rules for stage in self.stages for number, rules in stage.sets.items()}

    def decide(self, index: Index, packet: Packet) -> RuleId | None:
        """Return the rule that decides, as the packet path finds it."""
        for stage in self.stages:
            covering = stage.covering(packet)
            if found := first(index, covering):
                return found
        return None


def first(index: Index, rules: Collection[RuleId]) -> RuleId | None:
    """Return the rule of a set that comes first in an index."""
    return next((rule for rule in index if rule in rules), None)


def compile_rules(
    rules: Mapping[RuleId, Match],
    indexes: Collection[Index],
    *,
    most_regions: int = MOST_REGIONS,
    most_stages: int = MOST_STAGES,
) -> Stages:
    """Compile the rules that some index has; refuse rules that multiply beyond `most_regions`."""
    return _Compiler(rules, indexes, most_regions).stages(most_stages)


class _Compiler:
    """One compile: rules are numbers, sets of rules are masks."""

    def __init__(self, rules: Mapping[RuleId, Match], indexes: Collection[Index], most: int) -> None:
        matches = {rule: rules[rule].merged() for rule in set().union(*indexes)}
        held = [tuple(rule for rule in index if all(matches[rule])) for index in indexes]
        self._names = numbered(held)
        self._matches = [matches[name] for name in self._names]
        numbers = {name: number for number, name in enumerate(self._names)}
        self._relations = Relations(self._matches)
        self._precedence = Precedence(held, numbers, self._relations.overlaps)
        self._most = most

    def stages(self, most_stages: int) -> Stages:
        """Try the plans with few regions first: most that is tried in vain is given up early."""
        if not self._names:
            return Stages(())
        planner = Planner(self._relations, self._precedence, self._keys(), most_stages)
        plans = planner.plans()
        budget = 4 * len(self._names) + _SPARE
        while not (best := self._best(plans, min(budget, self._most))):
            if budget >= self._most:
                raise RulesMultiplyError.among(self._worst(planner.crossings), self._most)
            budget *= 8
        return self._named(best)

    def _best(self, plans: Sequence[Plan], budget: int) -> list[Cutting]:
        """Return the cheapest of the plans that need no more regions than this; nothing if all need more."""
        best: list[Cutting] = []
        cost = 0
        for plan in plans:
            if best and cost <= plan.cost:
                break
            if cuttings := self._cut(plan, min(budget, cost) if best else budget):
                new = sum(cutting.cost for cutting in cuttings)
                if not best or new < cost:
                    best, cost = cuttings, new
        return best

    def _keys(self) -> list[Key]:
        """Give each rule its kind: in which fields it is broad, beside the others."""
        broad = [_broad([match[field] for match in self._matches]) for field in (0, 1, 3, 2)]
        return list(zip(zip(*broad, strict=True), self._names, strict=True))

    def _cut(self, plan: Plan, most: int) -> list[Cutting]:
        """Cut every stage of a plan; nothing if that takes more regions than allowed."""
        made: list[Cutting] = []
        for stage in plan.stages:
            order = field_order([self._matches[number] for number in bits(stage)])
            cutter = Cutter(self._matches, self._precedence.ahead, order, most - sum(one.size for one in made))
            try:
                made.append(Cutting(cutter, cutter.cut(stage), order))
            except TooManyError:
                return []
        return made

    def _worst(self, crossings: Sequence[int], count: int = 10) -> tuple[RuleId, ...]:
        ranked = sorted(range(len(crossings)), key=lambda number: (-crossings[number].bit_count(), self._names[number]))
        return tuple(self._names[number] for number in ranked[:count])

    def _named(self, cuttings: Sequence[Cutting]) -> Stages:
        """Turn masks into sets with numbers."""
        boxes = [dict(cutting.cutter.boxes(cutting.root)) for cutting in cuttings]
        sets = {mask: self._rules(mask) for found in boxes for mask in found.values()}
        numbers = number_sets(sets.values())
        return Stages(
            tuple(
                Stage(
                    tuple(FIELDS[field] for field in cutting.order),
                    {box: numbers[sets[mask]] for box, mask in found.items()},
                    {numbers[sets[mask]]: sets[mask] for mask in set(found.values())},
                )
                for cutting, found in zip(cuttings, boxes, strict=True)
            )
        )

    def _rules(self, mask: int) -> tuple[RuleId, ...]:
        return tuple(sorted(self._names[number] for number in bits(mask)))


@dataclass(frozen=True, slots=True)
class Cutting:
    """A stage that is cut, before its regions are written out."""

    cutter: Cutter
    root: int
    order: tuple[int, ...]

    @property
    def size(self) -> int:
        """Return the number of regions."""
        return self.cutter.sizes[self.root]

    @property
    def cost(self) -> int:
        """Return what the stage costs: its look-up, its regions, and the elements that match the first field."""
        crowd = max(self.cutter.sizes[piece[2]] for piece in self.cutter.nodes[self.root])
        return STAGE_COST + self.size + _CROWD_COST * crowd


def _broad(values: Sequence[Spans]) -> list[int]:
    """Tell how broad each value is beside the others."""
    starts = sorted({span[0] for value in values for span in value})
    inside = [sum(bisect_right(starts, high) - bisect_right(starts, low) for low, high in value) for value in values]
    return [(count > _BROAD) + (count > _BROAD and 2 * count > len(starts)) for count in inside]


def number_sets(sets: Collection[tuple[RuleId, ...]]) -> dict[tuple[RuleId, ...], int]:
    """Number sets of rules by their content; of two that want one number the second takes the next that is free."""
    if len(sets) > SETS:
        raise InternalError(f"{len(sets)} sets of rules need numbers, there are {SETS}")
    wanted = sorted({(_digest(rules), rules) for rules in sets})
    taken: set[int] = set()
    numbers: dict[tuple[RuleId, ...], int] = {}
    for digest, rules in wanted:
        number = digest % SETS
        while number in taken:
            number = (number + 1) % SETS
        taken.add(number)
        numbers[rules] = number + 1
    return numbers


def _digest(rules: tuple[RuleId, ...]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(rules).encode(), digest_size=8).digest())
