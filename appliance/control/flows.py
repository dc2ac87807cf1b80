"""All that the daemon does about single flows, put together: instructions, flow records followed, reconciliation.

Instructions come from the operator, from service nodes on their links, and from reconciliation; whoever gives one, it
lands in the same map. Called by `appliance.control.daemon` after the kernel was moved, and once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from appliance.control import instruct
from appliance.control.flow_watch import FlowWatch, Scope
from appliance.control.instructions import Instructions, Place
from appliance.control.reconciliation import Reconciliation, scopes
from appliance.control.tasks import Tasks
from appliance.kernel.conntrack_codec import CtEntry, flow_of
from appliance.kernel.kernel import Kernel
from appliance.model.errors import KernelError
from appliance.model.facts import FlowKey, Instruction, Namespace
from appliance.model.intent import Intent
from appliance.model.marks import Action, Mark, vpc_zone
from appliance.state.store import Store
from services.feature import Runtime
from services.flows.inband import Request, Status
from services.inline.compile import edges_of
from services.inline.names import engine_namespace
from services.steering import ServiceLink, service_links

log = structlog.get_logger()

#: Seconds for which ends of flows are gathered before their instructions are removed.
GATHER = 0.1
#: Actions whose object is the service node that a flow is redirected to, or that ordered them; others number settings.
OF_NODES = frozenset({Action.REDIRECT, Action.ALLOW, Action.DENY, Action.REJECT})


def engines_of(intent: Intent, node: str) -> set[Namespace]:
    """Return the namespaces in which engines of inline edges judge."""
    return {
        engine_namespace(name, edge, engine) for name, edge in edges_of(intent, node).items() for engine in edge.engines
    }


class Flows:
    """The flows of one node."""

    def __init__(self, kernel: Kernel, store: Store, tasks: Tasks) -> None:
        """Wire the parts; nothing is touched before `begin`."""
        self._conntrack = kernel.conntrack
        self.instructions = Instructions(kernel.ports["nft"], kernel.conntrack)
        self.watch = FlowWatch(kernel.conntrack, tasks)
        self.reconciliation = Reconciliation(kernel.conntrack, self.watch, tasks, store, self._reconciled)
        self.inband = instruct.InBand(kernel.namespaces, tasks, self._ordered)
        self.watch.on_ended(self._ended)
        self.watch.on_read(self._read)
        self._zones: dict[str, int] = {}
        self._gone: dict[Place, Instruction] = {}
        self._begun = False

    def begin(self, now: float) -> None:
        """Adopt what the kernel has, once."""
        if not self._begun:
            self.instructions.adopt(now)
            self._begun = True

    async def follow(self, intent: Intent, node: str, runtime: Runtime) -> None:
        """Follow the flows of an intent that the kernel has been led to; handle those whose promises ended."""
        self._zones = {name: vpc_zone(vpc.id) for name, vpc in intent.vpcs.items()}
        # First what ended: a VPC that left this node has flows as long as they are followed.
        await self.reconciliation.carry_out(self.reconciliation.wanted(intent, node, runtime))
        followed = {**scopes(intent, node), **{ns: Scope() for ns in engines_of(intent, node)}}
        self.instructions.keep(followed)
        await self.watch.watch(followed)
        await self.inband.watch(service_links(intent, node))

    def tick(self, now: float) -> None:
        """Give up on instructions whose flow never came."""
        try:
            self.instructions.expire(now)
        except KernelError as error:
            log.warning("instructions-not-expired", error=str(error))

    # -- instructions -------------------------------------------------------------------------------------------------

    def _reconciled(self, rows: Sequence[Instruction]) -> None:
        self.instructions.give(rows, asyncio.get_running_loop().time())

    async def _ordered(self, link: ServiceLink, requests: Sequence[Request]) -> Sequence[Status]:
        """Do what a service node asks, for flows that are redirected to it; several requests are one transaction."""
        zone, wanted, statuses = self._zones.get(link.vpc, 0), dict[Place, Instruction | None](), list[Status]()
        try:
            for request in requests:
                entry = self._conntrack.get(link.ns, replace(request.flow, zone=zone))
                statuses.append(self._status(link, entry))
                if entry is not None and statuses[-1] is Status.DONE:
                    key, action = flow_of(entry).key, request.order.action
                    wanted[link.ns, key] = None if action is None else Instruction(link.ns, key, action, link.number)
            self.instructions.change(wanted, asyncio.get_running_loop().time())
        except KernelError as error:
            log.warning("instructions-failed", vpc=link.vpc, node=link.name, error=str(error))
            asked = (*statuses, *[Status.DONE] * (len(requests) - len(statuses)))
            return [Status.FAILED if status is Status.DONE else status for status in asked]
        return statuses

    def _status(self, link: ServiceLink, entry: CtEntry | None) -> Status:
        if entry is None:
            return Status.NO_SUCH_FLOW
        mark, row = Mark.of(entry.mark), self.instructions.of(link.ns).get(flow_of(entry).key)
        # A flow that the node let pass by is still its own: `object` keeps the number of who ordered it.
        action, number = (mark.action, mark.object) if row is None else (row.action, row.object)
        return Status.DONE if action in OF_NODES and number == link.number else Status.REFUSED

    def _ended(self, ns: Namespace, flow: FlowKey) -> None:
        """Remember that a flow with an instruction ended; several are removed together."""
        if (row := self.instructions.of(ns).get(flow)) is not None:
            if not self._gone:
                asyncio.get_running_loop().call_later(GATHER, self._remove)
            self._gone[ns, flow] = row

    def _remove(self) -> None:
        """Remove what ended, unless an instruction was given since: that is for the next flow with these ports."""
        gone, self._gone = self._gone, {}
        same = [place for place, row in gone.items() if self.instructions.of(place[0]).get(place[1]) is row]
        for ns in dict.fromkeys(ns for ns, _ in same):
            try:
                self.instructions.ended(ns, [flow for place, flow in same if place == ns])
            except KernelError as error:
                log.warning("instructions-not-removed", ns=ns, error=str(error))

    def _read(self, ns: Namespace) -> None:
        """Remove the instructions of flows that ended unheard: before this daemon, or while events were lost."""
        try:
            self.instructions.check(ns)
        except KernelError as error:
            log.warning("instructions-not-checked", ns=ns, error=str(error))
