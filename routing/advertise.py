"""Which BGP speakers a node runs, with whom, under which policy, and what they originate. Pure.

A route server runs two speakers: `zone` reflects iBGP among nodes and routers of the zone (RFC 4456), `exchange` serves
other autonomous systems and our gateways transparently (RFC 7947). Hosts and gateways run one, `router`. What joins the
two planes are the gateways, by their own policy, as border routers do. Nothing is accepted that the intent does not
give to the neighbour (RFC 8212).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from appliance.model.composed import Composed, Kind
from appliance.model.facts import Advertisement
from appliance.model.intent import Attachment, Intent, Node, Peer, PrefixMatch
from appliance.model.marks import port_blocks
from routing.bgp.values import (
    Address,
    Announcement,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Speaker,
)

ANY: Final = (PrefixRule(IPv4Network("0.0.0.0/0"), 0, 32), PrefixRule(IPv6Network("::/0"), 0, 128))
FAMILIES: Final = ((4, Family.IPV4, "ipv4"), (6, Family.IPV6, "ipv6"))

#: Special-purpose space that no other network may announce (RFC 6890, RFC 5735, RFC 5156), and lengths no one accepts.
BOGONS: Final = tuple(
    PrefixRule(network, network.prefixlen, network.max_prefixlen)
    for network in map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.168.0.0/16",
            "224.0.0.0/3",
            "::/8",
            "fc00::/7",
            "fe80::/10",
            "ff00::/8",
        ),
    )
)
LENGTHS: Final = (
    PrefixRule(IPv4Network("0.0.0.0/0"), 0, 7),
    PrefixRule(IPv4Network("0.0.0.0/0"), 25, 32),
    PrefixRule(IPv6Network("::/0"), 0, 15),
    PrefixRule(IPv6Network("::/0"), 49, 128),
)
#: AS numbers that never stand in a path from outside: AS_TRANS and the last 16-bit one (RFC 7607, 7300, 4893).
BAD_AS: Final = (23456, 65535)

#: Third field of the large community (zone AS, kind, owner's id) that every route of ours carries.
KINDS: Final = {"loopback": 1, "public": 2, "snat": 3, "vip": 4, "vip-member": 5, "guest": 6, "floating": 7}


def speakers(intent: Intent, name: str, advertisements: Iterable[Advertisement]) -> tuple[Speaker, ...]:
    """Return every speaker of a node."""
    node = intent.nodes[name]
    if "route-server" in node.roles:
        return tuple(_server(intent, node))
    return (_router(intent, name, tuple(advertisements)),)


def _rule(match: PrefixMatch) -> PrefixRule:
    return PrefixRule(match.network, match.min_length, match.max_length)


def _whole(network: Network) -> PrefixRule:
    return PrefixRule(network, network.prefixlen, network.max_prefixlen)


def _of(rules: Iterable[PrefixRule], version: int) -> tuple[PrefixRule, ...]:
    return tuple(rule for rule in rules if rule.network.version == version)


def _server(intent: Intent, node: Node) -> Iterator[Speaker]:
    fabric, exchange, zone = node.fabric, node.exchange, intent.zone
    neighbors = tuple(_zone_clients(intent, fabric))
    yield Speaker("zone", Mode.REFLECTOR, zone.as_, node.loopback.ipv4, _listen(fabric), neighbors=neighbors)
    if exchange is not None and zone.exchange_as is not None:
        neighbors = tuple(_exchange_clients(intent, exchange))
        mode, listen = Mode.TRANSPARENT, _listen(exchange)
        # Gateways have sessions with both speakers: two of one BGP identifier would be one speaker to them, and what
        # the one taught would never be told to the other.
        yield Speaker("exchange", mode, zone.exchange_as, exchange.ipv4.ip, listen, neighbors=neighbors)


def _listen(port: Attachment) -> tuple[Address, ...]:
    return (port.ipv4.ip, port.ipv6.ip)


def _addresses(port: Attachment) -> tuple[tuple[int, Family, str, Address], ...]:
    ips: dict[int, Address] = {4: port.ipv4.ip, 6: port.ipv6.ip}
    return tuple((version, family, word, ips[version]) for version, family, word in FAMILIES)


def _zone_clients(intent: Intent, here: Attachment) -> Iterator[Neighbor]:
    local = {version: address for version, _, _, address in _addresses(here)}
    for name, node in sorted(intent.nodes.items()):
        if "route-server" in node.roles:
            continue
        accept, never = _zone_imports(intent, name, node)
        for version, family, word, address in _addresses(node.fabric):
            imports = ImportPolicy(_of(accept, version), _of(never, version))
            yield Neighbor(
                f"{name}/{word}",
                intent.zone.as_,
                address,
                local_address=local[version],
                families=(family,),
                imports=imports,
                exports=ExportPolicy(_of(ANY, version)),
                passive=True,
            )
    yield from _peers(intent, "zone", here)


def _zone_imports(intent: Intent, name: str, node: Node) -> tuple[tuple[PrefixRule, ...], tuple[PrefixRule, ...]]:
    """Return what a node may announce in the zone, and what never: a host its own, a gateway all but the zone's."""
    if "gateway" not in node.roles:
        return tuple(dict.fromkeys(owns(intent, name))), ()
    never = _protected(intent, name)
    if "host" not in node.roles:
        return ANY, never
    composed = intent.zone.composed
    accept = dict.fromkeys((*owns(intent, name), *_outside(composed)))
    return tuple(accept), tuple(rule for rule in never if rule.network != composed)


