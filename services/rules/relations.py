"""Which rules overlap and which of them cross, for all rules of a universe at once: bit N of a mask is rule N.

Called by `stages`. Two rules cross if one is wider in one field and the other in another: 100 rules by source and 100 by
destination that all cross need 10,000 regions when they are cut together, nested ones only as many as there are rules.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from services.rules.rule import Match, Span, Spans


class FieldMasks:
    """The spans of one field of all rules, asked by value; answers are kept."""

    def __init__(self, values: Sequence[Spans]) -> None:
        """Sweep once over all spans; those of one rule neither overlap nor touch."""
        self.everyone = (1 << len(values)) - 1
        self._owners: dict[Spans, int] = {}
        for number, value in enumerate(values):
            self._owners[value] = self._owners.get(value, 0) | 1 << number
        starts: dict[int, int] = {}
        toggles: dict[int, int] = {}
        for value, owners in self._owners.items():
            for low, high in value:
                starts[low] = starts.get(low, 0) | owners
                toggles[low] = toggles.get(low, 0) ^ owners
                toggles[high + 1] = toggles.get(high + 1, 0) ^ owners
        self._points = sorted(toggles)
        self._covers = list(accumulate((toggles[point] for point in self._points), int.__xor__))
        self._starts = sorted(starts)
        self._tree = _tree([starts[start] for start in self._starts])

    def at(self, point: int) -> int:
        """Return the rules that have this value."""
        place = bisect_right(self._points, point) - 1
        return self._covers[place] if place >= 0 else 0

    def touching(self, span: Span) -> int:
        """Return the rules that have some value of the span."""
        low, high = span
        first, last = bisect_right(self._starts, low), bisect_right(self._starts, high)
        return self.at(low) | self._started(first, last)

    def overlapping(self, value: Spans) -> int:
        """Return the rules that share a value with these spans."""
        found = 0
        for span in value:
            found |= self.touching(span)
        return found

    def relations(self, value: Spans) -> tuple[int, int]:
        """Return the rules that stick out of these spans, and those that these spans stick out of.

        The second is a guess where a rule has several spans: it is used to estimate, never to decide what is right.
        """
        outside = 0
        for gap in _gaps(value, self._points[0], self._points[-1]):
            outside |= self.touching(gap)
        around = self.everyone
        for low, high in value:
            around &= self.at(low) & self.at(high)
        return outside, self.everyone & ~around

    def _started(self, first: int, last: int) -> int:
        """Join the rules with a span that starts at one of these places."""
        found, size = 0, len(self._tree) // 2
        left, right = first + size, last + size
        while left < right:
            if left & 1:
                found |= self._tree[left]
                left += 1
            if right & 1:
                right -= 1
                found |= self._tree[right]
            left, right = left >> 1, right >> 1
        return found


class Relations:
    """What the rules of a universe are to each other."""

    def __init__(self, matches: Sequence[Match]) -> None:
        """Take merged matches; a rule's number is its place."""
        self._matches = matches
        self._fields = [FieldMasks([match[field] for match in matches]) for field in range(4)] if matches else []
        self._relations: list[dict[Spans, tuple[int, int]]] = [{} for _ in range(4)]
        self.overlaps = self._overlaps()

    def _overlaps(self) -> list[int]:
        known = [
            {value: field.overlapping(value) for value in {match[place] for match in self._matches}}
            for place, field in enumerate(self._fields)
        ]
        return [
            known[0][match[0]] & known[1][match[1]] & known[2][match[2]] & known[3][match[3]] & ~(1 << number)
            for number, match in enumerate(self._matches)
        ]

    def crossing(self, number: int) -> int:
        """Return the rules that cross a rule."""
        overlaps = self.overlaps[number]
        if not overlaps:
            return 0
        pairs = [self._related(place, value) for place, value in enumerate(self._matches[number])]
        found = 0
        for place, (wider, _) in enumerate(pairs):
            if wide := overlaps & wider:
                for other, (_, narrower) in enumerate(pairs):
                    if other != place:
                        found |= wide & narrower
        return found

    def _related(self, place: int, value: Spans) -> tuple[int, int]:
        known = self._relations[place]
        if value not in known:
            known[value] = self._fields[place].relations(value)
        return known[value]


def _tree(leaves: list[int]) -> list[int]:
    """Build a tree of unions over the leaves, the root at 1."""
    tree = [0] * len(leaves) + leaves
    for place in range(len(leaves) - 1, 0, -1):
        tree[place] = tree[2 * place] | tree[2 * place + 1]
    return tree


def _gaps(value: Spans, first: int, last: int) -> list[Span]:
    """Return what lies between first and last beside the spans."""
    edges = [first - 1, *(edge for span in value for edge in span), last + 1]
    return [(low + 1, high - 1) for low, high in zip(edges[::2], edges[1::2], strict=True) if low + 1 <= high - 1]
