"""VIPs: a service address that every host with a healthy backend serves, each for its own guests (design 0003).

A host announces the VIP by a composed prefix of its own while it serves it; gateways and hosts pick one of the members
by a hash of the flow and keep no state. Replies go straight back from the host that holds the flow.

On the host a flow falls into one of BUCKETS by a hash of its source, and each bucket of each VIP has a backend. A backend
that comes or goes changes the buckets it has or gets, and elements of one map: the table stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from appliance.model.composed import Composed, Kind
from appliance.model.facts import HOST, Advertisement, Decapsulate, Hop, NftSet, Route
from appliance.model.intent import Vip, Vpc
from appliance.model.marks import PROTO_BOX
from services.feature import EdgeParts
from services.place import LAN, Place

#: Buckets of every VIP: how evenly few backends share the flows.
BUCKETS = 64


def healthy_backends(place: Place, vpc: Vpc, vip: Vip, down: frozenset[tuple[str, str, int]]) -> tuple[str, ...]:
    """Return the backends on this host that are not known to be down, in the order of the intent."""
    port = vip.target_port or vip.port
    local = (name for name in vip.backends if vpc.guests[name].host == place.node)
    return tuple(dict.fromkeys(name for name in local if (place.vpc, name, port) not in down))


def compile_vips(place: Place, vpc: Vpc, down: frozenset[tuple[str, str, int]]) -> EdgeParts:
    """Translate VIPs to local backends; announce each address of which at least one endpoint is served here."""
    if not vpc.vips:
        return EdgeParts()
    served = [(vip, b) for vip in vpc.vips.values() if (b := healthy_backends(place, vpc, vip, down))]
    addresses = sorted({vip.address for vip, _ in served})
    elements = frozenset(element for vip, backends in served for element in _buckets(vpc, vip, backends))
    members = [Composed(Kind.VIP, address, place.node_id).network(place.composed) for address in addresses]
    hop = Hop(place.host_end, None, Decapsulate(place.inward_address))
    return EdgeParts(
        declarations=(
            "map backends { type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service; }",
        ),
        prerouting=(
            f"meta l4proto {{ tcp, udp }} meta mark set jhash ip saddr . th sport mod {BUCKETS}",
            "meta l4proto { tcp, udp } dnat ip to ip daddr . meta l4proto . th dport . meta mark map @backends",
            "meta mark set 0",
        ),
        sets=(NftSet(place.ns, "backends", elements),),
        # A guest that calls a VIP of its own VPC must get the answer through the translation.
        postrouting=(f'iifname "{LAN}" oifname "{LAN}" ct status dnat snat ip to {vpc.gateway_address}',),
        routes=tuple(Route(HOST, member, (hop,), PROTO_BOX) for member in members),
        advertisements=(
            *(Advertisement(member, "vip-member", place.vpc) for member in members),
            *(Advertisement(IPv4Network(address), "vip", place.vpc) for address in addresses),
        ),
    )


def _buckets(vpc: Vpc, vip: Vip, backends: tuple[str, ...]) -> Iterator[str]:
    port = vip.target_port or vip.port
    targets = [vpc.guests[name].address for name in backends]
    for bucket in range(BUCKETS):
        target = max(targets, key=lambda each: _weight(bucket, each))
        yield f"{vip.address} . {vip.protocol} . {vip.port} . {bucket:#010x} : {target} . {port}"


def _weight(bucket: int, backend: IPv4Address) -> bytes:
    """Rendezvous hashing (RFC 2991 4): each bucket goes to the backend that weighs most in it."""
    return hashlib.blake2b(bytes([bucket]) + backend.packed, digest_size=8).digest()
