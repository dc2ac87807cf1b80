"""What the daemon shows: plain JSON values, one function a show command. Reads only, decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from appliance.control.blocks import FIRST
from appliance.control.compile import Desired
from appliance.control.daemon import Daemon
from appliance.control.reconcile import Plans, changes
from appliance.kernel import probe
from appliance.kernel.forwarded import forwarded
from appliance.model.describe import describe, hop
from appliance.model.errors import EngineError, KernelError, OperatorError
from appliance.model.facts import Namespace, NftSet
from appliance.model.intent import Intent, Vip, Vpc
from appliance.model.marks import vpc_namespace
from appliance.panel import flow_views
from appliance.panel.flow_views import Row, running
from appliance.state.diff import Change
from routing.bgp.values import Attributes, Network, Speaker
from routing.engines.engine import RouteView, SessionState, SessionView
from routing.fib import Fib, explain
from services.edge import carried
from services.nat import own_blocks
from services.place import Place

#: Elements of a set that a plan shows.
FEW = 12
#: After so many rows others get their turn.
AT_ONCE = 100


async def status(daemon: Daemon) -> Row:
    """Say whether intent, kernel and engines agree."""
    sessions = await neighbors(daemon)
    up = sum(row["state"] == SessionState.ESTABLISHED.value for row in sessions)
    running = daemon.history.running
    return {
        "node": daemon.node,
        "intent": None if running is None else {"file": running.file, "number": running.number},
        "notice": daemon.notice,
        "revision": daemon.revision,
        "converged": daemon.converged and up == len(sessions),
        "sessions": {"established": up, "configured": len(sessions)},
        "synced": {name: speaking.synced for name, speaking in daemon.speakers.running.items()},
        "routes": len(daemon.fib.routes) if daemon.fib else 0,
        "pending": [
            {"object": describe(f.fact), "error": str(f.error), "retry": f.error.retry} for f in daemon.pending()
        ],
        "engines": dict(daemon.engine_details()),
    }


async def nodes(daemon: Daemon) -> list[Row]:
    """The zone's nodes."""
    return [
        {
            "node": name,
            "id": node.id,
            "roles": ",".join(node.roles),
            "engine": node.engine,
            "loopback": str(node.loopback.ipv4),
            "fabric": str(node.fabric.ipv4),
            "here": name == daemon.node,
        }
        for name, node in sorted(running(daemon).nodes.items())
    ]


async def neighbors(daemon: Daemon) -> list[Row]:
    """BGP sessions of every engine of this node."""
    rows: list[Row] = []
    for name, speaking in sorted(daemon.speakers.running.items()):
        try:
            sessions = await speaking.engine.sessions()
        except EngineError as error:
            rows.append({"speaker": name, "neighbor": "-", "state": "engine lost", "detail": str(error)})
            continue
        rows += [_session(name, view) for view in sorted(sessions, key=lambda v: v.name)]
    return rows


def _session(speaker: str, view: SessionView) -> Row:
    return {
        "speaker": speaker,
        "neighbor": view.name,
        "address": str(view.address),
        "as": view.asn,
        "state": view.state.value,
        "uptime": None if view.uptime is None else round(view.uptime),
        "received": view.received,
        "accepted": view.accepted,
        "advertised": view.advertised,
        "detail": view.detail,
    }


def _attributes(attributes: Attributes) -> Row:
    return {
        "next-hop": str(attributes.next_hop),
        "as-path": " ".join(str(asn) for asn in attributes.path_asns),
        "origin": attributes.origin.name.lower(),
        "med": attributes.med,
        "local-pref": attributes.local_pref,
        "communities": [f"{a}:{b}" for a, b in attributes.communities],
        "large-communities": [f"{a}:{b}:{c}" for a, b, c in attributes.large_communities],
    }


def _route(speaker: str, view: RouteView) -> Row:
    refused = None if view.reason is None else {"number": int(view.reason), "name": view.reason.name}
    return {
        "speaker": speaker,
        "prefix": str(view.prefix),
        "neighbor": view.neighbor,
        **_attributes(view.attributes),
        "best": view.best,
        "refused": refused,
        "stale": view.stale,
        "why": view.why,
    }


