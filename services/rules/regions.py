"""Cut the rules of one stage into disjoint regions, each with the set of rules that cover it.

Called by `compile`. Field by field: the spans of a field are swept once, what is left to do between two ends is the same
problem with one field less, and equal problems are solved once. Neighbours with equal answers are joined. A rule is left
out of a set if in every index that has it another rule of the set comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter

from services.rules.order import bits
from services.rules.rule import Box, Match, Span

#: A span and the number of the answer behind it.
Piece = tuple[int, int, int]


class TooManyError(Exception):
    """The rules multiply beyond what was allowed."""


class Cutter:
    """Cuts the rules of one stage; `ahead` gives the rules beside which each rule never decides."""

    def __init__(self, matches: Sequence[Match], ahead: Sequence[int], order: tuple[int, ...], most: int) -> None:
        """Take the matches of all rules by number, and the order of fields."""
        self._values = [[match[field] for match in matches] for field in order]
        self._whole = _whole(self._values)
        self._ahead, self._order, self._most = ahead, order, most
        self._behind = sum(1 << number for number, others in enumerate(ahead) if others)
        self._known: list[dict[int, int]] = [{} for _ in order]
        self._answers: list[dict[tuple[Piece, ...], int]] = [{} for _ in order]
        self.nodes: list[tuple[Piece, ...]] = []
        self.sizes: list[int] = []
        self._sets: dict[int, int] = {}
        self._work = 0

    def cut(self, rules: int) -> int:
        """Return the number of the answer for some rules, given as a mask."""
        return self._solve(0, self._visible(0, rules))

    def boxes(self, root: int) -> Iterator[tuple[Box, int]]:
        """Yield the regions of an answer with the mask of the rules that cover each."""
        place = [self._order.index(field) for field in range(4)]
        arrange = itemgetter(*place)
        masks = list(self._sets)
        nodes = self.nodes
        for low0, high0, node0 in nodes[root]:
            for low1, high1, node1 in nodes[node0]:
                for low2, high2, node2 in nodes[node1]:
                    for low3, high3, leaf in nodes[node2]:
                        spans: tuple[Span, ...] = ((low0, high0), (low1, high1), (low2, high2), (low3, high3))
                        yield Box(*arrange(spans)), masks[leaf]

    def _solve(self, level: int, active: int) -> int:
        """Return the number of the answer for the rules that are left at this field."""
        alone = active & (active - 1) == 0
        key = -active.bit_length() if alone else active
        known = self._known[level].get(key)
        if known is None:
            pieces = self._alone(level, active) if alone else self._pieces(level, active)
            known = self._known[level][key] = self._number(level, pieces)
        return known

    def _pieces(self, level: int, active: int) -> tuple[Piece, ...]:
        """Sweep one field."""
        values = self._values[level]
        toggles: dict[int, int] = {}
        for number in bits(active):
            bit = 1 << number
            for low, high in values[number]:
                toggles[low] = toggles.get(low, 0) ^ bit
                toggles[high + 1] = toggles.get(high + 1, 0) ^ bit
        self._spend(len(toggles))
        pieces: list[Piece] = []
        inside, low = 0, 0
        for point in sorted(toggles):
            if inside:
                answer = self._next(level + 1, inside)
                if pieces and pieces[-1][1] + 1 == low and pieces[-1][2] == answer:
                    low = pieces.pop()[0]
                pieces.append((low, point - 1, answer))
            inside ^= toggles[point]
            low = point
        return tuple(pieces)

    def _alone(self, level: int, active: int) -> tuple[Piece, ...]:
        """Answer for one rule: nothing is to be cut."""
        answer = self._next(level + 1, active)
        spans = self._values[level][active.bit_length() - 1]
        self._spend(len(spans))
        return tuple((low, high, answer) for low, high in spans)

    def _next(self, level: int, inside: int) -> int:
        visible = self._visible(level, inside)
        if level < len(self._order):
            return self._solve(level, visible)
        return self._sets.setdefault(visible, len(self._sets))

    def _visible(self, level: int, rules: int) -> int:
        """Leave out rules that are hidden by one that matches whatever the fields from here on are."""
        if whole := rules & (rules - 1) and rules & self._whole[level]:
            for number in bits(rules & self._behind):
                if self._ahead[number] & whole:
                    rules ^= 1 << number
        return rules

    def _number(self, level: int, pieces: tuple[Piece, ...]) -> int:
        """Give equal answers one number, and count the regions of each."""
        known = self._answers[level].get(pieces)
        if known is None:
            last = level == len(self._order) - 1
            size = len(pieces) if last else sum(self.sizes[piece[2]] for piece in pieces)
            if size > self._most:
                raise TooManyError
            known = self._answers[level][pieces] = len(self.nodes)
            self.nodes.append(pieces)
            self.sizes.append(size)
        return known

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > 4 * self._most:
            raise TooManyError


def _whole(values: Sequence[Sequence[tuple[Span, ...]]]) -> list[int]:
    """Return for each field the rules that are as wide as all rules together, in it and in every later field."""
    found = [(1 << len(values[0])) - 1]
    for field in reversed(values):
        hull = (min(value[0][0] for value in field), max(value[-1][1] for value in field))
        wide = sum(1 << number for number, value in enumerate(field) if value == (hull,))
        found.append(found[-1] & wide)
    return found[::-1]


def field_order(matches: Sequence[Match]) -> tuple[int, ...]:
    """Put the fields in order: first the one of which a value is shared by the fewest rules.

    A look-up pays for each element that matches the first field. Rounded, and equal for few rules, because another
    order is another table, and a new table is more work than a new element.
    """
    crowds = {field: max(0, _crowd([match[field] for match in matches]).bit_length() - 5) // 2 for field in range(4)}
    return tuple(sorted(crowds, key=lambda field: (crowds[field], (0, 1, 3, 2)[field])))


def _crowd(values: Sequence[tuple[Span, ...]]) -> int:
    """Return how many rules a value of this field has that some rule asks for, on average over the rules."""
    toggles: dict[int, int] = {}
    for value in values:
        for low, high in value:
            toggles[low] = toggles.get(low, 0) + 1
            toggles[high + 1] = toggles.get(high + 1, 0) - 1
    count, total, squares = 0, 0, 0
    for point in sorted(toggles):
        count += toggles[point]
        total += count
        squares += count * count
    return squares // max(total, 1)
