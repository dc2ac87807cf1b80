"""What each prefix stands for: prefix -> label, changed in bulk, with the net effect of the changes since last asked.

The reference of what `routing.bgp.hot` offers (design note 0008); the C form behaves the same and has the same tests.
Labels are compared by identity and are all that is ever decided about: whoever calls `relabel` is asked once for each
distinct label, never for a prefix. A label is kept alive by its prefixes and by changes that nobody has taken yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from routing.bgp.nlri import check_width, each

L = TypeVar("L")


class PrefixTable(Generic[L]):
    """The table of one family. No label (None) is that of the prefixes that are not there."""

    __slots__ = ("_before", "_groups", "_labels", "_stepping", "_width")

    def __init__(self, width: int, /) -> None:
        """Begin empty, with nothing changed."""
        self._width = check_width(width)
        self._labels: dict[bytes, L] = {}
        # id(label) -> the label and its prefixes, in the order in which they came to it.
        self._groups: dict[int, tuple[L, dict[bytes, None]]] = {}
        # What a prefix was when changes were last taken, in order of the first change since.
        self._before: dict[bytes, L | None] = {}
        self._stepping = False

    def __len__(self) -> int:
        """Return how many prefixes have a label."""
        return len(self._labels)

    def relabel(self, nlri: bytes, step: Callable[[L | None], L | None], /) -> list[tuple[L | None, L | None, int]]:
        """Give each prefix of `nlri` the label that `step` makes of the one it has.

        `step` is called once for each distinct label, in order of appearance, before anything is changed: if it raises,
        nothing is. It must not change the table. A prefix that is there twice counts once. Label by label, returns
        what changed: before, after, and how many prefixes.
        """
        asked = self._ask(dict.fromkeys(each(nlri, self._width)), step)
        changed = [(before, after, prefixes) for before, after, prefixes in asked if after is not before]
        for before, after, prefixes in changed:
            self._move(before, after, prefixes)
        return [(before, after, len(prefixes)) for before, after, prefixes in changed]

    def _ask(
        self, nlri: Iterable[bytes], step: Callable[[L | None], L | None]
    ) -> list[tuple[L | None, L | None, list[bytes]]]:
        self._check_not_stepping()
        asked: dict[int, tuple[L | None, L | None, list[bytes]]] = {}
        last: object = asked  # prefixes that stand together mostly have one label
        prefixes: list[bytes] = []
        self._stepping = True
        try:
            for prefix in nlri:
                label = self._labels.get(prefix)
                if label is not last:
                    if id(label) not in asked:
                        asked[id(label)] = (label, step(label), [])
                    last, prefixes = label, asked[id(label)][2]
                prefixes.append(prefix)
        finally:
            self._stepping = False
        return list(asked.values())

    def _check_not_stepping(self) -> None:
        if self._stepping:
            raise RuntimeError("a step must not change the table it is asked for")

    def relabel_all(self, label: L, after: L | None, /) -> int:
        """Give all prefixes of a label another one; return how many there were."""
        self._check_not_stepping()
        if label is after or id(label) not in self._groups:
            return 0
        prefixes = list(self._groups[id(label)][1])
        self._move(label, after, prefixes)
        return len(prefixes)

    def _move(self, before: L | None, after: L | None, prefixes: list[bytes]) -> None:
        remember = self._before.setdefault
        for prefix in prefixes:
            remember(prefix, before)
        if before is not None:
            self._leave(before, prefixes)
        if after is None:
            for prefix in prefixes:
                del self._labels[prefix]
        else:
            joining = dict.fromkeys(prefixes)
            self._labels.update(dict.fromkeys(prefixes, after))
            self._groups.setdefault(id(after), (after, {}))[1].update(joining)

    def _leave(self, label: L, prefixes: list[bytes]) -> None:
        members = self._groups[id(label)][1]
        if len(prefixes) == len(members):
            del self._groups[id(label)]
            return
        for prefix in prefixes:
            del members[prefix]

    def take_changes(self) -> list[tuple[L | None, L | None, bytes, int]]:
        """Return what is no longer what it was at the last call: before, after, the prefixes, how many.

        Pairs in order of their first prefix, prefixes in order of their first change. What is again what it was is
        not told.
        """
        self._check_not_stepping()
        remembered, self._before = self._before, {}
        changes: dict[tuple[int, int], tuple[L | None, L | None, list[bytes]]] = {}
        for prefix, before in remembered.items():
            after = self._labels.get(prefix)
            if after is not before:
                pair = id(before), id(after)
                found = changes.get(pair)
                if found is None:
                    found = changes[pair] = (before, after, [])
                found[2].append(prefix)
        return [(before, after, b"".join(prefixes), len(prefixes)) for before, after, prefixes in changes.values()]

    def get(self, prefix: bytes, /) -> L | None:
        """Return the label of one prefix."""
        return self._labels.get(prefix)

    def of(self, label: L, /) -> bytes:
        """Return all prefixes of a label, in the order in which they came to it."""
        found = self._groups.get(id(label))
        return b"".join(found[1]) if found is not None else b""

    def size(self, label: L) -> int:
        """Return how many prefixes have a label."""
        found = self._groups.get(id(label))
        return 0 if found is None else len(found[1])

    def labels(self) -> list[tuple[L, int]]:
        """Return the labels in use and how many prefixes each has, in no particular order."""
        return [(label, len(prefixes)) for label, prefixes in self._groups.values()]

    def within(self, nlri: bytes, /) -> list[tuple[L | None, bytes]]:
        """Return the prefixes of `nlri` by the label they have, labels in order of appearance."""
        found: dict[int, tuple[L | None, list[bytes]]] = {}
        for prefix in each(nlri, self._width):
            label = self._labels.get(prefix)
            found.setdefault(id(label), (label, []))[1].append(prefix)
        return [(label, b"".join(prefixes)) for label, prefixes in found.values()]
