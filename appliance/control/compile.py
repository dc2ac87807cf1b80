"""compile(intent, node, runtime) -> Desired: everything one node must be, as tables of facts. Pure.

The one place where routing and services meet; adding a service is a line in `services.edge`, adding a subsystem is a
table here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from appliance.model.facts import (
    Advertisement,
    Compose,
    Engine,
    Fact,
    FdbEntry,
    Instruction,
    Link,
    LinkAddress,
    Neighbour,
    Netns,
    Network,
    NftSet,
    NftTable,
    Route,
    Steer,
    Sysctl,
    Wire,
)
from appliance.model.intent import Intent
from routing.advertise import speakers
from routing.attach import compile_node, forwards
from routing.bgp.values import Speaker
from routing.drain import drained
from routing.fib import Overlay, Surroundings
from services.edge import carried, carriers, compile_edge
from services.feature import Runtime
from services.inline.compile import Held, compile_inline
from services.place import OVERLAY_DEVICE, Place, overlay_address

#: Tables in the order in which they are applied; deletions run in the opposite order.
ORDER: tuple[type[Fact], ...] = (
    Netns,
    Link,
    Sysctl,
    LinkAddress,
    Neighbour,
    FdbEntry,
    Steer,
    NftTable,
    NftSet,
    Engine,
    Instruction,
    Wire,
    Compose,
    Route,
)


@dataclass(frozen=True, slots=True)
class Desired:
    """The whole desired state of a node: facts for the kernel, speakers for the BGP engines."""

    facts: frozenset[Fact]
    speakers: tuple[Speaker, ...]
    advertisements: tuple[Advertisement, ...] = ()

    def of(self, *kinds: type[Fact]) -> frozenset[Fact]:
        """Select the facts of some kinds."""
        return frozenset(fact for fact in self.facts if isinstance(fact, kinds))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known at run time.

    The services' runtime, who serves each VIP, ports of wires that are held down, whether this node is drained.
    """

    runtime: Runtime = field(default_factory=Runtime)
    members: Mapping[IPv4Address, tuple[int, ...]] = field(default_factory=dict)
    held: Held = frozenset()
    drained: bool = False


def compile_intent(intent: Intent, node: str, known: Known | None = None) -> Desired:
    """Compile a node's slice of the intent."""
    known = known or Known()
    edges = []
    if "host" in intent.nodes[node].roles:
        edges = [compile_edge(intent, node, vpc, known.runtime) for vpc in carried(intent, node)]
    facts = set(compile_node(intent, node, dict(known.members)))
    facts.update(fact for edge in edges for fact in edge.facts)
    facts.update(compile_inline(intent, node, known.held))
    advertisements = (*_own(intent, node), *(a for edge in edges for a in edge.advertisements))
    said = speakers(intent, node, advertisements)
    return Desired(frozenset(facts), tuple(drained(intent, node, said)) if known.drained else said, advertisements)


def _own(intent: Intent, name: str) -> Iterable[Advertisement]:
    node = intent.nodes[name]
    if not forwards(node):
        return
    yield Advertisement(IPv4Network(node.loopback.ipv4), "loopback", name)
    yield Advertisement(IPv6Network(node.loopback.ipv6), "loopback", name)
    if "gateway" in node.roles:
        yield from (Advertisement(network, "public", name) for network in intent.zone.public)


def surroundings(intent: Intent, name: str) -> Surroundings:
    """Return what `routing.fib` must know of the zone to place routes on a node."""
    node = intent.nodes[name]
    connected = [(port.ipv4.network, port.interface) for port in (node.fabric, node.exchange) if port]
    connected6 = [(port.ipv6.network, port.interface) for port in (node.fabric, node.exchange) if port]
    ids = {
        address: other.id
        for other in intent.nodes.values()
        for address in (other.fabric.ipv4.ip, other.fabric.ipv6.ip, other.loopback.ipv4, other.loopback.ipv6)
    }
    hosts = {other_name: other for other_name, other in intent.with_role("host").items() if other_name != name}
    overlays = {}
    guests_here = set()
    for vpc in carried(intent, name) if "host" in node.roles else ():
        via = {o.id: overlay_address(o.id) for n, o in hosts.items() if n in carriers(intent.vpcs[vpc])}
        vpc_id = intent.vpcs[vpc].id
        overlays[vpc_id] = Overlay(Place.of(intent, name, vpc).ns, OVERLAY_DEVICE, via)
        guests_here |= {(vpc_id, g.address) for g in intent.vpcs[vpc].guests.values() if g.host == name}
    everything: list[tuple[Network, str]] = [*connected, *connected6]
    return Surroundings(intent.zone.composed, node.id, tuple(everything), ids, overlays, frozenset(guests_here))