def _outside(composed: IPv6Network) -> Iterator[PrefixRule]:
    """Yield rules for every prefix but those inside the composed one: of those, each node announces its own alone."""
    yield PrefixRule(IPv4Network("0.0.0.0/0"), 0, 32)
    yield from (PrefixRule.exact(composed.supernet(new_prefix=length)) for length in range(composed.prefixlen))
    yield from map(_whole, IPv6Network("::/0").address_exclude(composed))


def _exchange_clients(intent: Intent, here: Attachment) -> Iterator[Neighbor]:
    local = {version: address for version, _, _, address in _addresses(here)}
    for name, node in sorted(intent.with_role("gateway").items()):
        if node.exchange is None:
            continue
        for version, family, word, address in _addresses(node.exchange):
            accept = tuple(PrefixRule.exact(network) for network in intent.zone.public)
            yield Neighbor(
                f"{name}/{word}",
                intent.zone.as_,
                address,
                local_address=local[version],
                families=(family,),
                imports=ImportPolicy(_of(accept, version), first_as=intent.zone.as_, next_hops=(ip_network(address),)),
                exports=ExportPolicy(_of(ANY, version)),
                passive=True,
            )
    yield from _peers(intent, "exchange", here)


def _peers(intent: Intent, plane: str, here: Attachment) -> Iterator[Neighbor]:
    local = {version: address for version, _, _, address in _addresses(here)}
    for name, peer in sorted(intent.peers.items()):
        if peer.plane != plane:
            continue
        for address in peer.addresses:
            yield _peer(intent, name, peer, address, local)
        if peer.range is not None:
            yield _peer(intent, name, peer, peer.range, local)


def _peer(intent: Intent, name: str, peer: Peer, where: Address | Network, local: dict[int, Address]) -> Neighbor:
    version = where.version
    external = peer.plane == "exchange"
    single = not isinstance(where, IPv4Network | IPv6Network)
    accept = tuple(_rule(match) for match in peer.announces.prefixes)
    never: tuple[PrefixRule, ...] = _protected(intent, None)
    if peer.announces.transit:
        accept, never = ANY, (*BOGONS, *LENGTHS, *never)
    imports = ImportPolicy(
        _of(accept, version),
        _of(never, version),
        first_as=peer.as_ if external else None,
        forbidden_as=(*BAD_AS, intent.zone.as_) if external else (),
        next_hops=(ip_network(where),) if external and single else (),
        max_prefixes=peer.announces.max_prefixes,
    )
    receives = tuple(_rule(match) for match in peer.receives) or ANY
    word, family = next((w, f) for v, f, w in FAMILIES if v == version)
    several = sum(address.version == version for address in peer.addresses) > 1
    return Neighbor(
        f"{name}/{where if several else word}",
        peer.as_,
        None if isinstance(where, IPv4Network | IPv6Network) else where,
        range=where if isinstance(where, IPv4Network | IPv6Network) else None,
        local_address=local[version],
        families=(family,),
        imports=imports,
        exports=ExportPolicy(_of(receives, version)),
        # We connect too: other implementations wait two minutes after a connection that was refused.
        passive=not single,
        client=peer.role == "rs-client",
    )


