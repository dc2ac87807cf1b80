"""Compile the inline edges of one host to facts: namespaces, wires, engines (design 0006).

Form `inside`: a bridge per wire in the edge's namespace, whose frames the kernel shows to netfilter (br_netfilter); the
tc program on each port tells engine and side by a mark. Form `apart`: the ports' frames are moved to a pair of legs into
the engine's namespace, and the bridge stands there; what comes back on a leg goes out of its port. In both forms a frame
can leave only by the partner of the port it came in on.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from appliance.model.facts import Fact, Hop, Link, Namespace, Netns, Route, Sysctl, Wire
from appliance.model.inline import Bridge, Inline
from appliance.model.intent import Intent
from appliance.model.marks import PROTO_BOX, stable_mac
from services.inline.names import (
    SIDES,
    Side,
    bridge_device,
    edge_namespace,
    engine_namespace,
    leg_device,
    mark,
)
from services.inline.table import engine_facts

#: The largest a device can have: what a port took in, a leg takes too; the ports' own MTU is what decides.
LEG_MTU = 65535

Held = frozenset[tuple[Namespace, str]]


def edges_of(intent: Intent, node: str) -> dict[str, Inline]:
    """Return the inline edges of a host by name."""
    return {name: edge for name, edge in sorted(intent.inline.items()) if edge.host == node}


def compile_inline(intent: Intent, node: str, held: Held = frozenset()) -> tuple[Fact, ...]:
    """Compile every inline edge of a host; `held` are the ports that are down because the other side is."""
    return tuple(fact for name, edge in edges_of(intent, node).items() for fact in compile_edge(name, edge, held))


def compile_edge(name: str, edge: Inline, held: Held = frozenset()) -> Iterator[Fact]:
    """Compile one edge."""
    ns = edge_namespace(name)
    yield Netns(ns)
    yield from _sysctls(ns, judges=edge.form == "inside")
    for wire, bridge in edge.bridges.items():
        yield from _ports(name, edge, wire, held)
        yield from _frames(name, edge, wire, bridge)
    if edge.form == "inside":
        yield from engine_facts(ns, edge, tuple(edge.engines))
        yield from _routes(ns)
        return
    for engine in edge.engines:
        there = engine_namespace(name, edge, engine)
        yield Netns(there)
        yield from _sysctls(there, judges=True)
        yield from engine_facts(there, edge, (engine,))
        yield from _routes(there)


def _ports(name: str, edge: Inline, wire: str, held: Held) -> Iterator[Fact]:
    """Put both ports on one bridge, which makes them take every frame; apart from it they cannot reach each other."""
    ns, apart = edge_namespace(name), edge.form == "apart"
    yield _bridge(ns, name, wire)
    for side in SIDES:
        port = _device(edge.bridges[wire], side)
        up = (ns, port) not in held
        yield Link(ns, port, "physical", master=bridge_device(wire), learning=False, isolated=apart, up=up)


def _frames(name: str, edge: Inline, wire: str, bridge: Bridge) -> Iterator[Fact]:
    """Mark what comes in on each port; in form `apart` lead it to the engine and back."""
    ns = edge_namespace(name)
    if edge.form == "inside":
        for side in SIDES:
            yield Wire(ns, _device(bridge, side), mark(edge, wire, side))
        return
    there = engine_namespace(name, edge, bridge.engine)
    yield _bridge(there, name, wire)
    for side in SIDES:
        port, leg = _device(bridge, side), leg_device(wire, side)
        yield Link(ns, leg, "veth", mtu=LEG_MTU, peer=(there, leg))
        yield Link(there, leg, "veth", mtu=LEG_MTU, master=bridge_device(wire), peer=(ns, leg), learning=False)
        yield Wire(ns, port, mark(edge, wire, side), to=leg, peer=True)
        yield Wire(ns, leg, 0, to=port)


def _bridge(ns: Namespace, edge: str, wire: str) -> Link:
    """Have a MAC of its own, or it would take that of a port and change it with the ports."""
    return Link(ns, bridge_device(wire), "bridge", mac=stable_mac(ns, edge, wire))


def _device(bridge: Bridge, side: Side) -> str:
    return bridge.north if side == "north" else bridge.south


def _routes(ns: Namespace) -> Iterator[Fact]:
    """Have a route to everywhere: without one the kernel makes no answer to a refused connection. Nothing takes it."""
    for everywhere in (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")):
        yield Route(ns, everywhere, (Hop("lo"),), PROTO_BOX)


def _sysctls(ns: Namespace, *, judges: bool) -> Iterator[Fact]:
    values = {
        "net.bridge.bridge-nf-call-iptables": str(int(judges)),
        "net.bridge.bridge-nf-call-ip6tables": str(int(judges)),
        "net.bridge.bridge-nf-call-arptables": "0",
        # A wire has no voice of its own: it neither forwards nor speaks of neighbours.
        "net.ipv4.ip_forward": "0",
        "net.ipv6.conf.all.disable_ipv6": "1",
        "net.ipv6.conf.default.disable_ipv6": "1",
        "net.ipv6.conf.lo.disable_ipv6": "0",
    }
    if judges:
        # After a loss of the tracker a flow is taken up at its next packet, judged as if it began in that direction;
        # a SYN-ACK never begins one.
        values["net.netfilter.nf_conntrack_tcp_loose"] = "1"
    for key, value in values.items():
        yield Sysctl(ns, key, value)
