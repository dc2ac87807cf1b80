"""Carries out what becomes of established flows after a change, and tells beforehand how many there are (design 0005).

What each VPC promised to its flows is kept here and in the store. After the kernel was moved to other promises the
flows of those that ended are taken from the index, never from the conntrack table, and each is handled as
`services.flows.reconcile` decides: its record is deleted by its exact tuple, or an instruction makes both sides learn.

A flow that began under the old rules may be told late, so every change is looked at a second time; and a third time,
when events had been lost. What was done to which flow stands in `audit`. Called by `appliance.control.daemon`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from inspect import isawaitable
from itertools import islice
from typing import Final, NamedTuple, Protocol

import structlog

from appliance.control.flow_watch import FlowWatch, Scope
from appliance.control.tasks import Tasks
from appliance.kernel.conntrack_codec import CtEntry, entry_of
from appliance.model.errors import EdgewayError
from appliance.model.facts import Flow, FlowKey, Instruction, Namespace
from appliance.model.intent import Intent
from appliance.model.marks import vpc_namespace, vpc_zone
from appliance.model.policy import Choice
from appliance.state.store import Store
from services.edge import carried
from services.feature import Runtime
from services.flows.changes import Change, changes, parse_change
from services.flows.index import FlowIndex
from services.flows.promises import Mappings, from_tree, mappings, nothing, to_tree
from services.flows.reconcile import Count, Policy, Step, affected, counts, decide, plan

log = structlog.get_logger()

#: Seconds after which a change is looked at again, for flows whose beginning was told late.
SETTLE: Final = 1.0
#: Flows that are handled before others get their turn.
AT_ONCE: Final = 128
#: Rows of the audit list.
AUDIT: Final = 10_000

KEPT, INSTRUCTED, DELETED = "kept", "instructed", "deleted"

#: Brings instructions into the kernel before it returns, or before what it returns is awaited.
Instruct = Callable[[Sequence[Instruction]], Awaitable[object] | None]


class Records(Protocol):
    """What is asked of the conntrack port."""

    def delete(self, ns: Namespace, entries: Iterable[CtEntry]) -> int:
        """Delete exactly these records; return how many there were."""
        ...

    def set_timeout(self, ns: Namespace, entries: Iterable[CtEntry], seconds: int) -> int:
        """Have these records end when they were silent for so long; return how many there were."""
        ...


class Wanted(NamedTuple):
    """What a VPC promises, and what its operator wants for flows whose promise ends."""

    mappings: Mappings
    policy: Policy


@dataclass(frozen=True, slots=True)
class Audit:
    """What was done to one flow, when, and why."""

    time: datetime
    vpc: str
    change: Change
    flow: Flow
    choice: Choice
    result: str


@dataclass(frozen=True, slots=True)
class _Owed:
    """A change that is to be looked at again."""

    vpc: str
    old: Mappings
    due: float


@dataclass(frozen=True, slots=True)
class _Ending:
    """Records of flows that were reset, to be deleted when both sides had time to learn."""

    ns: Namespace
    flows: tuple[Flow, ...]
    due: float


def scopes(intent: Intent, node: str) -> dict[Namespace, Scope]:
    """Return what `FlowWatch.watch` is to follow for the VPCs of a node."""
    return {
        Namespace(vpc_namespace(name)): Scope(vpc_zone(intent.vpcs[name].id), (intent.vpcs[name].subnet,))
        for name in carried(intent, node)
    }


class Reconciliation:
    """The promises of every VPC on this node, and what was done when they ended."""

    def __init__(self, records: Records, watch: FlowWatch, tasks: Tasks, store: Store, instruct: Instruct) -> None:
        """Remember what the store has: an earlier daemon may have promised it."""
        self._records, self._watch, self._tasks = records, watch, tasks
        self._store, self._instruct = store, instruct
        self._held: dict[str, Wanted] = {}
        self._stored: dict[str, str] = {}
        for key in store.keys("promises/"):
            if (row := store.get(key)) is not None and (tree := json.loads(row[0])) is not None:
                vpc = key.removeprefix("promises/")
                self._stored[vpc], self._held[vpc] = row[0], Wanted(from_tree(tree), {})
        self._owed: list[_Owed] = []
        self._endings: list[_Ending] = []
        #: Flows whose records live on though they were handled, by VPC: the second look leaves them alone.
        self._handled: dict[str, set[FlowKey]] = {}
        self._turn = asyncio.Lock()
        #: What was done, newest last.
        self.audit: deque[Audit] = deque(maxlen=AUDIT)

    def wanted(self, intent: Intent, node: str, runtime: Runtime) -> dict[str, Wanted]:
        """Return what the VPCs of a node promise under an intent, also those whose last guest moved away from here."""
        before = {vpc for vpc, held in self._held.items() if held.mappings.here}
        names = {*carried(intent, node), *(before & intent.vpcs.keys())}
        return {
            name: Wanted(mappings(intent, node, name, runtime), intent.vpcs[name].established.model_dump())
            for name in sorted(names)
        }

    # -- asking ---------------------------------------------------------------------------------------------------

    def predict(self, wanted: Mapping[str, Wanted]) -> tuple[Count, ...]:
        """Count what would be done to which flows; changes nothing. Costs what the affected flows cost."""
        return tuple(
            row
            for vpc, (old, new, policy) in self._differences(wanted)
            if (index := self._index(vpc)) is not None
            for row in counts(plan(changes(old, new), index, policy))
        )

    def affected_by(self, text: str) -> tuple[Step, ...]:
        """Return the flows that a change would affect now, and what would be done; OperatorError if it is none."""
        change = self.parse(text)
        index, held = self._index(change.vpc), self._held.get(change.vpc)
        return () if index is None else decide(change, affected(change, index), {} if held is None else held.policy)

    def done_for(self, text: str) -> tuple[Audit, ...]:
        """Return what was done because of a change, newest last; OperatorError if it is none."""
        change = self.parse(text)
        return tuple(row for row in self.audit if row.change == change)

    def parse(self, text: str) -> Change:
        """Read the name of a change; VIPs may be written by the names they have now."""
        return parse_change(text, {vpc: held.mappings for vpc, held in self._held.items()})

    # -- doing ----------------------------------------------------------------------------------------------------

    async def carry_out(self, wanted: Mapping[str, Wanted]) -> None:
        """Handle the flows of every promise that ended; the kernel must have been moved to the new ones already."""
        due = asyncio.get_running_loop().time() + SETTLE
        found = list(self._differences(wanted))
        self._held = dict(wanted)
        for vpc, (old, new, _) in found:
            if old != new:
                self._owed.append(_Owed(vpc, old, due))
        async with self._turn:
            for owed in tuple(self._owed):
                await self._handle(owed)
        self._remember()
        if self._owed:
            self._tasks.start("flows-again", self._again)

    def _differences(self, wanted: Mapping[str, Wanted]) -> Iterator[tuple[str, tuple[Mappings, Mappings, Policy]]]:
        """Yield what was promised, what is from now on, and the operator's words."""
        for vpc, held in self._held.items():
            new = wanted.get(vpc, Wanted(nothing(held.mappings), held.policy))
            yield vpc, (held.mappings, new.mappings, new.policy)

    def _index(self, vpc: str) -> FlowIndex | None:
        return self._watch.index(Namespace(vpc_namespace(vpc)))

    async def _handle(self, owed: _Owed) -> None:
        """Handle the flows that still lean on promises of `owed.old`."""
        index = self._index(owed.vpc)
        if index is None:
            return
        held = self._held.get(owed.vpc, Wanted(nothing(owed.old), {}))
        handled = self._handled.setdefault(owed.vpc, set())
        steps = (s for s in plan(changes(owed.old, held.mappings), index, held.policy) if s.flow.key not in handled)
        done = Counter[tuple[str, int, Choice, str]]()
        while chunk := tuple(islice(steps, AT_ONCE)):
            for row in await self._act(Namespace(vpc_namespace(owed.vpc)), index, chunk):
                self.audit.append(row)
                done[str(row.change), row.flow.key.protocol, row.choice, row.result] += 1
                if row.result in {KEPT, INSTRUCTED}:
                    handled.add(row.flow.key)
            await asyncio.sleep(0)
        for change in dict.fromkeys(key[0] for key in done):
            flows = {" ".join(map(str, key[1:])): number for key, number in done.items() if key[0] == change}
            log.info("flows-reconciled", vpc=owed.vpc, change=change, flows=flows)

    async def _act(self, ns: Namespace, index: FlowIndex, steps: Sequence[Step]) -> list[Audit]:
        """Do what was decided for some flows."""
        rows: list[Audit] = []
        for choice in dict.fromkeys(step.choice for step in steps):
            chosen = [step for step in steps if step.choice == choice]
            try:
                result = await self._do(ns, index, chosen)
            except (EdgewayError, OSError) as error:
                log.warning("flows-not-reconciled", ns=ns, change=str(chosen[0].change), error=str(error))
                result = f"failed: {error}"
            now = datetime.now(UTC)
            rows += (Audit(now, s.change.vpc, s.change, s.flow, choice, result) for s in chosen)
        return rows

    async def _do(self, ns: Namespace, index: FlowIndex, steps: Sequence[Step]) -> str:
        """Do one thing to several flows; say what came of it."""
        delete, action, timeout = steps[0].effect
        flows = tuple(step.flow for step in steps)
        if delete:
            return self._delete(ns, index, flows)
        if action is None:
            return KEPT
        said = self._instruct([Instruction(ns, flow.key, action) for flow in flows])
        if isawaitable(said):
            await said
        if timeout is not None:
            self._records.set_timeout(ns, map(entry_of, flows), timeout)
            self._endings.append(_Ending(ns, flows, asyncio.get_running_loop().time() + timeout))
            self._tasks.start("flows-end", self._end)
        return INSTRUCTED

    def _delete(self, ns: Namespace, index: FlowIndex, flows: Sequence[Flow]) -> str:
        """Delete records by their exact tuples; one that ended unheard leaves the index too."""
        found = self._records.delete(ns, map(entry_of, flows))
        for flow in flows:
            index.remove(flow)
        return DELETED if found == len(flows) else f"{DELETED}, or had ended: {len(flows) - found} of {len(flows)}"

    # -- later ----------------------------------------------------------------------------------------------------

    async def _again(self) -> None:
        """Look at changes a second time."""
        clock = asyncio.get_running_loop().time
        while self._owed:
            await asyncio.sleep(max(self._owed[0].due - clock(), 0))
            async with self._turn:
                for owed in [owed for owed in self._owed if owed.due <= clock()]:
                    await self._look_again(owed, clock() + SETTLE)
            self._remember()

    async def _look_again(self, owed: _Owed, later: float) -> None:
        """Handle what was told late; once more later, if something may be missing from the index."""
        ns, held = Namespace(vpc_namespace(owed.vpc)), self._held.get(owed.vpc)
        partly = not self._watch.whole(ns) and held is not None and bool(held.mappings.here)
        await self._handle(owed)
        self._owed.remove(owed)
        if partly:
            self._owed.append(_Owed(owed.vpc, owed.old, later))
        elif all(other.vpc != owed.vpc for other in self._owed):
            self._handled.pop(owed.vpc, None)

    async def _end(self) -> None:
        """Delete the records of flows that were answered for long enough: the next packet is a first one."""
        clock = asyncio.get_running_loop().time
        while self._endings:
            ending = self._endings[0]
            await asyncio.sleep(max(ending.due - clock(), 0))
            self._endings.remove(ending)
            index = self._watch.index(ending.ns)
            if index is None:
                continue
            try:
                self._records.delete(ending.ns, [entry_of(flow) for flow in ending.flows if flow in index])
            except (EdgewayError, OSError) as error:
                log.warning("flows-not-ended", ns=ending.ns, flows=len(ending.flows), error=str(error))

    def _remember(self) -> None:
        """Keep what is promised, once nothing of an earlier promise is left to do."""
        for vpc in (self._held.keys() | self._stored.keys()) - {owed.vpc for owed in self._owed}:
            held = self._held.get(vpc)
            text = json.dumps(None if held is None else to_tree(held.mappings))
            if self._stored.get(vpc) != text:
                self._store.put(f"promises/{vpc}", text)
                self._stored[vpc] = text