def _protected(intent: Intent, own: str | None) -> tuple[PrefixRule, ...]:
    """Return what is the zone's and so never comes from a peer; a gateway (`own`) may announce its loopbacks."""
    networks: list[Network] = [intent.zone.composed]
    networks += [] if own else list(intent.zone.public)
    for name, node in intent.nodes.items():
        if name != own:
            networks += [ip_network(node.loopback.ipv4), ip_network(node.loopback.ipv6)]
        for port in (node.fabric, node.exchange):
            networks += [port.ipv4.network, port.ipv6.network] if port else []
    return tuple(dict.fromkeys(_whole(network) for network in networks))


def owns(intent: Intent, name: str) -> Iterator[PrefixRule]:
    """Return what a node may ever announce: its loopbacks, its port blocks, its VIPs, its guests."""
    node, zone = intent.nodes[name], intent.zone
    yield PrefixRule.exact(ip_network(node.loopback.ipv4))
    yield PrefixRule.exact(ip_network(node.loopback.ipv6))
    if "gateway" in node.roles:
        yield from map(PrefixRule.exact, zone.public)
    for vpc in intent.vpcs.values():
        local = {guest_name for guest_name, guest in vpc.guests.items() if guest.host == name}
        if local and vpc.snat is not None:
            width = vpc.snat.block
            for start in port_blocks(width, node.id % zone.nat_slots, zone.nat_slots):
                composed = Composed(Kind.SNAT, vpc.snat.address, start, width)
                yield PrefixRule.exact(composed.network(zone.composed))
        for vip in vpc.vips.values():
            if local & set(vip.backends):
                yield PrefixRule.exact(ip_network(vip.address))
                yield PrefixRule.exact(Composed(Kind.VIP, vip.address, node.id).network(zone.composed))
        for guest_name in sorted(local):
            guest = vpc.guests[guest_name]
            yield PrefixRule.exact(Composed(Kind.GUEST, guest.address, vpc.id).network(zone.composed))
            if guest.public is not None:
                yield PrefixRule.exact(ip_network(guest.public))


def _router(intent: Intent, name: str, advertisements: tuple[Advertisement, ...]) -> Speaker:
    node, zone = intent.nodes[name], intent.zone
    gateway = "gateway" in node.roles
    neighbors = list(_upstreams(intent, node, zone.as_, "fabric", ANY))
    if gateway and node.exchange is not None and zone.exchange_as is not None:
        accept = tuple(PrefixRule.exact(network) for network in zone.public)
        neighbors += _upstreams(intent, node, zone.exchange_as, "exchange", accept)
    announcements = tuple(_announcement(intent, name, a) for a in sorted(advertisements, key=lambda a: str(a.prefix)))
    return Speaker(
        "router",
        Mode.ROUTER,
        zone.as_,
        node.loopback.ipv4,
        (*_listen(node.fabric), *(_listen(node.exchange) if gateway and node.exchange else ())),
        neighbors=tuple(neighbors),
        announcements=announcements,
    )


def _upstreams(intent: Intent, node: Node, asn: int, plane: str, exports: tuple[PrefixRule, ...]) -> Iterator[Neighbor]:
    """Sessions of a host or gateway to every route server, one per family, so that next-hop-self has the right one."""
    here: Attachment = getattr(node, plane)
    local = {version: address for version, _, _, address in _addresses(here)}
    for name, server in intent.with_role("route-server").items():
        port: Attachment | None = getattr(server, plane)
        if port is None:
            continue
        for version, family, word, address in _addresses(port):
            never = _of((*BOGONS, *LENGTHS, *_protected(intent, None)), version) if plane == "exchange" else ()
            yield Neighbor(
                f"{name}/{plane}/{word}",
                asn,
                address,
                local_address=local[version],
                families=(family,),
                imports=ImportPolicy(_of(ANY, version), never),
                exports=ExportPolicy(_of(exports, version)),
                next_hop_self=plane == "fabric",
            )


def _announcement(intent: Intent, name: str, advertisement: Advertisement) -> Announcement:
    """Give a prefix its next hop (`public` goes to both planes, so it is each session's own) and its community."""
    node = intent.nodes[name]
    next_hop: Address | None = node.fabric.ipv4.ip if advertisement.prefix.version == 4 else node.fabric.ipv6.ip  # noqa: PLR2004 - IP version
    # A VPC may have the name of a node.
    owner = node.id if advertisement.kind in ("loopback", "public") else intent.vpcs[advertisement.owner].id
    return Announcement(
        advertisement.prefix,
        None if advertisement.kind == "public" else next_hop,
        large_communities=((intent.zone.as_, KINDS[advertisement.kind], owner),),
    )
