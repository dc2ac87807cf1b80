"""The fake of flow records: lists of records, made and ended by whoever plays the traffic."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from appliance.kernel.conntrack import CtEvent
from appliance.kernel.conntrack_codec import tuple_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from appliance.kernel.conntrack_codec import CtEntry, CtTuple
    from appliance.model.facts import FlowKey, Namespace

Key = tuple[int, int, "CtTuple"]


class FakeConntrack:
    """Records of every namespace."""

    def __init__(self) -> None:
        """No records."""
        self._entries: dict[Namespace, dict[Key, CtEntry]] = {}
        self._listeners: list[tuple[Namespace, asyncio.Queue[CtEvent]]] = []

    def add(self, ns: Namespace, entry: CtEntry) -> None:
        """Play a first packet."""
        self._entries.setdefault(ns, {})[_key(entry)] = entry
        self._tell(ns, CtEvent("new", entry))

    def dump(
        self, ns: Namespace, zone: int | None = None, mark: int | None = None, mask: int = 0xFFFF_FFFF
    ) -> Iterator[CtEntry]:
        """Yield what matches."""
        for entry in tuple(self._entries.get(ns, {}).values()):
            if (zone is None or entry.zone == zone) and (mark is None or entry.mark & mask == mark):
                yield entry

    def get(self, ns: Namespace, key: FlowKey) -> CtEntry | None:
        """Return one record: as in the kernel, either direction finds it."""
        held, one = self._entries.get(ns, {}), tuple_of(key)
        found = held.get((key.zone, key.protocol, one))
        if found is not None:
            return found
        place = (key.zone, key.protocol, one)
        return next((entry for entry in held.values() if (entry.zone, entry.l4proto, entry.reply) == place), None)

    def set_mark(self, ns: Namespace, entries: Iterable[CtEntry], mark: int, mask: int = 0xFFFF_FFFF) -> int:
        """Set bits of marks."""
        return self._change(ns, entries, lambda entry: replace(entry, mark=entry.mark & ~mask | mark & mask))

    def set_timeout(self, ns: Namespace, entries: Iterable[CtEntry], seconds: int) -> int:
        """Set the time left."""
        return self._change(ns, entries, lambda entry: replace(entry, timeout=seconds))

    def _change(self, ns: Namespace, entries: Iterable[CtEntry], change: Callable[[CtEntry], CtEntry]) -> int:
        """Change those that are there."""
        held = self._entries.get(ns, {})
        keys = [key for key in map(_key, entries) if key in held]
        for key in keys:
            held[key] = change(held[key])
        return len(keys)

    def delete(self, ns: Namespace, entries: Iterable[CtEntry]) -> int:
        """Delete exact records."""
        gone = 0
        for given in entries:
            found = self._entries.get(ns, {}).pop(_key(given), None)
            if found is not None:
                gone += 1
                self._tell(ns, CtEvent("destroy", found))
        return gone

    def count(self, ns: Namespace) -> int:
        """Count."""
        return len(self._entries.get(ns, {}))

    async def events(self, ns: Namespace) -> AsyncIterator[CtEvent]:
        """Yield what happens."""
        queue: asyncio.Queue[CtEvent] = asyncio.Queue()
        listener = (ns, queue)
        self._listeners.append(listener)
        try:
            yield CtEvent("listening")
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(listener)

    def _tell(self, ns: Namespace, event: CtEvent) -> None:
        """Tell who listens there."""
        for name, queue in self._listeners:
            if name == ns:
                queue.put_nowait(event)


def _key(entry: CtEntry) -> Key:
    """Identify a record."""
    return (entry.zone, entry.l4proto, entry.orig)
