"""What does not fit together in an intent whose types are right: pure checks, all problems at once.

Each check is a generator of `Problem`s; `verify` runs them all. Called by `appliance.model.load`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from appliance.model.intent import Intent, Node, Peer, Rule, Vpc
from appliance.model.text import Path

COMPOSED_LENGTH = 48


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit, at a path of the document."""

    path: Path
    message: str
    hint: str = ""


def verify(intent: Intent) -> tuple[Problem, ...]:
    """Return every problem, in the order of the checks."""
    return tuple(problem for check in CHECKS for problem in check(intent))


def _unique(items: Iterable[tuple[Path, Hashable]], what: str) -> Iterator[Problem]:
    seen: dict[Hashable, Path] = {}
    for path, value in items:
        if value in seen:
            other = ".".join(str(part) for part in seen[value])
            yield Problem(path, f"{what} {value} is taken by {other}", "give each its own")
        else:
            seen[value] = path


def check_zone(intent: Intent) -> Iterator[Problem]:
    """The composed prefix has its length; a zone with an exchange has an AS for it."""
    if intent.zone.composed.prefixlen != COMPOSED_LENGTH:
        message = f"must be a /{COMPOSED_LENGTH}"
        yield Problem(("zone", "composed"), message, "16 bits of kind, 32 of address and 32 of selector follow")
    on_exchange = any(n.exchange for n in intent.nodes.values()) or any(
        p.plane == "exchange" for p in intent.peers.values()
    )
    if on_exchange and intent.zone.exchange_as is None:
        yield Problem(("zone",), "nodes or peers are on the exchange, but exchange-as is absent", "add exchange-as")
    if intent.zone.exchange_as == intent.zone.as_:
        yield Problem(("zone", "exchange-as"), "must differ from the zone's AS", "the exchange speaks eBGP")


def check_nodes(intent: Intent) -> Iterator[Problem]:
    """Node ids, addresses and NAT slots are unique; a route server is nothing else."""
    nodes = intent.nodes.items()
    yield from _unique(((("nodes", name, "id"), node.id) for name, node in nodes), "node id")
    yield from _unique(_node_addresses(intent), "address")
    slots = ((("nodes", n, "id"), node.id % intent.zone.nat_slots) for n, node in intent.with_role("host").items())
    yield from _unique(slots, f"id modulo nat-slots ({intent.zone.nat_slots}):")
    for name, node in nodes:
        if "route-server" in node.roles and len(node.roles) > 1:
            yield Problem(("nodes", name, "roles"), "a route server has no other role", "use two nodes")
        if "gateway" in node.roles and node.exchange is None:
            yield Problem(("nodes", name), "a gateway needs a port on the exchange", "add exchange")
        if len(set(node.roles)) != len(node.roles):
            yield Problem(("nodes", name, "roles"), "a role is given twice", "remove one")
        yield from _node_ports(name, node)


def _node_ports(name: str, node: Node) -> Iterator[Problem]:
    if node.exchange is not None and node.exchange.interface == node.fabric.interface:
        yield Problem(("nodes", name, "exchange", "interface"), "is the fabric's device", "use another device")
    for plane, port in (("fabric", node.fabric), ("exchange", node.exchange)):
        if port is not None and port.ipv6.ip.is_link_local:
            yield Problem(("nodes", name, plane, "ipv6"), "is link-local", "use a global or unique local address")


def _node_addresses(intent: Intent) -> Iterator[tuple[Path, Hashable]]:
    for name, node in intent.nodes.items():
        yield ("nodes", name, "loopback", "ipv4"), node.loopback.ipv4
        yield ("nodes", name, "loopback", "ipv6"), node.loopback.ipv6
        for plane, port in (("fabric", node.fabric), ("exchange", node.exchange)):
            if port is not None:
                yield ("nodes", name, plane, "ipv4"), port.ipv4.ip
                yield ("nodes", name, plane, "ipv6"), port.ipv6.ip


def check_planes(intent: Intent) -> Iterator[Problem]:
    """All ports of one plane are in one subnet."""
    for plane in ("fabric", "exchange"):
        for version in ("ipv4", "ipv6"):
            first: Any = None
            for name, node in intent.nodes.items():
                port = getattr(node, plane)
                if port is None:
                    continue
                network = getattr(port, version).network
                first = first or network
                if network != first:
                    path = ("nodes", name, plane, version)
                    yield Problem(path, f"{network} is not the {plane}'s subnet {first}", "use one subnet")


def check_peers(intent: Intent) -> Iterator[Problem]:
    """Peers have addresses or a range, the right AS, and addresses of their own."""
    taken = {value for _, value in _node_addresses(intent)}
    addresses = [
        (("peers", name, "addresses", index), address)
        for name, peer in intent.peers.items()
        for index, address in enumerate(peer.addresses)
    ]
    yield from _unique(addresses, "address")
    for path, address in addresses:
        if address in taken:
            yield Problem(path, f"{address} belongs to a node", "a peer runs elsewhere")
    for name, peer in intent.peers.items():
        yield from _peer(intent, name, peer)


def _peer(intent: Intent, name: str, peer: Peer) -> Iterator[Problem]:
    if bool(peer.addresses) == (peer.range is not None):
        yield Problem(("peers", name), "give either addresses or a range", "a range serves unknown speakers")
    if peer.plane == "zone" and peer.as_ != intent.zone.as_:
        yield Problem(("peers", name, "as"), f"plane zone is iBGP: AS {intent.zone.as_}", "or use plane exchange")
    if peer.plane == "exchange" and peer.as_ in (intent.zone.as_, intent.zone.exchange_as):
        yield Problem(("peers", name, "as"), "is an AS of this zone", "plane exchange is eBGP")


