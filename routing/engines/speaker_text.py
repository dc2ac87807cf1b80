"""A speaker as text in which every neighbour is a line: as a whole a JSON document, yet written and read piece by piece.

Called by both sides of the engines of our own RIB: it is the file of the desired state, and what the native engine is told
over its socket. A process that serves sessions must not stop for a text of hundreds of neighbours with thousands of
rules: it reads a line between other work, and a line that it has read before is not read again. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from routing.bgp.codec import RuleSets, neighbor_from_json, neighbor_to_json, speaker_from_json, speaker_to_json
from routing.bgp.values import Neighbor, Speaker

_OPEN: Final = '"neighbors": ['
_END: Final = b"]}"


def lines(speaker: Speaker) -> Iterator[bytes]:
    """Write a speaker: a head, a line for each neighbour, an end."""
    head = speaker_to_json(replace(speaker, neighbors=()))
    del head["neighbors"]
    yield f"{json.dumps(head)[:-1]}, {_OPEN}".encode()
    last = len(speaker.neighbors) - 1
    for number, neighbor in enumerate(speaker.neighbors):
        yield (json.dumps(neighbor_to_json(neighbor)) + ("," if number < last else "")).encode()
    yield _END


class Draft:
    """A speaker while it is read; a neighbour whose line was in the draft before is the same object again."""

    def __init__(self, before: Draft | None = None) -> None:
        """Begin with nothing."""
        self._before: dict[tuple[int, int], Neighbor] = {} if before is None else before.known
        #: What was read, by length and hash of its line.
        self.known: dict[tuple[int, int], Neighbor] = {}
        self.rules: RuleSets = RuleSets() if before is None else before.rules
        self._head: dict[str, Any] | None = None
        self._neighbors: list[Neighbor] = []

    def add(self, line: bytes) -> Speaker | None:
        """Take the next line; the last one gives the speaker."""
        line = line.strip()
        if self._head is None:
            if not line.endswith(_OPEN.encode()):
                return speaker_from_json(json.loads(line), self.rules)  # all in one line, as it was once written
            self._head = json.loads(line + _END)
        elif line != _END:
            self._add(line.removesuffix(b","))
        else:
            neighbors, self._neighbors, self._before = tuple(self._neighbors), [], {}
            self.rules.keep(neighbors)
            return replace(speaker_from_json(self._head), neighbors=neighbors)
        return None

    def read(self, text: Iterable[bytes]) -> Speaker:
        """Take all lines."""
        for line in text:
            speaker = self.add(line)
            if speaker is not None:
                return speaker
        raise ValueError("the text of a speaker ends too early")

    def _add(self, line: bytes) -> None:
        # Not the line itself: it would be kept as long as the neighbour.
        key = (len(line), hash(line))
        neighbor = self._before.get(key) or neighbor_from_json(json.loads(line), self.rules)
        self.known[key] = neighbor
        self._neighbors.append(neighbor)
