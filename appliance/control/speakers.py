"""The BGP engines of a node: made, told what they must be, watched and ended, each by the name of its speaker.

The daemon withdraws before the kernel changes and speaks after it. What an engine refuses is tried again, soon at first
and then more rarely; what engines of an earlier daemon are no longer wanted is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from appliance.control.tasks import Tasks
from appliance.model.errors import EngineError
from appliance.model.intent import EngineName
from routing.bgp.values import Mode, Network, Speaker
from routing.engines.engine import Engine, Event, Lost
from routing.engines.process import Backoff

log = structlog.get_logger()


class EngineRoom(Protocol):
    """Where engines come from."""

    def make(self, kind: EngineName, name: str) -> Engine:
        """Return the engine of a speaker; one that an earlier daemon left is adopted when it is told what to be."""
        ...

    async def end_others(self, kind: EngineName, names: Collection[str]) -> None:
        """End what runs of other kinds, or under other names."""
        ...


@dataclass(slots=True)
class Speaking:
    """One engine and what it last took; `sure` unless it refused something since.

    `refused` and `lost` say what is wrong with it.
    """

    name: str
    kind: EngineName
    engine: Engine
    speaker: Speaker | None = None
    sure: bool = False
    synced: bool = False
    refused: str = ""
    lost: str = ""

    @property
    def detail(self) -> str:
        """What is wrong, if anything."""
        return self.refused or self.lost


Learn = Callable[[Speaking, tuple[Event, ...]], None]


class Speakers:
    """Every engine of the node."""

    def __init__(self, tasks: Tasks, room: EngineRoom, learn: Learn, again: Callable[[], None]) -> None:
        """`learn` is given what engines tell, `again` is called when it is time to speak once more."""
        self.running: dict[str, Speaking] = {}
        self._tasks, self._room, self._learn, self._again = tasks, room, learn, again
        self._wanted: tuple[EngineName, frozenset[str]] | None = None
        self._backoff = Backoff()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def details(self) -> Mapping[str, str]:
        """What is wrong with each engine, if anything."""
        return {name: speaking.detail for name, speaking in self.running.items() if speaking.detail}

    @property
    def told(self) -> tuple[Speaker, ...]:
        """What the engines were told and took."""
        return tuple(speaking.speaker for speaking in self.running.values() if speaking.speaker is not None)

    @property
    def announced(self) -> frozenset[Network]:
        """Every prefix that the engines were told to announce."""
        return frozenset(announcement.prefix for speaker in self.told for announcement in speaker.announcements)

    async def withdraw(self, kind: EngineName, wanted: tuple[Speaker, ...]) -> None:
        """End engines that are no longer wanted, and tell the others what is no longer announced."""
        await self._end_others(kind, frozenset(speaker.name for speaker in wanted))
        for speaker in wanted:
            speaking = self.running.get(speaker.name)
            if speaking is None or speaking.speaker is None:
                continue
            keep = {announcement.prefix for announcement in speaker.announcements}
            rest = tuple(a for a in speaking.speaker.announcements if a.prefix in keep)
            if len(rest) < len(speaking.speaker.announcements):
                await self._tell(speaking, replace(speaking.speaker, announcements=rest))

    async def speak(self, kind: EngineName, wanted: tuple[Speaker, ...]) -> None:
        """Make every engine what it must be."""
        good = True
        for speaker in wanted:
            if speaker.name not in self.running:
                engine = self._room.make(kind, speaker.name)
                self.running[speaker.name] = Speaking(speaker.name, kind, engine)
            speaking = self.running[speaker.name]
            if await self._tell(speaking, speaker):
                self._tasks.start(self._task(speaking), lambda s=speaking: self._watch(s))  # type: ignore[misc]
            else:
                good = False
        if good:
            self._backoff.reset()

    async def close(self) -> None:
        """Let go of the engines, which run on until the next daemon adopts them."""
        if self._timer is not None:
            self._timer.cancel()
        for speaking in self.running.values():
            await self._tasks.stop(self._task(speaking))
            try:
                await speaking.engine.close(stop=False)
            except EngineError as error:
                log.warning("engine-not-released", speaker=speaking.name, error=str(error))

    async def _end_others(self, kind: EngineName, names: frozenset[str]) -> None:
        if self._wanted == (kind, names):
            return
        for speaking in tuple(self.running.values()):
            if speaking.kind != kind or speaking.name not in names:
                await self._end(speaking)
        try:
            await self._room.end_others(kind, names)
        except EngineError as error:
            log.warning("engine-not-ended", error=str(error))
            self._later()
        else:
            self._wanted = (kind, names)

    async def _end(self, speaking: Speaking) -> None:
        await self._tasks.stop(self._task(speaking))
        del self.running[speaking.name]
        # What it taught stands until the next engine has told everything.
        self._learn(speaking, (Lost("ended: the intent has no such speaker any more"),))
        try:
            await speaking.engine.close(stop=True)
        except EngineError as error:
            log.warning("engine-not-ended", speaker=speaking.name, error=str(error))

    async def _tell(self, speaking: Speaking, speaker: Speaker) -> bool:
        if speaking.sure and speaking.speaker == speaker:
            return True
        try:
            await speaking.engine.apply(speaker)
        except EngineError as error:
            speaking.sure, speaking.refused = False, str(error)
            log.warning("engine-refused", speaker=speaker.name, error=str(error), retry=error.retry)
            if error.retry:
                self._later()
            return False
        speaking.speaker, speaking.sure, speaking.refused = speaker, True, ""
        return True

    def _later(self) -> None:
        """Ask for another round; one timer at a time, however many refusals there are."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._backoff.next(), self._now)

    def _now(self) -> None:
        self._timer = None
        self._again()

    async def _watch(self, speaking: Speaking) -> None:
        """Learn for ever. A stream that breaks is begun again, and then names everything anew."""
        # What a route server relays it does not install; a speaker of another mode has another name, so another engine.
        installs = speaking.speaker is not None and speaking.speaker.mode is Mode.ROUTER
        batches = speaking.engine.watch(routes=installs)
        try:
            async for events in batches:
                self._learn(speaking, events)
        except Exception as error:
            self._learn(speaking, (Lost(f"stopped listening: {error}"),))
            raise
        finally:
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()

    @staticmethod
    def _task(speaking: Speaking) -> str:
        return f"engine {speaking.name}"
