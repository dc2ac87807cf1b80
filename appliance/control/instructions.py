"""Instructions for single flows, from whoever gives them: operator, service node, reconciliation (design 0004).

They stand in the kernel's map and die with their flow: this memory is only what is needed to put them back when somebody
removes the table, and to know which rows belong to flows that never came. A restarted daemon adopts what the kernel has.
Called by `appliance.control.daemon`; the port applies them at the cost of the change.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import structlog

from appliance.kernel.conntrack import Conntrack
from appliance.kernel.port import Port
from appliance.model.facts import FlowKey, Instruction, Namespace
from appliance.state.diff import Change, Plan

log = structlog.get_logger()

#: Seconds that an instruction waits for a flow that has not come yet.
PATIENCE = 300.0

Place = tuple[Namespace, FlowKey]


class Instructions:
    """All instructions of a node."""

    def __init__(self, port: Port[Any], conntrack: Conntrack) -> None:
        """`port` holds Instruction facts; nothing is read before `adopt`."""
        self._port, self._conntrack = port, conntrack
        self._held: dict[Namespace, dict[FlowKey, Instruction]] = {}
        #: When rows were given whose flow was not there.
        self._waiting: dict[Place, float] = {}

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
        self.change({(row.ns, row.flow): row for row in instructions}, now)

    def clear(self, ns: Namespace, flows: Iterable[FlowKey]) -> int:
        """Take instructions back; the flows are judged by the rules again. Return how many there were."""
        return self.change({(ns, flow): None for flow in flows})

    def change(self, wanted: Mapping[Place, Instruction | None], now: float = 0.0) -> int:
        """Put some into force and take others (None) back, in one transaction; return how many are others now."""
        olds = {(ns, flow): self._held.get(ns, {}).get(flow) for ns, flow in wanted}
        self._apply([_change(olds[place], new) for place, new in wanted.items() if olds[place] != new])
        for (ns, flow), new in wanted.items():
            self._keep(ns, flow, new, now)
        return sum(olds[place] != new for place, new in wanted.items())

    def _keep(self, ns: Namespace, flow: FlowKey, new: Instruction | None, now: float) -> None:
        """Remember what the kernel has; one that was given again is as good as new, though it is equal."""
        self._waiting.pop((ns, flow), None)
        if new is None:
            self._held.get(ns, {}).pop(flow, None)
            return
        self._held.setdefault(ns, {})[flow] = new
        if self._conntrack.get(ns, flow) is None:
            self._waiting[ns, flow] = now

    def keep(self, namespaces: Container[Namespace]) -> None:
        """Forget what stood in other namespaces: they are gone, and their flows with them."""
        self._held = {ns: rows for ns, rows in self._held.items() if ns in namespaces}
        self._waiting = {place: given for place, given in self._waiting.items() if place[0] in namespaces}

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
            if self._conntrack.get(ns, flow) is None:
                log.info("instruction-expired", namespace=ns)
                self.clear(ns, (flow,))
            else:
                del self._waiting[ns, flow]

    def _apply(self, changes: list[Change[Instruction]]) -> None:
        if not changes:
            return
        failures = self._port.apply(Plan(tuple(changes)))
        if failures:
            raise failures[0].error


def _change(old: Instruction | None, new: Instruction | None) -> Change[Instruction]:
    return Change("delete" if new is None else "create" if old is None else "update", old, new)
