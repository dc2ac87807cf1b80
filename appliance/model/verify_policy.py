"""What does not fit together in the groups, rules and service nodes of VPCs; called by `appliance.model.verify`."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from appliance.model.intent import Intent, Vpc
from appliance.model.marks import OBJECTS
from appliance.model.policy import OUTSIDE, Rule
from appliance.model.problems import Problem, unique
from appliance.model.text import Path

#: The length of a link between an edge and a service node.
LINK = 31
#: Actions that need a number of their own.
RATED = ("limit", "sample")


def check_policy(intent: Intent) -> Iterator[Problem]:
    """Groups have members, rules name what there is, service nodes have links and numbers of their own."""
    for name, vpc in intent.vpcs.items():
        yield from _groups(name, vpc)
        yield from _service_nodes(intent, name, vpc)
        for index, rule in enumerate(vpc.firewall.rules):
            path: Path = ("vpcs", name, "firewall", "rules", index)
            yield from ports(path, rule.protocol, rule.ports)
            yield from _sides(path, vpc, rule)
            yield from _ports_of(path, vpc, rule)
            yield from _extras(path, vpc, rule)
        rates = {(rule.action, rule.rate) for rule in vpc.firewall.rules if rule.action in RATED}
        if len(rates) > OBJECTS:
            yield Problem(("vpcs", name, "firewall", "rules"), f"more than {OBJECTS} different rates", "use fewer")


def _groups(name: str, vpc: Vpc) -> Iterator[Problem]:
    for group, members in vpc.groups.items():
        path: Path = ("vpcs", name, "groups", group)
        if group in vpc.guests or group == OUTSIDE:
            yield Problem(path, "is the name of a guest, or a word of the firewall", "give the group another name")
        for index, member in enumerate(members):
            if member not in vpc.guests and not is_network(member):
                yield Problem((*path, index), f"{member} is no guest or IPv4 prefix", _guests(vpc))


def _service_nodes(intent: Intent, name: str, vpc: Vpc) -> Iterator[Problem]:
    path: Path = ("vpcs", name, "service-nodes")
    nodes = vpc.service_nodes.items()
    yield from unique((((*path, n, "id"), node.id) for n, node in nodes), "id of a service node")
    yield from unique((((*path, n, "link"), node.link.network) for n, node in nodes), "link")
    hosts = intent.with_role("host")
    for node_name, node in nodes:
        if node.host not in hosts:
            yield Problem(
                (*path, node_name, "host"), f"{node.host} is not a host", f"hosts: {', '.join(hosts) or 'none'}"
            )
        if node.link.network.prefixlen != LINK:
            yield Problem(
                (*path, node_name, "link"), f"must be a /{LINK}", "the edge has one address, the node the other"
            )
        elif node.link.network.overlaps(vpc.subnet):
            yield Problem((*path, node_name, "link"), f"overlaps the VPC's subnet {vpc.subnet}", "use another prefix")


def ports(path: Path, protocol: str, texts: tuple[str, ...]) -> Iterator[Problem]:
    """Ports stand with a protocol that has them, and are ports or ranges."""
    if texts and protocol not in ("tcp", "udp"):
        yield Problem((*path, "ports"), f"protocol {protocol} has no ports", "set protocol tcp or udp")
    for index, text in enumerate(texts):
        low, _, high = text.partition("-")
        if not 1 <= int(low) <= int(high or low) <= 65535:  # noqa: PLR2004 - ports
            yield Problem((*path, "ports", index), f"{text} is no port or range", "1-65535, low before high")


def _sides(path: Path, vpc: Vpc, rule: Rule) -> Iterator[Problem]:
    for side, terms in (("source", rule.source), ("destination", rule.destination)):
        for index, term in enumerate(terms):
            if term not in {OUTSIDE, *vpc.guests, *vpc.groups} and not is_network(term):
                message = f"{term} is no guest, group, IPv4 prefix or `{OUTSIDE}`"
                yield Problem((*path, side, index), message, _guests(vpc))


def _ports_of(path: Path, vpc: Vpc, rule: Rule) -> Iterator[Problem]:
    for index, term in enumerate(rule.applies_to):
        if term not in vpc.guests and term not in vpc.groups:
            yield Problem((*path, "applies-to", index), f"{term} is no guest or group", _guests(vpc))


def _extras(path: Path, vpc: Vpc, rule: Rule) -> Iterator[Problem]:
    if (rule.rate is not None) != (rule.action in RATED):
        yield Problem((*path, "rate"), "stands with limit and sample, and only there", "add or remove rate")
    if (rule.to is not None) != (rule.action == "redirect"):
        yield Problem((*path, "to"), "stands with redirect, and only there", "name a service node, or remove it")
    if rule.to is not None and rule.to not in vpc.service_nodes:
        known = ", ".join(vpc.service_nodes) or "none"
        yield Problem((*path, "to"), f"{rule.to} is no service node of the VPC", f"service nodes: {known}")
    if rule.action == "redirect":
        yield from (
            Problem(
                (*path, side), "a redirect is for flows inside the VPC", "name guests, groups or parts of the subnet"
            )
            for side, terms in (("source", rule.source), ("destination", rule.destination))
            if not terms or not all(_inside(vpc, term) for term in terms)
        )


def _inside(vpc: Vpc, term: str) -> bool:
    """Tell whether a term is part of the subnet: what is translated cannot go through a node and come back."""
    members = vpc.groups.get(term, (term,))
    return all(m in vpc.guests or (is_network(m) and IPv4Network(m).subnet_of(vpc.subnet)) for m in members)


def _guests(vpc: Vpc) -> str:
    return "guests and groups of this VPC: " + (", ".join((*vpc.guests, *vpc.groups)) or "none")


def is_network(text: str) -> bool:
    """Tell whether a text is an IPv4 prefix."""
    try:
        IPv4Network(text)
    except ValueError:
        return False
    return True
