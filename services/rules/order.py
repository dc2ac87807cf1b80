"""Which rule must not come in a later stage than which other: the orders of all indexes, put together.

Called by `plan`. Only rules that overlap matter. Where indexes disagree about two rules, or about several round a
circle, these stand in one stage.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from services.rules.rule import Index, RuleId


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, the highest first: that bit is found without a walk."""
    while mask:
        number = mask.bit_length() - 1
        yield number
        mask ^= 1 << number


def numbered(indexes: Collection[Index]) -> list[RuleId]:
    """List the rules that some index has, roughly in the order in which they stand in the indexes."""
    places: dict[RuleId, tuple[float, int]] = {}
    for index in indexes:
        for place, rule in enumerate(index):
            total, count = places.get(rule, (0.0, 0))
            places[rule] = (total + place / len(index), count + 1)
    return sorted(places, key=lambda rule: (places[rule][0] / places[rule][1], rule))


class Precedence:
    """The demands of all indexes, as masks of rules that overlap a rule.

    `before` and `after` it in some index; `ahead` of it in every index that has it, so that it never decides beside one.
    """

    def __init__(self, indexes: Collection[Index], numbers: Mapping[RuleId, int], overlaps: Sequence[int]) -> None:
        """Take the rules by number, and the rules that overlap each."""
        self.before = [0] * len(numbers)
        self.after = [0] * len(numbers)
        self.ahead = list(overlaps)
        for index in indexes:
            order = [numbers[rule] for rule in index]
            seen, whole = 0, 0
            for number in order:
                whole |= 1 << number
            for number in order:
                if overlaps[number]:
                    overlap = overlaps[number] & whole
                    self.before[number] |= overlap & seen
                    self.after[number] |= overlap & ~seen
                    self.ahead[number] &= seen
                seen |= 1 << number

    def circles(self) -> list[int]:
        """Return the sets of rules that must share a stage, one rule alone too, as masks (Kosaraju's algorithm)."""
        finished: list[int] = []
        left = (1 << len(self.before)) - 1
        while left:
            left = _walk(left.bit_length() - 1, left, self.after, finished.append)
        left = (1 << len(self.before)) - 1
        found = []
        for number in reversed(finished):
            if left >> number & 1:
                rest = _walk(number, left, self.before, lambda _: None)
                found.append(left & ~rest)
                left = rest
        return found


def _walk(start: int, left: int, edges: Sequence[int], done: Callable[[int], object]) -> int:
    """Go depth first where nobody was; tell each rule when it is left for good, and return where nobody was now."""
    path = [start]
    left &= ~(1 << start)
    while path:
        if ahead := edges[path[-1]] & left:
            step = ahead.bit_length() - 1
            left &= ~(1 << step)
            path.append(step)
        else:
            done(path.pop())
    return left


def sequence(circles: Sequence[int], before: Sequence[int], keys: Sequence[object]) -> Iterator[int]:
    """Yield the places of circles so that none comes before one that must precede it; the smallest key first.

    Each one that waits watches one rule that it waits for, so that the pairs are never listed: there may be millions.
    """
    demands = [_demand(circle, before) for circle in circles]
    ready: list[tuple[object, int]] = []
    watchers: dict[int, list[int]] = {}
    done = 0

    def look(place: int) -> None:
        if missing := demands[place] & ~done:
            watchers.setdefault(missing.bit_length() - 1, []).append(place)
        else:
            heapq.heappush(ready, (keys[place], place))

    for place in range(len(circles)):
        look(place)
    while ready:
        _, place = heapq.heappop(ready)
        yield place
        done |= circles[place]
        for number in bits(circles[place]):
            for waiting in watchers.pop(number, ()):
                look(waiting)


def _demand(circle: int, before: Sequence[int]) -> int:
    if circle & (circle - 1) == 0:
        return before[circle.bit_length() - 1]
    found = 0
    for number in bits(circle):
        found |= before[number]
    return found & ~circle
