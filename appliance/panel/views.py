"""What the daemon shows: plain JSON values, one function a show command. Reads only, decides nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, ip_network
from typing import Any

from appliance.control.compile import Desired
from appliance.control.daemon import Daemon
from appliance.control.reconcile import Plans, changes
from appliance.kernel import probe
from appliance.kernel.conntrack import CtEntry
from appliance.model.describe import describe, hop
from appliance.model.errors import EngineError, KernelError, OperatorError
from appliance.model.facts import Namespace
from appliance.model.intent import Intent, Vpc
from appliance.model.marks import vpc_namespace
from routing.bgp.values import Attributes, Network, Speaker
from routing.engines.engine import RouteView, SessionState, SessionView
from routing.fib import explain
from services.edge import carried
from services.nat import own_blocks
from services.place import Place

Row = dict[str, Any]
#: At most this many flows of each VPC are shown.
FLOWS = 1000


def _intent(daemon: Daemon) -> Intent:
    if daemon.intent is None:
        raise OperatorError.of("no intent is installed yet", "look at the daemon's log")
    return daemon.intent


async def status(daemon: Daemon) -> Row:
    """Say whether intent, kernel and engines agree."""
    sessions = await neighbors(daemon)
    up = sum(row["state"] == SessionState.ESTABLISHED.value for row in sessions)
    running = daemon.history.running
    return {
        "node": daemon.node,
        "intent": None if running is None else {"file": running.file, "number": running.number},
        "revision": daemon.revision,
        "converged": daemon.outcome.done and up == len(sessions) and not daemon.engine_details(),
        "sessions": {"established": up, "configured": len(sessions)},
        "synced": {name: speaking.synced for name, speaking in daemon.engines.items()},
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
        for name, node in sorted(_intent(daemon).nodes.items())
    ]


async def neighbors(daemon: Daemon) -> list[Row]:
    """BGP sessions of every engine of this node."""
    rows: list[Row] = []
    for name, speaking in sorted(daemon.engines.items()):
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
    rows = []
    for name, speaking in sorted(daemon.engines.items()):
        views = await speaking.engine.routes(network, neighbor or None)
        rows += [_route(name, view) for view in views]
    if network is not None and daemon.fib is not None:
        became = explain(daemon.fib, network)
        installed = daemon.fib.routes.get(network)
        for row in rows:
            if row["best"] and became:
                row["fib"] = became if installed is None else f"{became}: {hop(installed.hops[0])}"
    return rows


async def vpcs(daemon: Daemon) -> list[Row]:
    """VPCs with guests on this node: where their guests are, which blocks and VIPs are served here."""
    intent = _intent(daemon)
    here = carried(intent, daemon.node)
    return [_vpc(daemon, intent, name, vpc, here=name in here) for name, vpc in sorted(intent.vpcs.items())]


def _vpc(daemon: Daemon, intent: Intent, name: str, vpc: Vpc, *, here: bool) -> Row:
    place = Place.of(intent, daemon.node, name)
    ports = []
    if here and vpc.snat is not None:
        blocks = own_blocks(vpc.snat, place.slot, place.slots)
        ports = [f"{blocks[i]}-{blocks[i] + vpc.snat.block - 1}" for i in daemon.blocks.taken.get(name, (0,))]
    down = daemon.checker.down
    vips = {
        key: {
            "endpoint": f"{vip.address}:{vip.port}/{vip.protocol}",
            "here": [
                f"{b}{' down' if (name, b, vip.target_port or vip.port) in down else ''}"
                for b in vip.backends
                if vpc.guests[b].host == daemon.node
            ],
        }
        for key, vip in vpc.vips.items()
    }
    try:
        flows = daemon.kernel.conntrack.count(Namespace(vpc_namespace(name))) if here else 0
    except KernelError:
        flows = 0
    return {
        "vpc": name,
        "id": vpc.id,
        "subnet": str(vpc.subnet),
        "here": here,
        "guests": {g: guest.host for g, guest in vpc.guests.items()},
        "snat": str(vpc.snat.address) if vpc.snat else None,
        "ports": ports,
        "vips": vips,
        "flows": flows,
    }


async def flows(daemon: Daemon, vpc: str = "") -> list[Row]:
    """Live flows of the VPCs on this node, with their translations."""
    intent = _intent(daemon)
    rows: list[Row] = []
    for name in carried(intent, daemon.node):
        if vpc in ("", name):
            entries = daemon.kernel.conntrack.dump(Namespace(vpc_namespace(name)))
            rows += [_flow(name, entry) for entry in itertools.islice(entries, FLOWS)]
    return rows


def _flow(vpc: str, entry: CtEntry) -> Row:
    def side(address: IPv4Address | Any, port: int | None) -> str:
        return f"{address}:{port}" if port is not None else str(address)

    return {
        "vpc": vpc,
        "protocol": entry.l4proto,
        "source": side(entry.orig.src, entry.orig.sport),
        "destination": side(entry.orig.dst, entry.orig.dport),
        "reply-source": side(entry.reply.src, entry.reply.sport),
        "reply-destination": side(entry.reply.dst, entry.reply.dport),
        "zone": entry.zone,
        "mark": entry.mark,
        "timeout": entry.timeout,
    }


def plan_rows(plans: Plans, desired: Desired, running: tuple[Speaker, ...]) -> list[Row]:
    """A plan as rows in the order of application, kernel first, then sessions and announcements."""
    rows: list[Row] = [
        {
            "subsystem": name,
            "operation": change.operation,
            "object": describe(change.fact),
            "was": describe(change.old) if change.operation == "update" and change.old is not None else None,
        }
        for name, change in changes(plans)
    ]
    return rows + speaker_rows(running, desired.speakers)


def speaker_rows(running: tuple[Speaker, ...], wanted: tuple[Speaker, ...]) -> list[Row]:
    """What changes at the BGP speakers: sessions made, ended or changed, prefixes announced or withdrawn."""
    old, new = ({s.name: s for s in speakers} for speakers in (running, wanted))
    rows: list[Row] = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
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


def _compare(subsystem: str, old: dict[str, Any], new: dict[str, Any]) -> list[Row]:
    made = [("create", key) for key in sorted(new.keys() - old.keys())]
    gone = [("delete", key) for key in sorted(old.keys() - new.keys())]
    other = [("update", key) for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]
    rows = [*gone, *other, *made]
    return [{"subsystem": subsystem, "operation": o, "object": key, "was": None} for o, key in rows]


async def plan(daemon: Daemon, intent: Intent | None = None) -> list[Row]:
    """What an intent (the running one when none is given) would change now."""
    plans, desired = daemon.plan(intent or _intent(daemon))
    running = tuple(s.speaker for s in daemon.engines.values() if s.speaker is not None)
    return plan_rows(plans, desired, running)


async def capabilities(_: Daemon) -> list[Row]:
    """What this kernel offers and which back-end each feature uses."""
    return await asyncio.to_thread(probe.capabilities)


VIEWS: dict[str, Callable[..., Awaitable[Any]]] = {
    "status": status,
    "nodes": nodes,
    "neighbors": neighbors,
    "routes": routes,
    "vpcs": vpcs,
    "flows": flows,
    "capabilities": capabilities,
    "plan": plan,
}
