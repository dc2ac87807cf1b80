"""Instructions for single flows, from whoever gives them: operator, service node, reconciliation (design 0004).

They stand in the kernel's map and die with their flow: this memory is only what is needed to put them back when somebody
removes the table, and to know which rows belong to flows that never came. A restarted daemon adopts what the kernel has.
Called by `appliance.control.daemon`; the port applies them at the cost of the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from appliance.kernel.conntrack import Conntrack
from appliance.kernel.port import Port
from appliance.model.facts import FlowKey, Instruction, Namespace
from appliance.state.diff import Change, Operation, Plan

log = structlog.get_logger()

#: Seconds that an instruction waits for a flow that has not come yet.
PATIENCE = 300.0


class Instructions:
    """All instructions of a node."""

    def __init__(self, port: Port[Any], conntrack: Conntrack) -> None:
        """`port` holds Instruction facts; nothing is read before `adopt`."""
        self._port, self._conntrack = port, conntrack
        self._held: dict[Namespace, dict[FlowKey, Instruction]] = {}
        #: When rows were given whose flow was not there.
        self._waiting: dict[tuple[Namespace, FlowKey], float] = {}

    def adopt(self, now: float) -> None:
        """Take over what the kernel has."""
        for fact in self._port.read():
            if isinstance(fact, Instruction):
                self._held.setdefault(fact.ns, {})[fact.flow] = fact
                self._waiting[fact.ns, fact.flow] = now

    def facts(self, namespaces: Iterable[Namespace]) -> tuple[Instruction, ...]:
        """Return what the kernel must hold in namespaces that are to stay."""
        return tuple(row for ns in namespaces for row in self._held.get(ns, {}).values())

    def of(self, ns: Namespace) -> Mapping[FlowKey, Instruction]:
        """Return the instructions of a namespace."""
        return self._held.get(ns, {})

    def give(self, instructions: Iterable[Instruction], now: float) -> None:
        """Put instructions into force; when this returns, the next packet of each flow obeys. The last one wins."""
        changes: list[Change[Instruction]] = []
        for new in {row.key: row for row in instructions}.values():
            old = self._held.get(new.ns, {}).get(new.flow)
            if old != new:
                operation: Operation = "create" if old is None else "update"
                changes.append(Change(operation, old, new))
        self._apply(changes)
        for change in changes:
            row = change.fact
            self._held.setdefault(row.ns, {})[row.flow] = row
            if self._conntrack.get(row.ns, row.flow) is None:
                self._waiting[row.ns, row.flow] = now

    def clear(self, ns: Namespace, flows: Iterable[FlowKey]) -> int:
        """Take instructions back; the flows are judged by the rules again. Return how many there were."""
        held = self._held.get(ns, {})
        gone = [held[flow] for flow in dict.fromkeys(flows) if flow in held]
        self._apply([Change("delete", row, None) for row in gone])
        for row in gone:
            del held[row.flow]
            self._waiting.pop((ns, row.flow), None)
        return len(gone)

    def ended(self, ns: Namespace, flows: Iterable[FlowKey]) -> None:
        """Forget the instructions of flows whose records are gone."""
        if ns in self._held and (count := self.clear(ns, flows)):
            log.debug("instructions-ended", namespace=ns, count=count)

    def check(self, ns: Namespace) -> None:
        """Look which flows of a namespace still are, after events were lost."""
        held = self._held.get(ns, {})
        self.ended(
            ns, [flow for flow in held if (ns, flow) not in self._waiting and self._conntrack.get(ns, flow) is None]
        )

    def expire(self, now: float) -> None:
        """Give up on flows that never came; what came is waited for no longer."""
        due = [place for place, given in self._waiting.items() if now - given >= PATIENCE]
        for ns, flow in due:
            del self._waiting[ns, flow]
            if self._conntrack.get(ns, flow) is None:
                log.info("instruction-expired", namespace=ns)
                self.clear(ns, (flow,))

    def _apply(self, changes: list[Change[Instruction]]) -> None:
        if not changes:
            return
        failures = self._port.apply(Plan(tuple(changes)))
        if failures:
            raise failures[0].error
