"""What the translations of a VPC on this host promise to flows: VIPs, source NAT, one-to-one pairs, guests (design 0005).

Pure. Compiled from the intent and what is known at run time by the functions that compile the translations themselves;
compared by `services.flows.changes`; kept over restarts by `appliance.control.reconciliation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

from appliance.model.composed import decompose
from appliance.model.facts import Address, Network
from appliance.model.intent import Intent, Vpc
from services.balance import healthy_backends
from services.feature import Runtime
from services.nat import compile_snat, own_blocks
from services.place import Place

PROTOCOLS: Final = {"tcp": 6, "udp": 17}
_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}


class Service(NamedTuple):
    """What clients of a VIP call."""

    address: Address
    port: int
    protocol: int

    def __str__(self) -> str:
        """Write it as `parse` reads it."""
        return f"{self.address}:{self.port}/{_NAMES.get(self.protocol, self.protocol)}"

    @classmethod
    def parse(cls, text: str) -> Service:
        """Read `203.0.113.80:80/tcp`; ValueError or KeyError if it is none."""
        place, _, protocol = text.rpartition("/")
        address, _, port = place.rpartition(":")
        return cls(ip_address(address), int(port), PROTOCOLS[protocol])


class Backend(NamedTuple):
    """What a VIP is translated to."""

    address: Address
    port: int

    def __str__(self) -> str:
        """Write it as `parse` reads it."""
        return f"{self.address}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Backend:
        """Read `172.16.1.11:8080`; ValueError if it is none."""
        address, _, port = text.rpartition(":")
        return cls(ip_address(address), int(port))


class Ports(NamedTuple):
    """Ports of the source NAT address, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        """Write it as `parse` reads it."""
        return f"{self.low}-{self.high}"

    @classmethod
    def parse(cls, text: str) -> Ports:
        """Read `4096-5119`; ValueError if it is none."""
        low, high = map(int, text.split("-"))
        return cls(low, high)


@dataclass(frozen=True, slots=True)
class Mappings:
    """What is promised to the flows of one VPC on one host.

    `vips` holds every VIP of the VPC, without backends where none is healthy here, and `floating` every one-to-one pair
    of the VPC, wherever its guest is: neither ends when the guest moves. `guests` are those of the VPC, `here` stand
    some of them.
    """

    vpc: str
    subnet: Network
    vips: Mapping[Service, frozenset[Backend]] = field(default_factory=dict)
    names: Mapping[str, Service] = field(default_factory=dict)
    snat: Address | None = None
    ports: tuple[Ports, ...] = ()
    floating: Mapping[Address, Address] = field(default_factory=dict)
    guests: Mapping[Address, str] = field(default_factory=dict)
    here: frozenset[Address] = frozenset()


def mappings(intent: Intent, node: str, name: str, runtime: Runtime) -> Mappings:
    """Return what a VPC promises on a node: what the compile of the same intent and runtime translates."""
    place, vpc = Place.of(intent, node, name), intent.vpcs[name]
    services = {key: Service(vip.address, vip.port, PROTOCOLS[vip.protocol]) for key, vip in vpc.vips.items()}
    vips: dict[Service, frozenset[Backend]] = {}
    for key, vip in vpc.vips.items():
        healthy, port = healthy_backends(place, vpc, vip, runtime.down), vip.target_port or vip.port
        vips[services[key]] = frozenset(Backend(vpc.guests[guest].address, port) for guest in healthy)
    return Mappings(
        name,
        vpc.subnet,
        vips,
        services,
        None if vpc.snat is None else vpc.snat.address,
        tuple(sorted(_ports(place, vpc, runtime.blocks.get(name, ())))),
        {guest.public: guest.address for guest in vpc.guests.values() if guest.public is not None},
        {guest.address: key for key, guest in vpc.guests.items()},
        frozenset(guest.address for guest in vpc.guests.values() if guest.host == node),
    )


def _ports(place: Place, vpc: Vpc, taken: tuple[int, ...]) -> Iterator[Ports]:
    """Yield what is announced: that is what comes back here."""
    if vpc.snat is None or not own_blocks(vpc.snat, place.slot, place.slots):  # a node that carries no guest of it
        return
    for advertisement in compile_snat(place, vpc, taken).advertisements:
        block = decompose(advertisement.prefix, place.composed)
        if block is not None:
            yield Ports(block.selector, block.selector + block.width - 1)


def nothing(old: Mappings) -> Mappings:
    """Return what a VPC promises that is in the intent no more."""
    return Mappings(old.vpc, old.subnet)


def to_tree(made: Mappings) -> dict[str, Any]:
    """Write as what JSON can hold; equal promises are written equally."""
    return {
        "vpc": made.vpc,
        "subnet": str(made.subnet),
        "vips": {str(service): sorted(map(str, made.vips[service])) for service in sorted(made.vips)},
        "names": {name: str(service) for name, service in sorted(made.names.items())},
        "snat": None if made.snat is None else str(made.snat),
        "ports": list(map(str, made.ports)),
        "floating": {str(public): str(private) for public, private in sorted(made.floating.items())},
        "guests": {str(address): made.guests[address] for address in sorted(made.guests)},
        "here": sorted(map(str, made.here)),
    }


def from_tree(tree: Mapping[str, Any]) -> Mappings:
    """Read what `to_tree` wrote."""
    return Mappings(
        tree["vpc"],
        ip_network(tree["subnet"]),
        {Service.parse(key): frozenset(map(Backend.parse, held)) for key, held in tree["vips"].items()},
        {name: Service.parse(text) for name, text in tree["names"].items()},
        None if tree["snat"] is None else ip_address(tree["snat"]),
        tuple(map(Ports.parse, tree["ports"])),
        {ip_address(public): ip_address(private) for public, private in tree["floating"].items()},
        {ip_address(address): name for address, name in tree["guests"].items()},
        frozenset(map(ip_address, tree["here"])),
    )
