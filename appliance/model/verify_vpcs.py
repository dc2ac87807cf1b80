"""What does not fit together in the VPCs of an intent; called by `appliance.model.verify`."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from appliance.model.intent import Intent, Vpc
from appliance.model.marks import port_blocks
from appliance.model.policy import OUTSIDE
from appliance.model.problems import Problem, unique
from appliance.model.text import Path

#: Space no guest may have: that of the links inside every edge (RFC 6598), and what is special everywhere (RFC 6890).
NOT_PRIVATE: Final = tuple(
    map(IPv4Network, ("0.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))
)
#: A subnet has its own address, the gateway, a guest and the broadcast address.
SMALLEST: Final = 4


def check_vpcs(intent: Intent) -> Iterator[Problem]:
    """Ids, devices, guests, VIPs and rules of every VPC fit together."""
    yield from unique(((("vpcs", n, "id"), vpc.id) for n, vpc in intent.vpcs.items()), "VPC id")
    yield from unique(_devices(intent), "device")
    for name, vpc in intent.vpcs.items():
        yield from _subnet(intent, name, vpc)
        yield from _guests(intent, name, vpc)
        yield from _snat(intent, name, vpc)
        yield from _vips(name, vpc)


def _devices(intent: Intent) -> Iterator[tuple[Path, str]]:
    for name, node in intent.nodes.items():
        yield ("nodes", name, "fabric", "interface"), f"{name}:{node.fabric.interface}"
        if node.exchange is not None:
            yield ("nodes", name, "exchange", "interface"), f"{name}:{node.exchange.interface}"
    for name, vpc in intent.vpcs.items():
        for guest_name, guest in vpc.guests.items():
            yield ("vpcs", name, "guests", guest_name, "interface"), f"{guest.host}:{guest.interface}"
        for node_name, service in vpc.service_nodes.items():
            yield ("vpcs", name, "service-nodes", node_name, "interface"), f"{service.host}:{service.interface}"
    for name, edge in intent.inline.items():
        for bridge_name, bridge in edge.bridges.items():
            yield ("inline", name, "bridges", bridge_name, "north"), f"{edge.host}:{bridge.north}"
            yield ("inline", name, "bridges", bridge_name, "south"), f"{edge.host}:{bridge.south}"


def _subnet(intent: Intent, name: str, vpc: Vpc) -> Iterator[Problem]:
    path: Path = ("vpcs", name, "subnet")
    if vpc.subnet.num_addresses < SMALLEST:
        yield Problem(path, "no room for a gateway and a guest", "use a /30 or larger")
        return
    for special in NOT_PRIVATE:
        if vpc.subnet.overlaps(special):
            yield Problem(path, f"overlaps {special}, which no guest can have", "use private space (RFC 1918)")
    for network in intent.zone.public:
        if vpc.subnet.overlaps(network):
            yield Problem(path, f"overlaps the public prefix {network}", "give guests public addresses one by one")
    if not _inner(vpc, vpc.gateway_address):
        yield Problem(("vpcs", name, "gateway"), f"{vpc.gateway_address} is no host address of {vpc.subnet}")


def _inner(vpc: Vpc, address: IPv4Address) -> bool:
    return address in vpc.subnet and address not in (vpc.subnet.network_address, vpc.subnet.broadcast_address)


def _guests(intent: Intent, name: str, vpc: Vpc) -> Iterator[Problem]:
    path: Path = ("vpcs", name, "guests")
    hosts = intent.with_role("host")
    yield from unique((((*path, g, "address"), guest.address) for g, guest in vpc.guests.items()), "address")
    for guest_name, guest in vpc.guests.items():
        if guest_name == OUTSIDE:
            yield Problem((*path, guest_name), "is a word of the firewall", "give the guest another name")
        if guest.host not in hosts:
            known = ", ".join(hosts) or "none"
            yield Problem((*path, guest_name, "host"), f"{guest.host} is not a host", f"hosts: {known}")
        if not _inner(vpc, guest.address):
            yield Problem((*path, guest_name, "address"), f"{guest.address} is no guest address of {vpc.subnet}")
        elif vpc.subnet.num_addresses >= SMALLEST and guest.address == vpc.gateway_address:
            yield Problem((*path, guest_name, "address"), f"{guest.address} is the gateway's", "use another")


def _snat(intent: Intent, name: str, vpc: Vpc) -> Iterator[Problem]:
    if vpc.snat is None:
        return
    slots = intent.zone.nat_slots
    carriers = {guest.host for guest in vpc.guests.values()}
    for host, node in intent.with_role("host").items():
        if host in carriers and not port_blocks(vpc.snat.block, node.id % slots, slots):
            message = f"no block of {vpc.snat.block} ports is left for {host}"
            yield Problem(("vpcs", name, "snat", "block"), message, "use smaller blocks or fewer nat-slots")


def _vips(name: str, vpc: Vpc) -> Iterator[Problem]:
    path: Path = ("vpcs", name, "vips")
    endpoints = (((*path, v), f"{vip.protocol} {vip.address}:{vip.port}") for v, vip in vpc.vips.items())
    yield from unique(endpoints, "endpoint")
    for vip_name, vip in vpc.vips.items():
        for index, backend in enumerate(vip.backends):
            if backend not in vpc.guests:
                yield Problem((*path, vip_name, "backends", index), f"{backend} is no guest of {name}", "see guests")
            elif backend in vip.backends[:index]:
                yield Problem((*path, vip_name, "backends", index), f"{backend} stands twice", "remove one")
