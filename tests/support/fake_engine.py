"""BGP engines in memory: they write down what they are told, and tell what the test pushes.

`FakeRoom` stands for the machine's engines: what it made lives on when the daemon lets go, and is adopted by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from ipaddress import ip_address, ip_network

from appliance.model.errors import EngineError
from appliance.model.intent import EngineName
from routing.bgp.values import Attributes, Network, Speaker
from routing.engines.engine import Best, Event, RouteView, SessionView

Journal = list[tuple[str, object]]


def best(prefix: str, next_hop: str | None, neighbor: str = "rs1/fabric/ipv4") -> Best:
    """Return a best path by its prefix and next hop; None: there is none."""
    attributes = None if next_hop is None else Attributes(ip_address(next_hop))
    return Best(ip_network(prefix), attributes, neighbor)


class FakeEngine:
    """One engine: `told` is every Speaker it took, `refusals` are raised first by coming calls of `apply`."""

    def __init__(self, kind: EngineName, name: str, journal: Journal) -> None:
        self.kind, self.name, self.journal = kind, name, journal
        self.told: list[Speaker] = []
        self.refusals: list[Exception] = []
        self.lost: EngineError | None = None
        self.paths: tuple[RouteView, ...] = ()
        self.neighbors: tuple[SessionView, ...] = ()
        self.listeners = 0
        self.routes_wanted: bool | None = None
        self.ended = False
        self._events: asyncio.Queue[tuple[Event, ...] | Exception] = asyncio.Queue()

    @property
    def speaker(self) -> Speaker:
        """What it is now."""
        return self.told[-1]

    @property
    def announced(self) -> set[str]:
        """The prefixes it announces now."""
        return {str(announcement.prefix) for announcement in self.speaker.announcements} if self.told else set()

    def push(self, *events: Event) -> None:
        """Tell one batch to who watches."""
        self._events.put_nowait(events)

    def fail(self, error: Exception) -> None:
        """Break the stream of events."""
        self._events.put_nowait(error)

    async def apply(self, speaker: Speaker) -> None:
        """Take a speaker, or refuse it."""
        if self.refusals:
            raise self.refusals.pop(0)
        self.told.append(speaker)
        self.journal.append((f"engine {self.name}", speaker))

    async def sessions(self) -> tuple[SessionView, ...]:
        """Return what the test gave."""
        if self.lost is not None:
            raise self.lost
        return self.neighbors

    async def routes(self, prefix: Network | None = None, neighbor: str | None = None) -> tuple[RouteView, ...]:
        """Return what the test gave, as selected."""
        if self.lost is not None:
            raise self.lost
        return tuple(
            view
            for view in self.paths
            if (prefix is None or view.prefix == prefix) and (neighbor is None or view.neighbor == neighbor)
        )

    async def watch(self, *, routes: bool = True) -> AsyncIterator[tuple[Event, ...]]:
        """Yield what the test pushes."""
        self.listeners += 1
        self.routes_wanted = routes
        try:
            while True:
                events = await self._events.get()
                if isinstance(events, Exception):
                    raise events
                yield events
        finally:
            self.listeners -= 1

    async def close(self, *, stop: bool) -> None:
        """Remember whether it was ended."""
        self.ended = stop
        self.journal.append((f"close {self.name}", stop))


class FakeRoom:
    """The engines of a machine, by kind and name."""

    def __init__(self) -> None:
        self.journal: Journal = []
        self.engines: dict[tuple[EngineName, str], FakeEngine] = {}
        self.swept: list[tuple[EngineName, frozenset[str]]] = []
        self.refusals: list[Exception] = []
        self.sweeping: list[Exception] = []

    def make(self, kind: EngineName, name: str) -> FakeEngine:
        """Return the engine that runs under this name, or a new one; it refuses what the test put aside for it."""
        engine = self.engines.get((kind, name))
        if engine is None or engine.ended:
            engine = self.engines[kind, name] = FakeEngine(kind, name, self.journal)
            engine.refusals, self.refusals = self.refusals, []
        return engine

    async def end_others(self, kind: EngineName, names: Collection[str]) -> None:
        """Remember what was to stay, or fail as the test wants."""
        if self.sweeping:
            raise self.sweeping.pop(0)
        self.swept.append((kind, frozenset(names)))
        for key, engine in self.engines.items():
            if key[0] != kind or key[1] not in names:
                engine.ended = True
