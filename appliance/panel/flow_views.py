"""What the daemon shows of the stateful core, and what may be ordered for single flows: plain JSON values.

One function a command of `appliance.panel.flow_cli`; `appliance.panel.views` lists those that show. Deciding and
finding is done by `appliance.control.flow_desk`, `flow_trace` and `reconciliation`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from appliance.control.daemon import Daemon
from appliance.control.flow_desk import FlowDesk, Scope
from appliance.control.flow_trace import trace as trace_flow
from appliance.control.inline_trace import SHORT
from appliance.kernel.conntrack_codec import CtEntry, CtTuple, flow_of
from appliance.model import describe
from appliance.model.errors import KernelError, OperatorError
from appliance.model.facts import Namespace
from appliance.model.intent import Intent
from appliance.model.marks import Mark, vpc_namespace
from services.edge import carried
from services.firewall import NOBODY
from services.flows.trace import Edge, rule_text
from services.inline.compile import edges_of
from services.inline.names import SIDES
from services.inline.rules import index, rule_id
from services.inline.trace import rule_text as rule_line
from services.place import Place

Row = dict[str, Any]
#: At most this many flows of each VPC are shown; after so many others get their turn.
FLOWS, AT_ONCE = 1000, 100
PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}
IPV6: Final = 6


def running(daemon: Daemon) -> Intent:
    """Return the intent that runs."""
    if daemon.intent is None:
        raise OperatorError.of("no intent is installed yet", "look at the daemon's log")
    return daemon.intent


def desk(daemon: Daemon) -> FlowDesk:
    """Return a desk that knows what the daemon knows now."""
    intent = running(daemon)
    return FlowDesk(daemon.node, intent, daemon.known(intent).runtime, daemon.kernel, daemon.instructions)


# -- orders -----------------------------------------------------------------------------------------------------------


async def order(daemon: Daemon, body: Mapping[str, str]) -> Row:
    """Do what `edgeway flow` asks: {"vpc", "flow", "action", "to"}; action `clear` without a flow clears all."""
    here, action, flow = desk(daemon), body["action"], body.get("flow", "")
    if action != "clear":
        return here.order(body["vpc"], flow, action, body.get("to", ""), asyncio.get_running_loop().time())
    return here.clear(body["vpc"], flow) if flow else here.clear_all(body["vpc"])


async def trace(daemon: Daemon, body: Mapping[str, str]) -> Row:
    """Say what becomes of a flow: {"vpc", "flow", "in"}."""
    return trace_flow(desk(daemon), body["vpc"], body["flow"], body.get("in", ""))


# -- flows ------------------------------------------------------------------------------------------------------------


async def flows(daemon: Daemon, vpc: str = "", affected_by: str = "") -> list[Row]:
    """Live flows of the VPCs on this node, how they are translated and judged: at most FLOWS of each VPC."""
    here = carried(running(daemon), daemon.node)
    if vpc and vpc not in here:
        raise OperatorError.of(f"no guest of VPC {vpc} is on this node", f"VPCs here: {', '.join(here) or 'none'}")
    if affected_by:
        return await _affected(daemon, vpc, affected_by)
    return [row for name in here if vpc in ("", name) async for row in _flows(daemon, name)]


async def _flows(daemon: Daemon, vpc: str) -> AsyncIterator[Row]:
    """Dump by portions: the daemon has other things to do meanwhile."""
    ns = Namespace(vpc_namespace(vpc))
    try:
        about = _About(desk(daemon), vpc)
        for number, entry in enumerate(islice(daemon.kernel.conntrack.dump(ns), FLOWS), 1):
            yield about.row(entry)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
    except KernelError as error:
        if not error.retry:
            raise


async def _affected(daemon: Daemon, vpc: str, change: str) -> list[Row]:
    """Return the flows that a change would affect now, and what would be done to each."""
    rows: list[Row] = []
    about: dict[str, _About] = {}
    for number, step in enumerate(islice(daemon.reconciliation.affected_by(change), FLOWS), 1):
        name = step.change.vpc
        entry = daemon.kernel.conntrack.get(Namespace(vpc_namespace(name)), step.flow.key)
        if vpc in ("", name) and entry is not None:
            if name not in about:
                about[name] = _About(desk(daemon), name)
            rows.append(about[name].row(entry) | {"would": step.choice})
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    return rows


class _About:
    """What is asked once for all flows of a VPC."""

    def __init__(self, here: FlowDesk, vpc: str) -> None:
        self._desk, self._vpc = here, vpc
        (self._scope,) = here.scopes(vpc)
        self._held = here.instructions.of(self._scope.ns)
        self._generations = dict(here.judge.generations(self._scope.ns))

    def row(self, entry: CtEntry) -> Row:
        """Write one record."""
        given, mark = self._held.get(flow_of(entry).key), Mark.of(entry.mark)
        return {
            "vpc": self._vpc,
            "protocol": PROTOCOLS.get(entry.l4proto, str(entry.l4proto)),
            "state": entry.tcp_state,
            "source": _end(entry.orig, source=True),
            "destination": _end(entry.orig, source=False),
            "reply-source": _end(entry.reply, source=True),
            "reply-destination": _end(entry.reply, source=False),
            "zone": entry.zone,
            "mark": entry.mark,
            "timeout": entry.timeout,
            **self._desk.record(entry.mark, self._generations),
            "object": self._desk.object_name(self._scope, mark.action, mark.object),
            "instruction": None if given is None else given.action.name.lower(),
        }


def _end(flow: CtTuple, *, source: bool) -> str:
    """Write one end: address and port; what ICMP has instead of ports stands with the destination."""
    address, port = (flow.source, flow.sport) if source else (flow.destination, flow.dport)
    if flow.icmp is not None:
        return str(address) if source else f"{address} type {flow.icmp.type} id {flow.icmp.id}"
    text = f"[{address}]" if address.version == IPV6 else str(address)
    return f"{text}:{port}" if port else str(address)


# -- instructions, rules, engines, audit ------------------------------------------------------------------------------


async def instructions(daemon: Daemon, vpc: str = "") -> list[Row]:
    """Every instruction, with what became of its flow."""
    return desk(daemon).held(vpc)


async def rules(daemon: Daemon, vpc: str = "") -> list[Row]:
    """Every rule once, which ports refer to it, and where it stands in the index of each."""
    here = desk(daemon)
    return [row for scope in here.scopes(vpc) for row in _rules(here, scope)]


def _rules(here: FlowDesk, scope: Scope) -> Iterable[Row]:
    if scope.vpc is None:
        yield from _inline_rules(here, scope)
        return
    edge = Edge.of(Place.of(here.intent, here.node, scope.name), scope.vpc, here.runtime)
    local = sorted(name for name, guest in scope.vpc.guests.items() if guest.host == here.node)
    places = {guest: {rule: n for n, rule in enumerate(edge.rules.order(guest), 1)} for guest in local}
    for name, rule in edge.rules.rules.items():
        positions = {guest: place[name] for guest, place in places.items() if name in place}
        yield {
            "vpc": scope.name,
            "rule": name[:SHORT],
            "tier": rule.tier,
            "text": rule_text(rule),
            "action": rule.action,
            "references": len(positions),
            "positions": positions,
            "note": edge.unlike(rule) or None,
        }
    for default in ("inbound", "outbound", "internal"):
        said = getattr(scope.vpc.firewall, default)
        yield _default(scope, f"{default} traffic that no rule matches", said, len(local))


def _inline_rules(here: FlowDesk, scope: Scope) -> Iterable[Row]:
    _, name, engine = scope.name.split("/")
    section = edges_of(here.intent, here.node)[name].engines[engine]
    orders = {side: index(section, side) for side in SIDES}
    for name_, rule in {rule_id(rule): rule for rule in section.rules}.items():
        places = {side: order.index(name_) + 1 for side, order in orders.items() if name_ in order}
        row = {"vpc": scope.name, "rule": name_[:SHORT], "tier": None, "text": rule_line(rule), "action": rule.action}
        yield row | {"references": len(places), "positions": places, "note": None}
    for side, said in (("north", section.northward), ("south", section.southward)):
        yield _default(scope, f"traffic toward {side} that no rule matches", said, 1)


def _default(scope: Scope, text: str, action: str, references: int) -> Row:
    row = {"vpc": scope.name, "rule": None, "tier": None, "text": text, "action": action}
    return row | {"references": references, "positions": {}, "note": None}


async def engines(daemon: Daemon, vpc: str = "") -> list[Row]:
    """What is judged together: generation, members, digest of the policy; and the counters of each namespace."""
    here = desk(daemon)
    return [row for ns, scopes in here.namespaces(vpc) for row in _engines(here, ns, scopes)]


def _engines(here: FlowDesk, ns: Namespace, scopes: list[Scope]) -> Iterable[Row]:
    generations, policies = here.judge.generations(ns), here.judge.policies(ns)
    counted = {name: packets for name, (packets, _) in sorted(here.judge.counters(ns).items())}
    whole = scopes[0].name if scopes[0].vpc is not None else scopes[0].name.rpartition("/")[0]
    yield {"vpc": whole, "engine": "all", "generation": None, "members": [], "policy": None, "counters": counted}
    members = _members(here, scopes)
    for number, generation in sorted(generations.items()):
        name, who = members.get(number, (whole, []))
        row = {"vpc": name, "engine": number, "generation": generation, "members": who}
        yield row | {"policy": policies.get(number), "counters": None}


def _members(here: FlowDesk, scopes: list[Scope]) -> dict[int, tuple[str, list[str]]]:
    """Return by engine whose flows it has: guests of a VPC, wires of an inline edge."""
    found: dict[int, tuple[str, list[str]]] = {}
    for scope in scopes:
        if scope.vpc is None:
            _, name, engine = scope.name.split("/")
            edge = edges_of(here.intent, here.node)[name]
            wires = sorted(wire for wire, bridge in edge.bridges.items() if bridge.engine == engine)
            found[edge.engines[engine].id] = (scope.name, wires)
            continue
        found[NOBODY] = (scope.name, ["flows without a guest here"])
        names = {guest.address: name for name, guest in scope.vpc.guests.items()}
        for group in Edge.of(Place.of(here.intent, here.node, scope.name), scope.vpc, here.runtime).groups:
            sharing = found.setdefault(group.engine, (scope.name, []))[1]
            sharing += [names[address] for address in group.guests]
    return found


async def audit(daemon: Daemon, change: str = "") -> list[Row]:
    """What was done to established flows after changes, newest last; for one change if it is given."""
    done = daemon.reconciliation
    return [
        {
            "time": row.time.isoformat(timespec="milliseconds"),
            "vpc": row.vpc,
            "change": str(row.change),
            "flow": describe.flow(row.flow.key),
            "choice": row.choice,
            "result": row.result,
        }
        for row in (done.done_for(change) if change else tuple(done.audit))
    ]


def predicted(daemon: Daemon, intent: Intent) -> list[Row]:
    """How many established flows an intent would affect, and what would be done to them, as rows of a plan."""
    done = daemon.reconciliation
    counted = done.predict(done.wanted(intent, daemon.node, daemon.known(intent).runtime))
    return [
        {
            "subsystem": "flows",
            "operation": row.choice,
            "object": f"{row.flows} {PROTOCOLS.get(row.protocol, row.protocol)} because of {row.change}",
            "was": None,
        }
        for row in counted
    ]
