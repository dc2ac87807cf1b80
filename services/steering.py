"""Service nodes of a VPC on one host: their links, and the ways of what is steered to them (design 0007).

A service node hangs on a link of its own, a /31, and is no port of the guests' bridge. Which flows go through it is
decided by the rules, in nft: they mark packets, and a mark leads to the node. What comes back on the link is routed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from appliance.model.facts import Fact, Hop, Link, LinkAddress, Namespace, NftSet, Steer, Sysctl
from appliance.model.intent import Intent, Vpc
from appliance.model.marks import vpc_namespace
from services.feature import EdgeParts
from services.place import Place


@dataclass(frozen=True, slots=True, order=True)
class ServiceLink:
    """The link between an edge and a service node: whose it is, its device in the VPC's namespace, both addresses."""

    vpc: str
    name: str
    number: int
    device: str
    edge: IPv4Interface
    node: IPv4Address

    @property
    def ns(self) -> Namespace:
        """The namespace in which it ends."""
        return Namespace(vpc_namespace(self.vpc))


def service_links(intent: Intent, node: str) -> tuple[ServiceLink, ...]:
    """Return the links of all service nodes that stand at a host and have an edge there, in order."""
    carried = (name for name, vpc in intent.vpcs.items() if any(g.host == node for g in vpc.guests.values()))
    return tuple(sorted(link for name in carried for link in _links(name, intent.vpcs[name], node)))


def _links(name: str, vpc: Vpc, host: str) -> Iterator[ServiceLink]:
    for node_name, node in vpc.service_nodes.items():
        if node.host == host:
            other = next(address for address in node.link.network if address != node.link.ip)
            yield ServiceLink(name, node_name, node.id, node.interface, node.link, other)


def compile_service_nodes(place: Place, vpc: Vpc, mtu: int) -> EdgeParts:
    """Compile the links of a VPC's service nodes on one host; `mtu` is that of the guests' ports."""
    links = sorted(_links(place.vpc, vpc, place.node))
    # The program of flow records (`services.flows.program`) asks here what has been at a node already.
    devices = NftSet(place.ns, "service_links", frozenset(f'"{link.device}"' for link in links))
    sets = (devices,) if vpc.service_nodes else ()
    return EdgeParts(sets=sets, facts=tuple(fact for link in links for fact in _facts(link, mtu)))


def _facts(link: ServiceLink, mtu: int) -> Iterator[Fact]:
    yield Link(link.ns, link.device, "physical", mtu=mtu)
    yield LinkAddress(link.ns, link.device, link.edge)
    yield Steer(link.ns, link.number, Hop(link.device, link.node))
    setting = f"net.ipv4.conf.{link.device.replace('.', '/')}"
    # What comes back has the addresses of guests; and a node that sends back what it got is not to be told a better way.
    yield Sysctl(link.ns, f"{setting}.rp_filter", "0")
    yield Sysctl(link.ns, f"{setting}.send_redirects", "0")
