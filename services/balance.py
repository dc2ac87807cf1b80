"""VIPs: a service address that every host with a healthy backend serves, each for its own guests (design 0003).

A host announces the VIP by a composed prefix of its own while it serves it; gateways and hosts pick one of the members
by a hash of the flow and keep no state. Replies go straight back from the host that holds the flow.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from appliance.model.composed import Composed, Kind
from appliance.model.facts import HOST, Advertisement, Decapsulate, Hop, Route
from appliance.model.intent import Vip, Vpc
from appliance.model.marks import PROTO_BOX
from services.feature import EdgeParts
from services.place import LAN, Place


def healthy_backends(place: Place, vpc: Vpc, vip: Vip, down: frozenset[tuple[str, str, int]]) -> tuple[str, ...]:
    """Return the backends on this host that are not known to be down, in the order of the intent."""
    port = vip.target_port or vip.port
    local = (name for name in vip.backends if vpc.guests[name].host == place.node)
    return tuple(dict.fromkeys(name for name in local if (place.vpc, name, port) not in down))


def compile_vips(place: Place, vpc: Vpc, down: frozenset[tuple[str, str, int]]) -> EdgeParts:
    """Translate VIPs to local backends; announce each address of which at least one endpoint is served here."""
    served = [(vip, b) for vip in vpc.vips.values() if (b := healthy_backends(place, vpc, vip, down))]
    addresses = sorted({vip.address for vip, _ in served})
    if not served:
        return EdgeParts()
    members = [Composed(Kind.VIP, address, place.node_id).network(place.composed) for address in addresses]
    hop = Hop(place.host_end, None, Decapsulate(place.inward_address))
    return EdgeParts(
        prerouting=tuple(statement for vip, backends in served for statement in _translate(vpc, vip, backends)),
        # A guest that calls a VIP of its own VPC must get the answer through the translation.
        postrouting=(f'iifname "{LAN}" oifname "{LAN}" ct status dnat snat ip to {vpc.gateway_address}',),
        routes=tuple(Route(HOST, member, (hop,), PROTO_BOX) for member in members),
        advertisements=(
            *(Advertisement(member, "vip-member", place.vpc) for member in members),
            *(Advertisement(IPv4Network(address), "vip", place.vpc) for address in addresses),
        ),
    )


def _translate(vpc: Vpc, vip: Vip, backends: tuple[str, ...]) -> Iterator[str]:
    port = vip.target_port or vip.port
    match = f"ip daddr {vip.address} {vip.protocol} dport {vip.port}"
    targets = [vpc.guests[name].address for name in backends]
    if len(targets) == 1:
        yield f"{match} dnat ip to {targets[0]}:{port}"
        return
    choice = ", ".join(f"{index} : {target}" for index, target in enumerate(targets))
    yield f"{match} dnat ip to jhash ip saddr . {vip.protocol} sport mod {len(targets)} map {{ {choice} }}:{port}"
