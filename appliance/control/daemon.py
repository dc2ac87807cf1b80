"""The daemon of one node: holds intent, kernel and engines together on the one road (design 0001).

Three things make it act: a new intent, what the engines learn, and what the kernel or the backends report. Each marks
what is out of date; one loop compiles, moves the kernel, then tells the engines. Withdrawals go out before the kernel
changes and announcements after, so nobody is sent here for what is not in place. Best paths take a short way of their
own into the FIB, at the cost of what changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from appliance.control.blocks import Blocks
from appliance.control.commit import History
from appliance.control.compile import Desired, Known, compile_intent, surroundings
from appliance.control.health import Checker
from appliance.control.reconcile import Outcome, Plans, Reconciler
from appliance.control.tasks import Tasks
from appliance.kernel.kernel import Kernel
from appliance.kernel.port import Failure
from appliance.model.errors import EngineError
from appliance.model.facts import Compose, Fact, Route
from appliance.model.intent import Intent
from appliance.model.marks import PROTO_BGP
from appliance.state.diff import Change, Plan
from appliance.state.store import Store
from routing.attach import forwards
from routing.bgp.values import Speaker
from routing.engines.engine import Best, Engine, Event, Lost, Session, Synced
from routing.fib import Fib, routes_of
from services.edge import carried
from services.feature import Runtime
from services.health import targets

log = structlog.get_logger()

#: Seconds for which changes are gathered before the loop acts on them.
GATHER = 0.02
#: Seconds between two looks at port blocks, and the least pause between two full reads of a subsystem.
TICK, LEAST_PAUSE = 1.0, 0.2

EngineFactory = Callable[[Speaker], Engine]


@dataclass(slots=True)
class Speaking:
    """One BGP engine and what it was last told."""

    engine: Engine
    speaker: Speaker | None = None
    synced: bool = False
    detail: str = ""


@dataclass(slots=True)
class Dirty:
    """What is out of date: the compiled state, or our picture of some subsystems."""

    compiled: bool = False
    subsystems: set[str] = field(default_factory=set)
    event: asyncio.Event = field(default_factory=asyncio.Event)

    def mark(self, *subsystems: str) -> None:
        """Mark the compile, or subsystems to be read again."""
        if subsystems:
            self.subsystems.update(subsystems)
        else:
            self.compiled = True
        self.event.set()

    def take(self) -> tuple[bool, set[str]]:
        """Return and clear what is marked."""
        taken = (self.compiled, self.subsystems)
        self.compiled, self.subsystems = False, set()
        self.event.clear()
        return taken


class Daemon:
    """One node. `run` serves until it is cancelled; everything else may be called from other tasks of the loop."""

    def __init__(self, node: str, kernel: Kernel, store: Store, make_engine: EngineFactory) -> None:
        """Wire the parts; nothing is touched before `run`."""
        self.node, self.kernel, self.store = node, kernel, store
        self.history = History(store)
        self.reconciler = Reconciler(kernel.ports)
        self.tasks = Tasks()
        self.dirty = Dirty()
        self.checker = Checker(kernel.namespaces, self.tasks, self.dirty.mark)
        self.blocks = Blocks(store, kernel.conntrack)
        self.engines: dict[str, Speaking] = {}
        self.intent: Intent | None = None
        self.desired = Desired(frozenset(), ())
        self.fib: Fib | None = None
        self.outcome = Outcome()
        self.revision = 0
        self.reconciled = asyncio.Condition()
        self.started = time.time()
        self._make_engine = make_engine
        self._kept_members: dict[Any, tuple[int, ...]] = {}

    # -- intent ---------------------------------------------------------------------------------------------------

    async def load(self, text: str, file: str) -> Outcome:
        """Commit an intent and wait until the kernel agrees; OperatorError changes nothing."""
        return await self._install(self.history.commit(text, file, self.node))

    async def rollback(self) -> Outcome:
        """Run the previous intent again."""
        return await self._install(self.history.rollback(self.node))

    async def _install(self, intent: Intent) -> Outcome:
        self.intent = intent
        around = surroundings(intent, self.node)
        if self.fib is None:
            self.fib = Fib(around)
            self._remember_kernel()
        else:
            self._apply_routes(self.fib.around_changed(around))
        await self.checker.watch(targets(intent, self.node))
        wanted = self.revision + 1
        self.dirty.mark()
        async with self.reconciled:
            await self.reconciled.wait_for(lambda: self.revision >= wanted)
        log.info("intent-installed", node=self.node, revision=self.revision)
        return self.outcome

    def _remember_kernel(self) -> None:
        """Take over what an earlier daemon knew of VIP members: forwarding must not change before BGP has spoken."""
        for fact in self.kernel.ports["compose"].read():
            if isinstance(fact, Compose):
                self._kept_members = dict(fact.members)

    def known(self) -> Known:
        """Return what is known at run time."""
        runtime = Runtime(dict(self.blocks.taken), self.checker.down)
        members = self.fib.members if self.fib is not None and self._heard else self._kept_members
        return Known(runtime, members)

    @property
    def _heard(self) -> bool:
        """Whether BGP has told all best paths at least once since this daemon started."""
        return any(speaking.synced for speaking in self.engines.values())

    @property
    def _forwards(self) -> bool:
        """Whether best paths become routes here; on a route server they do not."""
        return self.intent is not None and forwards(self.intent.nodes[self.node])

    def plan(self, intent: Intent) -> tuple[Plans, Desired]:
        """Return what an intent would change in the kernel, and the speakers it asks for; changes nothing."""
        desired = compile_intent(intent, self.node, self.known())
        return self.reconciler.plan(self._with_routes(desired.facts)), desired

    # -- the loop -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. The engines are left running: they are adopted by the next daemon."""
        for name in self.kernel.ports:
            self.tasks.start(f"watch {name}", lambda name=name: self._watch_kernel(name))  # type: ignore[misc]
        self.tasks.start("blocks", self._tick)
        try:
            while True:
                await self.dirty.event.wait()
                await asyncio.sleep(GATHER)
                try:
                    await self._converge()
                except Exception:
                    log.exception("converge-failed", node=self.node)
                    self.dirty.mark()
                    await asyncio.sleep(1)
        finally:
            await self.tasks.stop()
            for speaking in self.engines.values():
                await speaking.engine.close(stop=False)

    async def _converge(self) -> None:
        compiled, subsystems = self.dirty.take()
        if self.intent is None:
            return
        if compiled:
            desired = compile_intent(self.intent, self.node, self.known())
            await self._withdraw(desired.speakers)
            self._move(desired)
            await self._speak(desired.speakers)
            self.revision += 1
            async with self.reconciled:
                self.reconciled.notify_all()
        if subsystems:
            self.outcome = self.reconciler.apply(self._with_routes(self.desired.facts), subsystems)

    def _move(self, desired: Desired) -> None:
        """Lead the kernel to a new desired state, by the difference where the old one is known to stand."""
        old, self.desired = self.desired, desired
        if old.facts and self.outcome.done:
            self.outcome = self.reconciler.move(old.facts, desired.facts)
        if not old.facts or not self.outcome.done:
            self.outcome = self.reconciler.apply(self._with_routes(desired.facts))

    def _with_routes(self, facts: frozenset[Fact]) -> frozenset[Fact]:
        """Add BGP's routes: those of the FIB, and until BGP has spoken those the kernel still has."""
        fib = self.fib
        if fib is None:
            return facts
        routes: dict[Any, Route] = {route.key: route for route in routes_of(fib)}
        if not self._heard:
            for fact in self.kernel.ports["routes"].read():
                if isinstance(fact, Route) and fact.proto == PROTO_BGP:
                    routes.setdefault(fact.key, fact)
        return facts | frozenset(routes.values())

    # -- engines --------------------------------------------------------------------------------------------------

    async def _withdraw(self, wanted: tuple[Speaker, ...]) -> None:
        """Tell running engines what is no longer announced, before the kernel stops serving it."""
        for speaker in wanted:
            speaking = self.engines.get(speaker.name)
            if speaking is None or speaking.speaker is None:
                continue
            keep = {announcement.prefix for announcement in speaker.announcements}
            rest = tuple(a for a in speaking.speaker.announcements if a.prefix in keep)
            if len(rest) < len(speaking.speaker.announcements):
                await self._tell(speaking, replace(speaking.speaker, announcements=rest))

    async def _speak(self, wanted: tuple[Speaker, ...]) -> None:
        for name in self.engines.keys() - {speaker.name for speaker in wanted}:
            await self.tasks.stop(f"engine {name}")
            await self.engines.pop(name).engine.close(stop=True)
        for speaker in wanted:
            if speaker.name not in self.engines:
                self.engines[speaker.name] = Speaking(self._make_engine(speaker))
            speaking = self.engines[speaker.name]
            if await self._tell(speaking, speaker):
                self.tasks.start(f"engine {speaker.name}", lambda s=speaking: self._watch_engine(s))  # type: ignore[misc]

    async def _tell(self, speaking: Speaking, speaker: Speaker) -> bool:
        if speaking.speaker == speaker:
            return True
        try:
            await speaking.engine.apply(speaker)
        except EngineError as error:
            speaking.detail = str(error)
            log.warning("engine-refused", speaker=speaker.name, error=str(error), retry=error.retry)
            if error.retry:
                asyncio.get_running_loop().call_later(TICK, self.dirty.mark)
            return False
        speaking.speaker, speaking.detail = speaker, ""
        return True

    async def _watch_engine(self, speaking: Speaking) -> None:
        async for events in speaking.engine.watch():
            self._learn(speaking, events)

    def _learn(self, speaking: Speaking, events: tuple[Event, ...]) -> None:
        fib = self.fib
        assert fib is not None  # noqa: S101 - engines start after the first intent
        before = fib.members
        changes = fib.learn(event for event in events if isinstance(event, Best) and self._forwards)
        for event in events:
            if isinstance(event, Session):
                log.info("session", name=event.name, state=event.state.value, detail=event.detail)
            elif isinstance(event, Lost):
                log.warning("engine-lost", speaker=speaking.speaker and speaking.speaker.name, detail=event.detail)
                fib.lost()
            elif isinstance(event, Synced):
                changes += self._on_synced(speaking, fib)
        self._apply_routes(changes)
        if fib.members != before or any(isinstance(event, Synced) for event in events):
            self.dirty.mark()

    def _on_synced(self, speaking: Speaking, fib: Fib) -> list[Change[Route]]:
        first = not speaking.synced
        speaking.synced = True
        log.info("engine-synced", speaker=speaking.speaker and speaking.speaker.name, prefixes=len(fib.best))
        if first:
            self.dirty.mark("routes")
        return fib.synced()

    def _apply_routes(self, changes: list[Change[Route]]) -> None:
        if not changes:
            return
        refused = self.kernel.ports["routes"].apply(Plan(tuple(changes)))
        if refused:
            self.outcome.pending = (*self.outcome.pending, *refused)
            log.info("routes-refused", count=len(refused), first=str(refused[0].error))

    # -- kernel and time ------------------------------------------------------------------------------------------

    async def _watch_kernel(self, name: str) -> None:
        """Read a subsystem again after it changed under us; the pause grows with what a read costs."""
        async for _ in self.kernel.ports[name].watch():
            begun = time.monotonic()
            self.dirty.mark(name)
            await asyncio.sleep(max(LEAST_PAUSE, 10 * (time.monotonic() - begun)))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            if self.intent is None:
                continue
            vpcs = carried(self.intent, self.node) if "host" in self.intent.nodes[self.node].roles else ()
            if self.blocks.step(self.intent, self.node, vpcs, time.monotonic()):
                self.dirty.mark()
            if any(failure.error.retry for failure in self.outcome.pending):
                self.dirty.mark(*self.kernel.ports)

    def pending(self) -> tuple[Failure, ...]:
        """Return what the kernel refused and what still waits."""
        return self.outcome.pending

    def engine_details(self) -> Mapping[str, str]:
        """Return what is wrong with each engine, if anything."""
        return {name: speaking.detail for name, speaking in self.engines.items() if speaking.detail}
