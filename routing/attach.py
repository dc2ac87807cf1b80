"""The node's own place in the zone: addresses, forwarding, and the device that composes destinations (design 0003)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

from appliance.model.facts import HOST, Compose, Fact, Hop, Link, LinkAddress, Neighbour, Route, Sysctl
from appliance.model.intent import Intent, Node
from appliance.model.marks import COMPOSE_IN, COMPOSE_OUT, COMPOSE_OVERHEAD, PROTO_BOX, stable_mac

#: Link-local pair on the composing device (RFC 3927 space, never leaves the node).
COMPOSE_NEAR, COMPOSE_FAR = IPv4Interface("169.254.254.1/30"), IPv4Address("169.254.254.2")


def forwards(node: Node) -> bool:
    """Tell whether a node moves packets of others; a route server does not."""
    return "host" in node.roles or "gateway" in node.roles


def compile_node(intent: Intent, name: str, members: dict[IPv4Address, tuple[int, ...]]) -> Iterator[Fact]:
    """Compile what a node has apart from its VPCs; `members` are the node ids that serve each VIP now.

    BGP may still tell of a VIP that the intent has given up, and that is a guest's own address by now.
    """
    vips = {vip.address for vpc in intent.vpcs.values() for vip in vpc.vips.values()}
    members = {address: ids for address, ids in members.items() if address in vips}
    node = intent.nodes[name]
    for port in (node.fabric, node.exchange):
        if port is not None:
            yield Link(HOST, port.interface, "physical", mtu=port.mtu)
            yield LinkAddress(HOST, port.interface, port.ipv4)
            yield LinkAddress(HOST, port.interface, port.ipv6)
    yield LinkAddress(HOST, "lo", IPv4Interface(node.loopback.ipv4))
    yield LinkAddress(HOST, "lo", IPv6Interface(node.loopback.ipv6))
    if forwards(node):
        ports = [port.interface for port in (node.fabric, node.exchange) if port is not None]
        yield from _forwarding((*ports, COMPOSE_IN, COMPOSE_OUT))
        yield from _composing(intent, name, members)


def _forwarding(devices: tuple[str, ...]) -> Iterator[Fact]:
    values = {
        "net.ipv4.ip_forward": "1",
        "net.ipv6.conf.all.forwarding": "1",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "0",
        "net.ipv4.conf.all.send_redirects": "0",
        "net.ipv4.fib_multipath_hash_policy": "1",
        "net.ipv6.fib_multipath_hash_policy": "1",
        "net.ipv4.nexthop_compat_mode": "0",
    }
    for key, value in values.items():
        yield Sysctl(HOST, key, value)
    # The kernel takes the larger of `all` and the device's own, which was set when the device was made.
    for device in devices:
        for key in ("rp_filter", "send_redirects"):
            yield Sysctl(HOST, f"net.ipv4.conf.{device.replace('.', '/')}.{key}", "0")


def _composing(intent: Intent, name: str, members: dict[IPv4Address, tuple[int, ...]]) -> Iterator[Fact]:
    """Everything for a shared address goes into a device pair; what comes out is IPv6 and is routed as such.

    The near end's MTU leaves room for the outer header, so the kernel itself answers what is too big (RFC 1191).
    """
    mtu = intent.nodes[name].fabric.mtu
    mac = stable_mac("compose", name)
    yield Link(HOST, COMPOSE_IN, "veth", mtu=mtu - COMPOSE_OVERHEAD, peer=(HOST, COMPOSE_OUT))
    yield Link(HOST, COMPOSE_OUT, "veth", mtu=mtu, mac=mac, peer=(HOST, COMPOSE_IN))
    yield LinkAddress(HOST, COMPOSE_IN, COMPOSE_NEAR)
    yield Neighbour(HOST, COMPOSE_IN, COMPOSE_FAR, mac)
    shared = {vpc.snat.address for vpc in intent.vpcs.values() if vpc.snat is not None}
    for address in sorted(shared | members.keys()):
        yield Route(HOST, IPv4Network(address), (Hop(COMPOSE_IN, COMPOSE_FAR),), PROTO_BOX)
    served = tuple(sorted((address, tuple(sorted(ids))) for address, ids in members.items()))
    source = intent.nodes[name].loopback.ipv6
    yield Compose(HOST, COMPOSE_OUT, source, intent.zone.composed, served)
