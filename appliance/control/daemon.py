"""The daemon of one node: holds intent, kernel and engines together on the one road (design 0001).

Three things make it act: a new intent, what the engines learn, and what the kernel or the backends report. Each marks
what is out of date; one loop compiles, moves the kernel, then tells the engines. Withdrawals go out before the kernel
changes and announcements after, so nobody is sent here for what is not in place. Best paths take a short way of their
own into the FIB, at the cost of what changed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

import structlog

from appliance.control.blocks import Blocks
from appliance.control.cables import Cables
from appliance.control.commit import History, Version, parse_for, require_node
from appliance.control.compile import Desired, Known, compile_intent, surroundings
from appliance.control.dirty import SHARE, Dirty, Pace, Patience
from appliance.control.drain import Drain
from appliance.control.flows import Flows
from appliance.control.health import Checker, Probe, check
from appliance.control.reconcile import SUBSYSTEMS, Outcome, Plans, Reconciler
from appliance.control.remains import kept_members, with_kept_routes
from appliance.control.speakers import EngineRoom, Speakers, Speaking
from appliance.control.tasks import Tasks
from appliance.kernel.kernel import Kernel
from appliance.kernel.port import Failure
from appliance.kernel.watching import CARRIER
from appliance.model.errors import EdgewayError, InternalError, OperatorError
from appliance.model.facts import Fact, Netns, Route
from appliance.model.intent import Intent
from appliance.state.diff import Change, Plan
from appliance.state.store import Store
from routing.attach import forwards
from routing.engines.engine import Best, Event, Lost, Session, Synced
from routing.engines.process import Backoff
from routing.fib import Fib, routes_of
from services.feature import Runtime
from services.health import targets

log = structlog.get_logger()

#: Seconds for which changes are gathered before the loop acts on them.
GATHER = 0.02
#: Seconds between two looks at port blocks and at what is pending.
TICK = 1.0
#: Subsystems whose objects take others along when they go.
BELOW = frozenset({"namespaces", "links"})


class Daemon:
    """One node. `run` serves until it is cancelled; everything else may be called from other tasks of the loop."""

    def __init__(self, node: str, kernel: Kernel, store: Store, room: EngineRoom, probe: Probe = check) -> None:
        """Wire the parts; nothing is touched before `run`. `probe` checks one backend once."""
        self.node, self.kernel, self.store = node, kernel, store
        self.history = History(store)
        self.order = Drain(store)
        self.reconciler = Reconciler(kernel.ports)
        self.tasks = Tasks()
        self.dirty = Dirty()
        self.checker = Checker(kernel.namespaces, self.tasks, self.dirty.compile, probe)
        self.blocks = Blocks(store, kernel.conntrack)
        self.cables = Cables(kernel.ports["links"])
        self.speakers = Speakers(self.tasks, room, self._learn, self.dirty.compile)
        self.flows = Flows(kernel, store, self.tasks)
        self.instructions, self.reconciliation = self.flows.instructions, self.flows.reconciliation
        self.intent: Intent | None = None
        self.desired = Desired(frozenset(), ())
        self.fib: Fib | None = None
        self.outcome = Outcome()
        self.revision = 0
        #: Why the file given at the start does not run, if an earlier intent runs instead.
        self.notice = ""
        #: When the round of the loop began that is under way.
        self.busy_since: float | None = None
        self._installing = asyncio.Lock()
        self._waiting: list[asyncio.Future[Outcome]] = []
        self._heard = False
        self._kept_members: dict[IPv4Address, tuple[int, ...]] = {}
        self._patience, self._backoff = Patience(), Backoff()
        self._paces = defaultdict[str, Pace](Pace)

    # -- intent ---------------------------------------------------------------------------------------------------

    async def load(self, text: str, file: str) -> Outcome:
        """Commit an intent and wait until the kernel was led to it; OperatorError changes nothing."""
        async with self._installing:
            return await self._install(self.history.version(text, file))

    async def rollback(self) -> Outcome:
        """Run the previous intent again."""
        async with self._installing:
            return await self._install(self.history.before())

    async def drain(self, *, ordered: bool) -> Outcome:
        """Withdraw what others announce as well, or announce it again; wait until the engines were told."""
        if self.intent is None:
            raise OperatorError.of("no intent is installed yet", "there is nothing to withdraw")
        async with self._installing:
            self.order.order(ordered=ordered)
            log.info("drained" if ordered else "drain-undone", node=self.node)
            return await self._compiled()

    async def resume(self, instead_of: OperatorError) -> Outcome:
        """Run what ran before, because the file given at the start is wrong; raise that error if nothing ran."""
        running = self.history.running
        if running is None:
            raise instead_of
        async with self._installing:
            log.warning("stored-intent-runs", number=running.number, file=running.file, refused=str(instead_of))
            notice = f"intent {running.number} runs, because the file given at the start is wrong: {instead_of}"
            try:
                return await self._install(running, notice)
            except OperatorError as error:
                log.warning("stored-intent-refused", number=running.number, error=str(error))
                raise instead_of from error

    async def _install(self, version: Version, notice: str = "") -> Outcome:
        """Commit a version that parses and compiles, and wait for the round of the loop that compiles it."""
        # In a thread: a large intent takes long to parse, and the FIB must not wait.
        intent = await asyncio.to_thread(parse_for, self.node, version.text, version.file)
        self._rehearse(intent)
        self.history.commit(version)
        self.intent, self.notice = intent, notice
        outcome = await self._compiled()
        log.info("intent-installed", node=self.node, number=version.number, pending=len(outcome.pending))
        return outcome

    async def _compiled(self) -> Outcome:
        """Wait for the round of the loop that compiles what stands now."""
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        self.dirty.compile()
        return await told

    def _rehearse(self, intent: Intent) -> None:
        """Compile before anything is committed: what cannot be compiled is our bug and must not replace what runs."""
        try:
            compile_intent(intent, self.node, self.known(intent))
            surroundings(intent, self.node)
        except EdgewayError:
            raise
        except Exception as error:
            log.exception("compile-failed", node=self.node)
            raise InternalError(f"this intent cannot be compiled, nothing was changed: {error!r}") from error

    def known(self, intent: Intent) -> Known:
        """Return what is known at run time."""
        runtime = Runtime(self.blocks.taken(intent, self.node), self.checker.down, self.checker.nodes_down)
        members = self.fib.members if self.fib is not None and self._heard else self._kept_members
        return Known(runtime, members, self.cables.held, self.order.ordered)

    def plan(self, intent: Intent) -> tuple[Plans, Desired]:
        """Return what an intent would change in the kernel, and the speakers it asks for; changes nothing."""
        require_node(intent, self.node)
        desired = compile_intent(intent, self.node, self.known(intent))
        fib, around = self.fib, surroundings(intent, self.node)
        if fib is not None and fib.around != around:
            other = Fib(around)
            other.learn(fib.best.values() if forwards(intent.nodes[self.node]) else ())
            fib = other
        return self.reconciler.plan(self._with_routes(desired.facts, fib)), desired

    # -- the loop -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. The engines are left running: they are adopted by the next daemon."""
        for name in self.kernel.ports:
            self.tasks.start(f"watch {name}", lambda name=name: self._watch_kernel(name))  # type: ignore[misc]
        self.tasks.start("tick", self._tick)
        try:
            while True:
                await self.dirty.event.wait()
                await asyncio.sleep(GATHER)
                self.busy_since = time.monotonic()
                await self._round()
                self.busy_since = None
        finally:
            self.busy_since = None
            await self.tasks.stop()
            await self.speakers.close()
            self._answer(InternalError("the daemon stops"))

    async def _round(self) -> None:
        """Converge once. What fails by a bug of ours or of a port is told to who waits, and done again from scratch."""
        waiting, self._waiting = self._waiting, []
        compiled, subsystems = self.dirty.take()
        try:
            changed = await self._converge(compiled=compiled, subsystems=subsystems)
        except Exception as error:
            log.exception("converge-failed", node=self.node)
            self.outcome.settled = False  # what stands in the kernel is not known now
            self.dirty.compile()
            known = error if isinstance(error, EdgewayError) else InternalError(f"{error!r}; see the daemon's log")
            self._answer(known, waiting)
            await asyncio.sleep(self._backoff.next())
        except BaseException:
            self._waiting += waiting
            raise
        else:
            self._backoff.reset()
            self._answer(replace(self.outcome, changed=dict(changed)), waiting)

    def _answer(
        self, answer: Outcome | EdgewayError, waiting: Collection[asyncio.Future[Outcome]] | None = None
    ) -> None:
        """Tell those who wait for an intent (all when none are given)."""
        for told in self._waiting if waiting is None else waiting:
            if told.done():
                continue
            if isinstance(answer, Outcome):
                told.set_result(answer)
            else:
                told.set_exception(answer)

    async def _converge(self, *, compiled: bool, subsystems: set[str]) -> Mapping[str, int]:
        """Act on what is out of date; return the number of changes by subsystem."""
        intent, changed = self.intent, Counter[str]()
        if intent is None:
            return changed
        if compiled:
            changed.update(await self._bring(intent))
        if subsystems:
            changed.update(self._look_again(subsystems))
        if "links" in subsystems and self.cables.look():
            self.dirty.compile()
        if self.cables.opened(self.outcome.pending):
            self.dirty.compile()
        return changed

    async def _bring(self, intent: Intent) -> Mapping[str, int]:
        """Compile, withdraw, move the kernel, announce."""
        self.flows.begin(time.monotonic())
        self.cables.take_up(intent, self.node)
        changes, known = self._surround(intent), self.known(intent)
        desired = compile_intent(intent, self.node, known)
        kind = intent.nodes[self.node].engine
        await self.speakers.withdraw(kind, desired.speakers)
        changed = self._move(desired)
        self._apply_routes(changes)
        # The rules that hold now are in place: flows that lean on what no longer holds are handled under them.
        await self.flows.follow(intent, self.node, known.runtime)
        await self.checker.watch(targets(intent, self.node))
        await self.speakers.speak(kind, desired.speakers)
        self.revision += 1
        return changed

    def _surround(self, intent: Intent) -> list[Change[Route]]:
        """Let the FIB stand where the intent puts it; return what changes among the routes."""
        around = surroundings(intent, self.node)
        fib = self.fib
        if fib is None:
            self._kept_members = kept_members(self.kernel.ports)
            self.fib = Fib(around)
            return []
        if not forwards(intent.nodes[self.node]):
            fib.lost()
            return fib.synced()
        return fib.around_changed(around) if fib.around != around else []

    def _move(self, desired: Desired) -> Mapping[str, int]:
        """Lead the kernel to a new desired state, by the difference where the old one is known to stand."""
        old, self.desired, changed = self.desired, desired, Counter[str]()
        if old.facts and self.outcome.done:
            self.outcome = self.reconciler.move(old.facts, desired.facts)
            changed.update(self.outcome.changed)
        if not old.facts or not self.outcome.done:
            self.outcome = self.reconciler.apply(self._with_routes(desired.facts, self.fib))
            changed.update(self.outcome.changed)
        return changed

    def _look_again(self, subsystems: set[str]) -> Mapping[str, int]:
        """Read subsystems, and what is pending, and lead them back; everything, if something below was made anew."""
        names = subsystems | {_subsystem(failure.fact) for failure in self.outcome.pending}
        facts = self._with_routes(self.desired.facts, self.fib)
        self.outcome = self.reconciler.apply(facts, names)
        changed = Counter(self.outcome.changed)
        if BELOW & changed.keys():
            self.outcome = self.reconciler.apply(facts)
            changed.update(self.outcome.changed)
        for name, seconds in self.outcome.seconds.items():
            self._paces[name].looked(seconds, asyncio.get_running_loop().time())
        return changed

    def _with_routes(self, facts: frozenset[Fact], fib: Fib | None) -> tuple[Fact, ...]:
        """Add what is no intent: instructions, and BGP's routes; until BGP has spoken those the kernel still has."""
        routes = () if fib is None else routes_of(fib)
        facts |= frozenset(self.instructions.facts(fact.name for fact in facts if isinstance(fact, Netns)))
        return (*facts, *routes) if self._heard else with_kept_routes(self.kernel.ports, facts, routes)

    # -- engines --------------------------------------------------------------------------------------------------

    def _learn(self, speaking: Speaking, events: tuple[Event, ...]) -> None:
        """Take what an engine tells, in its order, into the FIB and on into the kernel."""
        fib, intent = self.fib, self.intent
        if fib is None or intent is None:  # engines are started after the first intent
            raise InternalError(f"{speaking.name} speaks too early")
        # On a route server best paths become nothing.
        routing = forwards(intent.nodes[self.node])
        before, changes = fib.members, list[Change[Route]]()
        for event in events:
            match event:
                case Best():
                    changes += fib.learn((event,)) if routing else ()
                case Session():
                    log.info("session", name=event.name, state=event.state.value, detail=event.detail)
                case Lost():
                    log.warning("engine-lost", speaker=speaking.name, detail=event.detail)
                    speaking.synced, speaking.lost = False, event.detail or "lost"
                    fib.lost()
                case Synced():
                    changes += self._on_synced(speaking, fib)
        self._apply_routes(changes)
        if fib.members != before:
            self.dirty.compile()

    def _on_synced(self, speaking: Speaking, fib: Fib) -> list[Change[Route]]:
        log.info("engine-synced", speaker=speaking.name, prefixes=len(fib.best))
        speaking.synced, speaking.lost = True, ""
        if not self._heard:
            # From now on BGP knows better than what an earlier daemon left.
            self._heard = True
            self.dirty.look(("routes",))
            self.dirty.compile()
        return fib.synced()

    def _apply_routes(self, changes: Iterable[Change[Route]]) -> None:
        net = _net(changes)
        if not net:
            return
        try:
            refused = self.kernel.ports["routes"].apply(Plan(net))
        except EdgewayError:
            self.dirty.look(("routes",))
            raise
        keys = {change.fact.key for change in net}
        waiting = (f for f in self.outcome.pending if not (isinstance(f.fact, Route) and f.fact.key in keys))
        self.outcome.pending = (*waiting, *refused)
        if refused:
            log.info("routes-refused", count=len(refused), first=str(refused[0].error))

    # -- kernel and time ------------------------------------------------------------------------------------------

    async def _watch_kernel(self, name: str) -> None:
        """Look at a subsystem again after it changed under us, in its pace."""
        loop, reasons = asyncio.get_running_loop(), self.kernel.ports[name].watch()
        later: asyncio.TimerHandle | None = None
        try:
            async for reason in reasons:
                if later is not None:
                    later.cancel()
                due = self._paces[name].due(loop.time(), urgent=reason.startswith(CARRIER))
                later = loop.call_at(due, self.dirty.look, (name,))
        finally:
            if later is not None:
                later.cancel()
            if isinstance(reasons, AsyncGenerator):
                await reasons.aclose()

    async def _tick(self) -> None:
        cost = 0.0
        while True:
            await asyncio.sleep(max(TICK, SHARE * cost))
            begun = time.monotonic()
            intent = self.intent
            if intent is None:
                continue
            if "host" in intent.nodes[self.node].roles and await self.blocks.step(
                intent, self.node, self.speakers.announced, begun
            ):
                self.dirty.compile()
            if self.cables.look():
                self.dirty.compile()
            if self._patience.again(self.outcome.pending, begun):
                self.dirty.look(_subsystem(failure.fact) for failure in self.outcome.pending)
            self.flows.tick(begun)
            cost = time.monotonic() - begun

    def pending(self) -> tuple[Failure, ...]:
        """Return what the kernel refused and what still waits."""
        return self.outcome.pending

    @property
    def converged(self) -> bool:
        """Whether an intent runs, and kernel and engines were led to it."""
        engines = self.speakers.running.values()
        quiet = self.revision > 0 and not self.dirty.compiled
        return quiet and self.outcome.done and all(s.synced and not s.detail for s in engines)

    def engine_details(self) -> Mapping[str, str]:
        """Return what is wrong with each engine, if anything."""
        return self.speakers.details


def _subsystem(fact: object) -> str:
    """Return the name of the subsystem that holds a fact."""
    return next(name for name, kinds in SUBSYSTEMS if isinstance(fact, kinds))


def _net(changes: Iterable[Change[Route]]) -> tuple[Change[Route], ...]:
    """Join the changes of each route to one: a port may apply the changes of a plan in an order of its own."""
    ends: dict[object, tuple[Route | None, Route | None]] = {}
    for change in changes:
        old, _ = ends.get(change.fact.key, (change.old, None))
        ends[change.fact.key] = (old, change.new)
    return tuple(
        Change("delete" if new is None else "create" if old is None else "update", old, new)
        for old, new in ends.values()
        if old != new
    )