def check_public(intent: Intent) -> Iterator[Problem]:
    """Public addresses are used once and lie in the zone's public prefixes."""
    uses = list(_public_uses(intent))
    yield from _unique(uses, "public address")
    for path, address in uses:
        if not any(address in network for network in intent.zone.public):
            yield Problem(path, f"{address} is in none of the zone's public prefixes", "extend zone.public")
    for index, network in enumerate(intent.zone.public):
        for other in intent.zone.public[:index]:
            if network.overlaps(other):
                yield Problem(("zone", "public", index), f"overlaps {other}", "remove one")


def _public_uses(intent: Intent) -> Iterator[tuple[Path, Any]]:
    for name, vpc in intent.vpcs.items():
        if vpc.snat is not None:
            yield ("vpcs", name, "snat", "address"), vpc.snat.address
        for guest_name, guest in vpc.guests.items():
            if guest.public is not None:
                yield ("vpcs", name, "guests", guest_name, "public"), guest.public
        # Several VIPs may share an address on different ports, but only within one VPC.
        for address in dict.fromkeys(vip.address for vip in vpc.vips.values()):
            first = next(key for key, vip in vpc.vips.items() if vip.address == address)
            yield ("vpcs", name, "vips", first, "address"), address


def check_vpcs(intent: Intent) -> Iterator[Problem]:
    """Ids, guests, ports, VIPs and rules of every VPC fit together."""
    yield from _unique(((("vpcs", n, "id"), vpc.id) for n, vpc in intent.vpcs.items()), "VPC id")
    ports = (
        (("vpcs", n, "guests", g, "interface"), f"{guest.host}:{guest.interface}")
        for n, vpc in intent.vpcs.items()
        for g, guest in vpc.guests.items()
    )
    used = [((), f"{n}:{p.interface}") for n, node in intent.nodes.items() for p in (node.fabric, node.exchange) if p]
    yield from _unique((*used, *ports), "device")
    for name, vpc in intent.vpcs.items():
        yield from _guests(intent, name, vpc)
        yield from _vips(name, vpc)
        for index, rule in enumerate(vpc.firewall.rules):
            yield from _rule(("vpcs", name, "firewall", "rules", index), vpc, rule)


def _guests(intent: Intent, name: str, vpc: Vpc) -> Iterator[Problem]:
    hosts = intent.with_role("host")
    reserved = {vpc.subnet.network_address, vpc.subnet.broadcast_address, vpc.gateway_address}
    if vpc.gateway_address not in vpc.subnet or vpc.subnet.num_addresses < 4:  # noqa: PLR2004 - gateway and guests
        yield Problem(("vpcs", name, "gateway" if vpc.gateway else "subnet"), "no room for the gateway in the subnet")
    path: Path = ("vpcs", name, "guests")
    yield from _unique((((*path, g, "address"), guest.address) for g, guest in vpc.guests.items()), "address")
    for guest_name, guest in vpc.guests.items():
        if guest.host not in hosts:
            known = ", ".join(hosts) or "none"
            yield Problem((*path, guest_name, "host"), f"{guest.host} is not a host", f"hosts: {known}")
        if guest.address not in vpc.subnet or guest.address in reserved:
            yield Problem((*path, guest_name, "address"), f"{guest.address} is no guest address of {vpc.subnet}")


def _vips(name: str, vpc: Vpc) -> Iterator[Problem]:
    path: Path = ("vpcs", name, "vips")
    endpoints = (((*path, v), (str(vip.address), vip.protocol, vip.port)) for v, vip in vpc.vips.items())
    yield from _unique(endpoints, "endpoint")
    for vip_name, vip in vpc.vips.items():
        for index, backend in enumerate(vip.backends):
            if backend not in vpc.guests:
                yield Problem((*path, vip_name, "backends", index), f"{backend} is no guest of {name}", "see guests")


def _rule(path: Path, vpc: Vpc, rule: Rule) -> Iterator[Problem]:
    if rule.ports and rule.protocol not in ("tcp", "udp"):
        yield Problem((*path, "ports"), f"protocol {rule.protocol} has no ports", "set protocol tcp or udp")
    for index, text in enumerate(rule.ports):
        low, _, high = text.partition("-")
        if not 1 <= int(low) <= int(high or low) <= 65535:  # noqa: PLR2004 - ports
            yield Problem((*path, "ports", index), f"{text} is no port or range", "1-65535, low before high")
    for side in ("source", "destination"):
        if "outside" in getattr(rule, side) and len(getattr(rule, side)) > 1:
            yield Problem((*path, side), "`outside` stands with other terms", "write a rule of its own for it")
        for index, term in enumerate(getattr(rule, side)):
            if term != "outside" and term not in vpc.guests and not _is_network(term):
                message = f"{term} is no guest, prefix or `outside`"
                yield Problem((*path, side, index), message, "guests of this VPC: " + ", ".join(vpc.guests))


def _is_network(text: str) -> bool:

    try:
        return ip_network(text).version == 4  # noqa: PLR2004 - IPv4 only inside a VPC
    except ValueError:
        return False


CHECKS: tuple[Callable[[Intent], Iterator[Problem]], ...] = (
    check_zone,
    check_nodes,
    check_planes,
    check_peers,
    check_public,
    check_vpcs,
)
