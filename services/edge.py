"""The VPC edge: one namespace per VPC and host, put together from what the services say (design 0003).

Guests hang on a bridge whose ports are isolated from each other, so every packet is routed by the edge: the bridge
answers ARP for the whole subnet with the anycast gateway's MAC. Remote guests are host routes over a VXLAN device, one
next hop per host; the routes come from BGP, so a guest that moves is a route that changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

from appliance.model.composed import Composed, Kind
from appliance.model.facts import (
    HOST,
    Advertisement,
    Fact,
    FdbEntry,
    Hop,
    Link,
    LinkAddress,
    Neighbour,
    Netns,
    NftTable,
    Route,
    Sysctl,
)
from appliance.model.intent import Intent, Vpc
from appliance.model.marks import PROTO_BOX, VXLAN_OVERHEAD, VXLAN_PORT, vpc_zone
from services.balance import compile_vips
from services.feature import Chain, EdgeParts, Runtime
from services.firewall import compile_firewall
from services.nat import compile_floating, compile_snat
from services.place import LAN, OVERLAY_DEVICE, OVERLAY_LENGTH, UPLINK, Place, overlay_address, overlay_mac
from services.steering import compile_service_nodes


@dataclass(frozen=True, slots=True)
class Edge:
    """Everything one VPC needs on one host."""

    facts: tuple[Fact, ...]
    advertisements: tuple[Advertisement, ...]


def carried(intent: Intent, node: str) -> tuple[str, ...]:
    """Return the VPCs that have guests on a node."""
    return tuple(name for name, vpc in sorted(intent.vpcs.items()) if node in carriers(vpc))


def carriers(vpc: Vpc) -> frozenset[str]:
    """Return the hosts that have guests of a VPC."""
    return frozenset(guest.host for guest in vpc.guests.values())


def compile_edge(intent: Intent, node: str, name: str, runtime: Runtime) -> Edge:
    """Compile one VPC on one host."""
    place, vpc = Place.of(intent, node, name), intent.vpcs[name]
    parts = EdgeParts.merge(
        (
            compile_floating(place, vpc),
            compile_vips(place, vpc, runtime.down),
            compile_snat(place, vpc, runtime.blocks.get(name, ())),
            compile_firewall(place, vpc, runtime),
            compile_service_nodes(place, vpc, intent.nodes[node].fabric.mtu),
        )
    )
    facts: tuple[Fact, ...] = (
        Netns(place.ns),
        *_devices(intent, place, vpc),
        *_overlay(intent, place),
        *_sysctls(place),
        Route(place.ns, IPv4Network("0.0.0.0/0"), (Hop(UPLINK, place.host_address),), PROTO_BOX),
        Route(HOST, IPv4Network(place.inward_address), (Hop(place.host_end, place.uplink_address),), PROTO_BOX),
        *parts.routes,
        NftTable(place.ns, table(place, parts)),
        *parts.sets,
        *parts.facts,
    )
    return Edge(facts, (*parts.advertisements, *_guests(place, vpc)))


def _devices(intent: Intent, place: Place, vpc: Vpc) -> Iterator[Fact]:
    lan = IPv4Interface(f"{vpc.gateway_address}/{vpc.subnet.prefixlen}")
    fabric = intent.nodes[place.node].fabric
    yield Link(HOST, place.host_end, "veth", mtu=fabric.mtu, peer=(place.ns, UPLINK))
    yield Link(place.ns, UPLINK, "veth", mtu=fabric.mtu, peer=(HOST, place.host_end))
    yield LinkAddress(HOST, place.host_end, IPv4Interface(f"{place.host_address}/31"))
    yield LinkAddress(place.ns, UPLINK, IPv4Interface(f"{place.uplink_address}/31"))
    yield Link(place.ns, LAN, "bridge", mtu=fabric.mtu, mac=place.lan_mac)
    yield LinkAddress(place.ns, LAN, lan)
    for guest in vpc.guests.values():
        if guest.host == place.node:
            yield Link(place.ns, guest.interface, "physical", mtu=fabric.mtu, master=LAN, isolated=True)


def _overlay(intent: Intent, place: Place) -> Iterator[Fact]:
    fabric = intent.nodes[place.node].fabric
    yield Link(
        place.ns,
        OVERLAY_DEVICE,
        "vxlan",
        mtu=fabric.mtu - VXLAN_OVERHEAD,
        mac=overlay_mac(place.node, place.vpc),
        vni=place.vpc_id,
        local=fabric.ipv4.ip,
        port=VXLAN_PORT,
        learning=False,
    )
    yield LinkAddress(place.ns, OVERLAY_DEVICE, IPv4Interface(f"{overlay_address(place.node_id)}/{OVERLAY_LENGTH}"))
    others = carriers(intent.vpcs[place.vpc])
    for name, other in intent.with_role("host").items():
        if name != place.node and name in others:
            mac = overlay_mac(name, place.vpc)
            yield Neighbour(place.ns, OVERLAY_DEVICE, overlay_address(other.id), mac)
            yield FdbEntry(place.ns, OVERLAY_DEVICE, mac, other.fabric.ipv4.ip)


def _sysctls(place: Place) -> Iterator[Fact]:
    values = {
        "net.ipv4.ip_forward": "1",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "0",
        # The kernel takes the larger of `all` and the device's own, which was set when the device was made.
        **{f"net.ipv4.conf.{device}.rp_filter": "0" for device in (UPLINK, LAN, OVERLAY_DEVICE)},
        f"net.ipv4.conf.{LAN}.proxy_arp": "1",
        # Answers ARP for a guest on the same bridge too: isolated ports cannot answer each other.
        f"net.ipv4.conf.{LAN}.proxy_arp_pvlan": "1",
        # Without this the kernel thinks for up to 0.8 s before it answers for another: somebody else might.
        f"net.ipv4.neigh.{LAN}.proxy_delay": "0",
        f"net.ipv4.conf.{LAN}.send_redirects": "0",
        "net.ipv4.conf.all.send_redirects": "0",
        "net.netfilter.nf_conntrack_tcp_loose": "1",
        # Ends are told of flows too whose beginning nobody heard: a restarted daemon follows them.
        "net.netfilter.nf_conntrack_events": "1",
    }
    for key, value in values.items():
        yield Sysctl(place.ns, key, value)
    yield Sysctl(HOST, f"net.ipv4.conf.{place.host_end}.rp_filter", "0")
    # Routed by the edge, so bridged frames need no second trip through netfilter.
    yield Sysctl(place.ns, "net.bridge.bridge-nf-call-iptables", "0")


def _guests(place: Place, vpc: Vpc) -> Iterator[Advertisement]:
    for guest in vpc.guests.values():
        if guest.host == place.node:
            network = Composed(Kind.GUEST, guest.address, place.vpc_id).network(place.composed)
            yield Advertisement(network, "guest", place.vpc)


def table(place: Place, parts: EdgeParts) -> str:
    """Write the body of the namespace's nft table."""
    zone = f"ct zone set {vpc_zone(place.vpc_id)}"
    accept = "policy accept"
    nat = f"type nat hook {{}} priority {{}}; {accept}"
    chains = (
        Chain("tracked", (zone,), f"type filter hook prerouting priority raw; {accept}"),
        Chain("tracked_local", (zone,), f"type filter hook output priority raw; {accept}"),
        Chain("prerouting", parts.prerouting, nat.format("prerouting", "dstnat")),
        Chain("postrouting", parts.postrouting, nat.format("postrouting", "srcnat")),
    )
    return "\n".join([*parts.declarations, *(chain.text for chain in (*parts.chains, *chains))])
