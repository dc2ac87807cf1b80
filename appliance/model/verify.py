"""What does not fit together in an intent whose types are right: pure checks, all problems at once.

Each check is a generator of `Problem`s; `verify` runs them all. Here stand the zone, its nodes and its peers; VPCs have
a module of their own. Called by `appliance.model.load`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, ip_network
from typing import Final

from appliance.model.fields import Address, Network
from appliance.model.intent import Attachment, Intent, Node, Peer
from appliance.model.problems import Problem, unique
from appliance.model.text import Path
from appliance.model.verify_inline import check_inline
from appliance.model.verify_policy import check_policy
from appliance.model.verify_vpcs import check_vpcs

COMPOSED_LENGTH: Final = 48

#: Space a node takes for itself: the pairs between a host and its VPCs, the VPCs behind them, the composing device.
NODE_INSIDE: Final = tuple(map(IPv4Network, ("100.64.0.0/15", "100.80.0.0/16", "169.254.254.0/30")))
#: Space that is nobody's public prefix (RFC 6890).
SPECIAL: Final = tuple(map(IPv4Network, ("0.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))


def verify(intent: Intent) -> tuple[Problem, ...]:
    """Return every problem, in the order of the checks."""
    return tuple(problem for check in CHECKS for problem in check(intent))


def check_zone(intent: Intent) -> Iterator[Problem]:
    """The composed prefix has its length; a zone with an exchange has an AS for it."""
    zone = intent.zone
    if zone.composed.prefixlen != COMPOSED_LENGTH:
        message = f"must be a /{COMPOSED_LENGTH}"
        yield Problem(("zone", "composed"), message, "16 bits of kind, 32 of address and 32 of selector follow")
    on_exchange = any(n.exchange for n in intent.nodes.values()) or any(
        p.plane == "exchange" for p in intent.peers.values()
    )
    if on_exchange and zone.exchange_as is None:
        yield Problem(("zone",), "nodes or peers are on the exchange, but exchange-as is absent", "add exchange-as")
    if zone.exchange_as == zone.as_:
        yield Problem(("zone", "exchange-as"), "must differ from the zone's AS", "the exchange speaks eBGP")


def check_nodes(intent: Intent) -> Iterator[Problem]:
    """Node ids, addresses and NAT slots are unique; a route server is nothing else."""
    nodes = intent.nodes.items()
    yield from unique(((("nodes", name, "id"), node.id) for name, node in nodes), "node id")
    yield from unique(_node_addresses(intent), "address")
    slots = ((("nodes", n, "id"), node.id % intent.zone.nat_slots) for n, node in intent.with_role("host").items())
    yield from unique(slots, f"id modulo nat-slots ({intent.zone.nat_slots}):")
    for name, node in nodes:
        if "route-server" in node.roles and len(node.roles) > 1:
            yield Problem(("nodes", name, "roles"), "a route server has no other role", "use two nodes")
        if "gateway" in node.roles and node.exchange is None:
            yield Problem(("nodes", name), "a gateway needs a port on the exchange", "add exchange")
        if len(set(node.roles)) != len(node.roles):
            yield Problem(("nodes", name, "roles"), "a role is given twice", "remove one")


def check_addresses(intent: Intent) -> Iterator[Problem]:
    """Every address of a node is one that a machine can have, and outside what the zone uses otherwise."""
    for path, address in _node_addresses(intent):
        if reason := _no_unicast(address):
            yield Problem(path, f"{address} is {reason}", "use a global, unique local or private address")
        elif address in intent.zone.composed:
            yield Problem(path, f"{address} lies in zone.composed", "that prefix belongs to composed destinations")
        elif any(address in network for network in NODE_INSIDE):
            yield Problem(path, f"{address} lies in space used inside every node", "use another prefix")
    for name, node in intent.nodes.items():
        for plane, port in _ports(node):
            for version in ("ipv4", "ipv6"):
                interface = getattr(port, version)
                if _is_edge(interface.ip, interface.network):
                    path = ("nodes", name, plane, version)
                    yield Problem(path, f"{interface.ip} is no host address of {interface.network}")


def _ports(node: Node) -> Iterator[tuple[str, Attachment]]:
    yield "fabric", node.fabric
    if node.exchange is not None:
        yield "exchange", node.exchange


def _no_unicast(address: Address) -> str:
    """Say why no machine can have this address; empty when one can."""
    kinds = ("unspecified", "multicast", "loopback", "link_local", "reserved")
    return next((kind.replace("_", "-") for kind in kinds if getattr(address, f"is_{kind}")), "")


def _is_edge(address: Address, network: Network) -> bool:
    """Tell whether an address is the first or (IPv4) last of its subnet, where a subnet has such (RFC 3021, 6164)."""
    if network.max_prefixlen - network.prefixlen < 2:  # noqa: PLR2004 - both addresses of a pair are hosts
        return False
    last = network.broadcast_address if network.version == 4 else None  # noqa: PLR2004 - IP version
    return address in (network.network_address, last)


def _node_addresses(intent: Intent) -> Iterator[tuple[Path, Address]]:
    for name, node in intent.nodes.items():
        yield ("nodes", name, "loopback", "ipv4"), node.loopback.ipv4
        yield ("nodes", name, "loopback", "ipv6"), node.loopback.ipv6
        for plane, port in _ports(node):
            yield ("nodes", name, plane, "ipv4"), port.ipv4.ip
            yield ("nodes", name, plane, "ipv6"), port.ipv6.ip


def check_planes(intent: Intent) -> Iterator[Problem]:
    """All ports of one plane are in one subnet, and the subnets are apart from each other and from all else."""
    subnets: dict[tuple[str, str], Network] = {}
    for name, node in intent.nodes.items():
        for plane, port in _ports(node):
            for version in ("ipv4", "ipv6"):
                path = ("nodes", name, plane, version)
                network = getattr(port, version).network
                first = subnets.setdefault((plane, version), network)
                if network != first:
                    yield Problem(path, f"{network} is not the {plane}'s subnet {first}", "use one subnet")
    for version in ("ipv4", "ipv6"):
        yield from _apart(intent, version, [n for (_, other), n in subnets.items() if other == version])


def _apart(intent: Intent, version: str, subnets: list[Network]) -> Iterator[Problem]:
    taken: list[tuple[Path, Network]] = [(("zone", "public", i), net) for i, net in enumerate(intent.zone.public)]
    taken.append((("zone", "composed"), intent.zone.composed))
    for name, node in intent.nodes.items():
        taken.append((("nodes", name, "loopback", version), ip_network(getattr(node.loopback, version))))
    for path, network in taken:
        yield from (Problem(path, f"overlaps the subnet {s}", "use others") for s in subnets if _overlap(network, s))
    if len(subnets) > 1 and _overlap(*subnets):
        name = next(name for name, node in intent.nodes.items() if node.exchange is not None)
        place = ("nodes", name, "exchange", version)
        yield Problem(place, f"the exchange's subnet overlaps the fabric's, {subnets[0]}", "use two subnets")


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def check_peers(intent: Intent) -> Iterator[Problem]:
    """Peers have addresses or a range, the right AS, and names and addresses of their own."""
    taken = {value for _, value in _node_addresses(intent)}
    addresses = list(_peer_addresses(intent))
    yield from unique(addresses, "address")
    for path, address in addresses:
        if address in taken:
            yield Problem(path, f"{address} belongs to a node", "a peer runs elsewhere")
        elif reason := _no_unicast(address):
            yield Problem(path, f"{address} is {reason}", "use the address of a machine")
    ranges: list[tuple[str, Network]] = []
    for name, peer in intent.peers.items():
        yield from _peer(intent, name, peer)
        if peer.range is not None:
            for other, network in ranges:
                if _overlap(peer.range, network):
                    yield Problem(("peers", name, "range"), f"overlaps {network} of {other}", "give each its own")
            ranges.append((name, peer.range))


def _peer_addresses(intent: Intent) -> Iterator[tuple[Path, Address]]:
    for name, peer in intent.peers.items():
        for index, address in enumerate(peer.addresses):
            yield ("peers", name, "addresses", index), address


def _peer(intent: Intent, name: str, peer: Peer) -> Iterator[Problem]:
    if name in intent.nodes:
        yield Problem(("peers", name), "is the name of a node", "sessions are named after both")
    if bool(peer.addresses) == (peer.range is not None):
        yield Problem(("peers", name), "give either addresses or a range", "a range serves unknown speakers")
    if peer.plane == "zone" and peer.as_ != intent.zone.as_:
        yield Problem(("peers", name, "as"), f"plane zone is iBGP: AS {intent.zone.as_}", "or use plane exchange")
    if peer.role is not None:
        yield from _role(intent, ("peers", name, "role"), peer)
    if peer.plane == "exchange" and peer.as_ in (intent.zone.as_, intent.zone.exchange_as):
        yield Problem(("peers", name, "as"), "is an AS of this zone", "plane exchange is eBGP")


def _role(intent: Intent, here: Path, peer: Peer) -> Iterator[Problem]:
    others = sorted(
        name for name, node in intent.nodes.items() if "route-server" in node.roles and node.engine != "native"
    )
    if peer.plane == "zone":
        yield Problem(here, "roles are for eBGP (RFC 9234)", "remove it, or use plane exchange")
    elif others:
        yield Problem(
            here, f"the engine of {', '.join(others)} knows no roles", "use engine native there, or remove it"
        )


def check_public(intent: Intent) -> Iterator[Problem]:
    """Public prefixes are apart and can be public; public addresses lie in them and are used once."""
    for index, network in enumerate(intent.zone.public):
        here: Path = ("zone", "public", index)
        yield from (
            Problem(here, f"overlaps {o}", "remove one") for o in intent.zone.public[:index] if network.overlaps(o)
        )
        if any(network.overlaps(special) for special in SPECIAL):
            yield Problem(here, f"{network} can be nobody's public prefix (RFC 6890)")
        if network.prefixlen == network.max_prefixlen:
            yield Problem(here, "is one address, and hosts announce single addresses", "give the prefix it is part of")
    nodes = dict.fromkeys(address for _, address in (*_node_addresses(intent), *_peer_addresses(intent)))
    uses = list(_public_uses(intent))
    yield from unique(uses, "public address")
    for path, address in uses:
        if not any(address in network for network in intent.zone.public):
            yield Problem(path, f"{address} is in none of the zone's public prefixes", "extend zone.public")
        if address in nodes:
            yield Problem(path, f"{address} belongs to a node or a peer", "use another")


def _public_uses(intent: Intent) -> Iterator[tuple[Path, Address]]:
    for name, vpc in intent.vpcs.items():
        if vpc.snat is not None:
            yield ("vpcs", name, "snat", "address"), vpc.snat.address
        for guest_name, guest in vpc.guests.items():
            if guest.public is not None:
                yield ("vpcs", name, "guests", guest_name, "public"), guest.public
        # Several VIPs may share an address on different ports, but only within one VPC.
        first = {vip.address: key for key, vip in reversed(vpc.vips.items())}
        yield from ((("vpcs", name, "vips", key, "address"), address) for address, key in first.items())


CHECKS: tuple[Callable[[Intent], Iterator[Problem]], ...] = (
    check_zone,
    check_nodes,
    check_addresses,
    check_planes,
    check_peers,
    check_public,
    check_vpcs,
    check_policy,
    check_inline,
)
