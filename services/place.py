"""Where an edge stands: the names and addresses of one VPC on one host, all pure functions of the intent."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network

from appliance.model.facts import Namespace
from appliance.model.intent import Intent
from appliance.model.marks import device, stable_mac, vpc_namespace

#: Shared address space (RFC 6598) of the pairs between a host and its VPC namespaces: two addresses a VPC id.
UPLINKS = IPv4Address("100.64.0.0")
#: One address a VPC id that stands for "the VPC behind its uplink": what is taken out of a composed destination goes
#: there. It must be reached by a gateway: for an address on the link itself the kernel would ask for the packet's own.
INWARD = IPv4Address("100.80.0.0")
#: Inner addresses of the overlay's routers, one a node id; the same in every VPC.
OVERLAY = IPv4Address("100.127.0.0")
#: Length of their prefix: node ids end at 63, and the last address of a subnet is no next hop.
OVERLAY_LENGTH = 25

UPLINK, LAN, OVERLAY_DEVICE = "ew-up", "ew-lan", "ew-vx"


@dataclass(frozen=True, slots=True)
class Place:
    """One VPC on one host."""

    node: str
    node_id: int
    vpc: str
    vpc_id: int
    composed: IPv6Network
    slots: int

    @classmethod
    def of(cls, intent: Intent, node: str, vpc: str) -> Place:
        """Look the place up in the intent."""
        zone = intent.zone
        return cls(node, intent.nodes[node].id, vpc, intent.vpcs[vpc].id, zone.composed, zone.nat_slots)

    @property
    def ns(self) -> Namespace:
        """The VPC's namespace."""
        return Namespace(vpc_namespace(self.vpc))

    @property
    def slot(self) -> int:
        """The host's slot of every source NAT address."""
        return self.node_id % self.slots

    @property
    def uplink(self) -> str:
        """The device inside the VPC's namespace that leads to the host."""
        return UPLINK

    @property
    def host_end(self) -> str:
        """The other end of the uplink, in the host's namespace."""
        return device("ew-v", self.vpc_id)

    @property
    def host_address(self) -> IPv4Address:
        """Address of the host's end."""
        return UPLINKS + 2 * self.vpc_id

    @property
    def uplink_address(self) -> IPv4Address:
        """Address of the VPC's end."""
        return UPLINKS + 2 * self.vpc_id + 1

    @property
    def inward_address(self) -> IPv4Address:
        """Where the host sends what it takes out of composed destinations of this VPC."""
        return INWARD + self.vpc_id

    @property
    def lan_mac(self) -> str:
        """The anycast gateway's MAC: the same on every host, so that a moved guest keeps its neighbour entry."""
        return stable_mac("lan", self.vpc)


def overlay_address(node_id: int) -> IPv4Address:
    """Return the overlay address of a node."""
    return OVERLAY + node_id


def overlay_mac(node: str, vpc: str) -> str:
    """Return the MAC of a node's overlay device; a VXLAN device drops frames that come from its own MAC."""
    return stable_mac("overlay", node, vpc)