async def routes(daemon: Daemon, prefix: str = "", neighbor: str = "") -> list[Row]:
    """Paths received, refused ones too, and originated; of one prefix, one neighbour, or all."""
    network: Network | None = None
    if prefix:
        try:
            network = ip_network(prefix)
        except ValueError as error:
            raise OperatorError.of(str(error), "give a prefix like 203.0.113.0/24") from error
    rows: list[Row] = []
    for name, speaking in sorted(daemon.speakers.running.items()):
        try:
            views = await speaking.engine.routes(network, neighbor or None)
        except EngineError as error:
            rows.append({"speaker": name, "prefix": "-", "best": False, "why": f"engine lost: {error}"})
            continue
        for number, view in enumerate(views):
            rows.append(_route(name, view))
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
    if network is not None and daemon.fib is not None:
        became = _became(daemon.fib, network)
        rows = [row | {"fib": became} if row["best"] and became else row for row in rows]
    return rows


def _became(fib: Fib, network: Network) -> str | None:
    """Say what became of the best path of a prefix in the kernel."""
    became, installed = explain(fib, network), fib.routes.get(network)
    if became is None or installed is None:
        return became
    return f"{became}: {' '.join(hop(one) for one in installed.hops)}"


async def vpcs(daemon: Daemon) -> list[Row]:
    """The zone's VPCs: where their guests are; on a host also which blocks and VIPs it serves for them."""
    intent = running(daemon)
    here = carried(intent, daemon.node)
    return [_vpc(daemon, intent, name, vpc, here=name in here) for name, vpc in sorted(intent.vpcs.items())]


def _vpc(daemon: Daemon, intent: Intent, name: str, vpc: Vpc, *, here: bool) -> Row:
    return {
        "vpc": name,
        "id": vpc.id,
        "subnet": str(vpc.subnet),
        "here": here,
        "guests": {g: guest.host for g, guest in vpc.guests.items()},
        "snat": str(vpc.snat.address) if vpc.snat else None,
        "ports": _ports(daemon, intent, name, vpc) if here else [],
        "vips": {key: _vip(daemon, name, vpc, vip) for key, vip in vpc.vips.items()},
        "flows": _count(daemon, name) if here else 0,
    }


def _ports(daemon: Daemon, intent: Intent, name: str, vpc: Vpc) -> list[str]:
    """Return the port ranges taken here, newest last."""
    if vpc.snat is None:
        return []
    place = Place.of(intent, daemon.node, name)
    blocks = own_blocks(vpc.snat, place.slot, place.slots)
    taken = daemon.blocks.taken(intent, daemon.node).get(name, FIRST)
    return [f"{blocks[i]}-{blocks[i] + vpc.snat.block - 1}" for i in taken]


def _vip(daemon: Daemon, name: str, vpc: Vpc, vip: Vip) -> Row:
    down = daemon.checker.down
    here = (b for b in vip.backends if vpc.guests[b].host == daemon.node)
    return {
        "endpoint": f"{vip.address}:{vip.port}/{vip.protocol}",
        "here": [f"{b} down" if (name, b, vip.target_port or vip.port) in down else b for b in here],
    }


def _count(daemon: Daemon, name: str) -> int:
    try:
        return daemon.kernel.conntrack.count(Namespace(vpc_namespace(name)))
    except (KernelError, OSError):  # the namespace is not there yet
        return 0


def plan_rows(plans: Plans, desired: Desired, running: tuple[Speaker, ...]) -> list[Row]:
    """A plan as rows in the order of application, kernel first, then sessions and announcements."""
    rows: list[Row] = [
        {
            "subsystem": name,
            "operation": change.operation,
            "object": _said(change.fact) + _difference(change),
            "was": _said(change.old) if change.operation == "update" and change.old is not None else None,
        }
        for name, change in changes(plans)
    ]
    return rows + speaker_rows(running, desired.speakers)


def _said(fact: Any) -> str:
    """Write a fact; of a large set not the elements but their number."""
    if not isinstance(fact, NftSet) or len(fact.elements) <= FEW:
        return describe(fact)
    return f"nft set {fact.name} of {len(fact.elements)} elements" + (f" in {fact.ns}" if fact.ns else "")


