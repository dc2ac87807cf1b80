"""Facts as one line of text that a network engineer reads; used by plans, status and golden files. Pure."""

from __future__ import annotations

from functools import singledispatch

from appliance.model.facts import (
    Compose,
    Engine,
    FdbEntry,
    FlowKey,
    Hop,
    Instruction,
    Link,
    LinkAddress,
    Namespace,
    Neighbour,
    Netns,
    NftSet,
    NftTable,
    Route,
    Steer,
    Sysctl,
    Wire,
)


def _in(ns: Namespace) -> str:
    return f" in {ns}" if ns else ""


@singledispatch
def describe(fact: object) -> str:
    """Return the line; a kind without one of its own is shown as Python does."""
    return repr(fact)


@describe.register
def _netns(fact: Netns) -> str:
    return f"namespace {fact.name}"


@describe.register
def _link(fact: Link) -> str:
    words = [f"link {fact.name} {fact.kind}"]
    words += [
        f"{word} {value}" for word, value in (("mtu", fact.mtu), ("mac", fact.mac), ("master", fact.master)) if value
    ]
    if fact.peer:
        words.append(f"peer {fact.peer[1]}{_in(fact.peer[0])}")
    if fact.vni is not None:
        words.append(f"vni {fact.vni} local {fact.local} port {fact.port}")
    words += ["isolated"] if fact.isolated else []
    words += [] if fact.up else ["down"]
    return " ".join(words) + _in(fact.ns)


@describe.register
def _address(fact: LinkAddress) -> str:
    return f"address {fact.interface} dev {fact.link}{_in(fact.ns)}"


@describe.register
def _neighbour(fact: Neighbour) -> str:
    return f"neighbour {fact.address} lladdr {fact.mac} dev {fact.link}{_in(fact.ns)}"


@describe.register
def _fdb(fact: FdbEntry) -> str:
    return f"fdb {fact.mac} dst {fact.remote} dev {fact.link}{_in(fact.ns)}"


@describe.register
def _sysctl(fact: Sysctl) -> str:
    return f"sysctl {fact.name} = {fact.value}{_in(fact.ns)}"


def hop(fact: Hop) -> str:
    """Write one next hop as `ip route` does."""
    via = f"via {fact.via} " if fact.via else ""
    taken_out = f"decapsulate to {fact.decapsulate.nexthop} " if fact.decapsulate else ""
    return f"{taken_out}{via}dev {fact.link}"


@describe.register
def _route(fact: Route) -> str:
    hops = " nexthop ".join(hop(one) for one in fact.hops)
    mtu = f" mtu {fact.mtu}" if fact.mtu else ""
    return f"route {fact.destination} {hops} proto {fact.proto}{mtu}{_in(fact.ns)}"


@describe.register
def _table(fact: NftTable) -> str:
    return f"nft table of {len(fact.body.splitlines())} lines{_in(fact.ns)}"


@describe.register
def _set(fact: NftSet) -> str:
    return f"nft set {fact.name} {{ {', '.join(sorted(fact.elements))} }}{_in(fact.ns)}"


@describe.register
def _compose(fact: Compose) -> str:
    members = "; ".join(f"{address} at {', '.join(map(str, ids))}" for address, ids in fact.members)
    return f"compose on {fact.link} from {fact.source} to {fact.prefix} [{members}]{_in(fact.ns)}"


@describe.register
def _engine(fact: Engine) -> str:
    return f"engine {fact.number} judges by policy {fact.policy}{_in(fact.ns)}"


_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"}


def flow(key: FlowKey) -> str:
    """Write a flow as `edgeway flow` and `edgeway trace` take it."""
    name = _PROTOCOLS.get(key.protocol, str(key.protocol))
    ends = ((key.source, key.source_port), (key.destination, key.destination_port))
    source, destination = (f"[{a}]:{p}" if a.version == 6 else f"{a}:{p}" for a, p in ends)  # noqa: PLR2004 - IPv6
    return f"{name} {source} > {destination}"


@describe.register
def _instruction(fact: Instruction) -> str:
    extra = f" {fact.object}" if fact.object else ""
    return f"instruction {fact.action.name.lower()}{extra} for {flow(fact.flow)} zone {fact.flow.zone}{_in(fact.ns)}"


@describe.register
def _steer(fact: Steer) -> str:
    return f"steer {fact.number} {hop(fact.hop)}{_in(fact.ns)}"


@describe.register
def _wire(fact: Wire) -> str:
    to = f" to {'peer of ' if fact.peer else ''}{fact.to}" if fact.to else ""
    return f"wire from {fact.link} mark {fact.mark:#x}{to}{_in(fact.ns)}"