def _difference(change: Change[Any]) -> str:
    """Say how many elements of a large set come and go."""
    old, new = change.old, change.new
    if not (isinstance(old, NftSet) and isinstance(new, NftSet)) or len(new.elements) <= FEW:
        return ""
    return f": {len(new.elements - old.elements)} added, {len(old.elements - new.elements)} removed"


def speaker_rows(running: tuple[Speaker, ...], wanted: tuple[Speaker, ...]) -> list[Row]:
    """What changes at the BGP speakers: sessions made, ended or changed, prefixes announced or withdrawn."""
    old, new = ({s.name: s for s in speakers} for speakers in (running, wanted))
    rows: list[Row] = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        rows += _compare(
            f"bgp {name}",
            {"speaker": _itself(before)} if before else {},
            {"speaker": _itself(after)} if after else {},
        )
        rows += _compare(
            f"bgp {name}",
            {f"session {n.name}": n for n in (before.neighbors if before else ())},
            {f"session {n.name}": n for n in (after.neighbors if after else ())},
        )
        rows += _compare(
            f"bgp {name}",
            {f"announcement {a.prefix}": a for a in (before.announcements if before else ())},
            {f"announcement {a.prefix}": a for a in (after.announcements if after else ())},
        )
    return rows


def _itself(speaker: Speaker) -> Speaker:
    """Return what a speaker is without its sessions and announcements."""
    return replace(speaker, neighbors=(), announcements=())


def _compare(subsystem: str, old: dict[str, Any], new: dict[str, Any]) -> list[Row]:
    made = [("create", key) for key in sorted(new.keys() - old.keys())]
    gone = [("delete", key) for key in sorted(old.keys() - new.keys())]
    other = [("update", key) for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]
    rows = [*gone, *other, *made]
    return [{"subsystem": subsystem, "operation": o, "object": key, "was": None} for o, key in rows]


async def plan(daemon: Daemon, intent: Intent | None = None) -> list[Row]:
    """What an intent (the running one when none is given) would change now."""
    wanted = intent or running(daemon)
    plans, desired = daemon.plan(wanted)
    return plan_rows(plans, desired, daemon.speakers.told) + flow_views.predicted(daemon, wanted)


async def drain(daemon: Daemon) -> Row:
    """Whether this node is drained, what it still says, and the flows whose state nobody else has."""
    sessions = await neighbors(daemon)
    return {
        "node": daemon.node,
        "drained": daemon.order.ordered,
        "announced": sum(row.get("advertised") or 0 for row in sessions),
        "forwarded": forwarded(),
        "only-here": await flow_views.flows(daemon),
    }


async def capabilities(_: Daemon) -> list[Row]:
    """What this kernel offers and which back-end each feature uses."""
    return await asyncio.to_thread(probe.capabilities)


#: Each view with the options it takes.
VIEWS: dict[str, tuple[Callable[..., Awaitable[Any]], tuple[str, ...]]] = {
    "status": (status, ()),
    "nodes": (nodes, ()),
    "neighbors": (neighbors, ()),
    "routes": (routes, ("prefix", "neighbor")),
    "vpcs": (vpcs, ()),
    "flows": (flow_views.flows, ("vpc", "affected-by")),
    "instructions": (flow_views.instructions, ("vpc",)),
    "rules": (flow_views.rules, ("vpc",)),
    "engines": (flow_views.engines, ("vpc",)),
    "audit": (flow_views.audit, ("change",)),
    "capabilities": (capabilities, ()),
    "drain": (drain, ()),
    "plan": (plan, ()),
}


async def show(daemon: Daemon, name: str, options: Mapping[str, str]) -> Any:
    """Return a view by name; OperatorError if there is no such view or option."""
    if name not in VIEWS:
        raise OperatorError.of(f"there is nothing called {name} to show", "one of " + ", ".join(VIEWS))
    view, known = VIEWS[name]
    if unknown := sorted(options.keys() - set(known)):
        raise OperatorError.of(f"{name} has no option {unknown[0]}", f"options: {', '.join(known) or 'none'}")
    return await view(daemon, **{key.replace("-", "_"): value for key, value in options.items()})
