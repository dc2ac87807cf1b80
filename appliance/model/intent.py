"""The intent: one file for the whole zone, parsed into frozen sections.

`validate` refuses unknown keys and wrong types; `appliance.model.verify` finds what does not fit together, and
`appliance.model.load` does both. Keys are written in kebab-case; the reference manual is printed from these classes.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, IPv6Network, ip_network
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError

from appliance.model.errors import OperatorError
from appliance.model.fields import (
    V4,
    V6,
    AnyAddress,
    AnyNet,
    Asn,
    Device,
    Mtu,
    Name,
    Network,
    Port,
    Section,
    V4Net,
    V6Net,
    strings_only,
)
from appliance.model.inline import Inline
from appliance.model.marks import NODE_IDS, VPC_IDS
from appliance.model.policy import Established, Firewall, ServiceNode
from appliance.model.text import Document, Path

Role = Literal["route-server", "host", "gateway"]
EngineName = Literal["gobgp", "exabgp", "native"]
Plane = Literal["zone", "exchange"]

_RULE = re.compile(r"^(?P<net>\S+)(?:\s+ge\s+(?P<ge>[0-9]{1,3}))?(?:\s+le\s+(?P<le>[0-9]{1,3}))?$")


class PrefixMatch(Section):
    """`10.0.0.0/8`, `10.0.0.0/8 le 24` or `10.0.0.0/8 ge 16 le 24`; see `parse_rule`."""

    network: Network = Field(description="the prefix")
    min_length: int = Field(description="shortest length that matches")
    max_length: int = Field(description="longest length that matches")


def parse_rule(text: Any) -> Any:
    """Turn the written form of a prefix rule into its fields."""
    match = _RULE.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        msg = "write a prefix like `10.0.0.0/8`, `10.0.0.0/8 le 24` or `10.0.0.0/8 ge 16 le 24`"
        raise ValueError(msg)
    network = ip_network(match["net"])
    longest = int(match["le"]) if match["le"] else (network.max_prefixlen if match["ge"] else network.prefixlen)
    shortest = int(match["ge"]) if match["ge"] else network.prefixlen
    if not network.prefixlen <= shortest <= longest <= network.max_prefixlen:
        msg = f"lengths must satisfy {network.prefixlen} <= ge <= le <= {network.max_prefixlen}"
        raise ValueError(msg)
    return {"network": network, "min-length": shortest, "max-length": longest}


PrefixRuleText = Annotated[PrefixMatch, BeforeValidator(parse_rule)]


class Attachment(Section):
    """A node's port on the fabric or on the exchange."""

    interface: Device = Field(description="device that is attached; it may appear later")
    ipv4: Annotated[IPv4Interface, BeforeValidator(strings_only)] = Field(description="address with prefix length")
    ipv6: Annotated[IPv6Interface, BeforeValidator(strings_only)] = Field(description="address with prefix length")
    mtu: Mtu = Field(1500, description="MTU of the port, octets; overlay and composed paths subtract their headers")


class Loopback(Section):
    """The addresses of the node itself; announced as host routes."""

    ipv4: V4 = Field(description="also the BGP identifier")
    ipv6: V6 = Field(description="outer source address of what the node composes")


class Node(Section):
    """A machine that runs this program."""

    id: Annotated[int, Field(ge=1, le=NODE_IDS, strict=True)] = Field(
        description="unique number, 1..63; picks port ranges; never re-use it for another node while flows live"
    )
    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = Field(
        description="what the node does; a route server does nothing else"
    )
    engine: EngineName = Field("gobgp", description="which BGP engine runs here")
    loopback: Loopback = Field(description="addresses of the node itself")
    fabric: Attachment = Field(description="the zone's network: VXLAN, BGP of the zone, traffic between nodes")
    exchange: Attachment | None = Field(None, description="the network shared with other autonomous systems")


class Announces(Section):
    """What a peer may announce; nothing unless it is written here (RFC 8212)."""

    prefixes: tuple[PrefixRuleText, ...] = Field((), description="prefixes the peer owns")
    transit: bool = Field(
        False,  # noqa: FBT003
        description="the peer may announce any prefix but bogons and the zone's own",
    )
    max_prefixes: Annotated[int, Field(ge=1, strict=True)] = Field(1000, description="more than these are refused")


class Peer(Section):
    """A BGP speaker that does not run this program."""

    plane: Plane = Field("exchange", description="exchange: eBGP, transparent; zone: iBGP, reflected")
    as_: Asn = Field(description="AS number of the peer; in plane zone, the zone's own")
    addresses: tuple[AnyAddress, ...] = Field((), description="a session each; IPv4 routes on IPv4, IPv6 on IPv6")
    range: AnyNet | None = Field(None, description="instead of addresses: any speaker of this prefix may connect")
    announces: Announces = Field(
        default_factory=lambda: Announces.model_validate({}), description="what it may announce; nothing when absent"
    )
    receives: tuple[PrefixRuleText, ...] = Field((), description="what it is sent; all accepted routes when empty")
    role: Literal["rs-client"] | None = Field(
        None,
        description="RFC 9234: we say that we are its route server, mark routes, refuse leaks; engine native",
    )


class SourceNat(Section):
    """One public address shared by all hosts of a VPC, each with port blocks of its own."""

    address: V4 = Field(description="public address that flows from the VPC come from")
    block: Literal[64, 128, 256, 512, 1024, 2048, 4096] = Field(
        1024, description="ports a host takes at a time; each block is one announced prefix"
    )
    watermark: Annotated[float, Field(gt=0, le=1, strict=True)] = Field(
        0.75, description="share of a block in use at which the host takes another"
    )


class Guest(Section):
    """A workload: its port on a host, its place in the VPC."""

    host: Name = Field(description="node that carries it; changing this moves the guest")
    interface: Device = Field(description="the host's device towards the guest; it may appear later")
    address: V4 = Field(description="address in the VPC's subnet")
    public: V4 | None = Field(None, description="public address translated one to one")


class Health(Section):
    """How backends are checked: a TCP connection from the VPC's namespace; UDP backends count as healthy."""

    interval: Annotated[float, Field(ge=0.1, le=60, strict=True)] = Field(1.0, description="seconds between checks")
    timeout: Annotated[float, Field(ge=0.1, le=60, strict=True)] = Field(
        1.0, description="seconds until a check has failed"
    )
    rise: Annotated[int, Field(ge=1, le=10, strict=True)] = Field(2, description="good checks until healthy")
    fall: Annotated[int, Field(ge=1, le=10, strict=True)] = Field(2, description="failed checks until down")


class Vip(Section):
    """A service address, served by every host that has a healthy backend."""

    address: V4 = Field(description="public address; VIPs of one VPC may share it on different ports")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="transport protocol")
    port: Port = Field(description="port that clients call")
    backends: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(description="names of guests")
    target_port: Port | None = Field(None, description="port on the backends; the same when absent")
    health: Health = Field(default_factory=lambda: Health.model_validate({}), description="how backends are checked")


class Vpc(Section):
    """A tenant's private network: one subnet stretched over all hosts that carry its guests."""

    id: Annotated[int, Field(ge=1, le=VPC_IDS, strict=True)] = Field(
        description="unique number, 1..60000; also the VXLAN network identifier"
    )
    subnet: V4Net = Field(description="may equal the subnet of another VPC")
    gateway: V4 | None = Field(None, description="the same on every host; the first address when absent")
    snat: SourceNat | None = Field(None, description="source NAT for guests without a public address; none when absent")
    guests: dict[Name, Guest] = Field(default_factory=dict, description="workloads by name")
    vips: dict[Name, Vip] = Field(default_factory=dict, description="service addresses by name")
    groups: dict[Name, tuple[str, ...]] = Field(
        default_factory=dict, description="sets of guests by name and prefixes, to be named in rules"
    )
    service_nodes: dict[Name, ServiceNode] = Field(
        default_factory=dict, description="machines that look at flows on their way, by name"
    )
    firewall: Firewall = Field(
        default_factory=lambda: Firewall.model_validate({}), description="what passes between guests and the outside"
    )
    established: Established = Field(
        default_factory=lambda: Established.model_validate({}),
        description="what happens to flows whose translation is no longer true",
    )

    @property
    def gateway_address(self) -> IPv4Address:
        """The address guests route to."""
        return self.gateway or self.subnet.network_address + 1


class Zone(Section):
    """What the whole zone shares."""

    name: Name = Field(description="name of the zone, for people")
    as_: Asn = Field(description="AS number of the zone")
    exchange_as: Asn | None = Field(None, description="AS number of the route servers towards other networks")
    composed: V6Net = Field(
        IPv6Network("fd00:ed9e::/48"), description="a /48: destinations made of an IPv4 address and a selector"
    )
    public: tuple[V4Net, ...] = Field((), description="public prefixes that gateways announce to the outside")
    nat_slots: Literal[4, 8, 16, 32] = Field(16, description="hosts that can share one source NAT address")


class Intent(Section):
    """The whole file."""

    zone: Zone = Field(description="what the whole zone shares")
    nodes: Annotated[dict[Name, Node], Field(min_length=1)] = Field(
        description="machines that run this program, by name"
    )
    peers: dict[Name, Peer] = Field(default_factory=dict, description="BGP speakers of others, by name")
    vpcs: dict[Name, Vpc] = Field(default_factory=dict, description="private networks of tenants, by name")
    inline: dict[Name, Inline] = Field(
        default_factory=dict, description="transparent edges between two rows of routers, by name"
    )

    def with_role(self, role: Role) -> dict[str, Node]:
        """Select nodes by role, in order of name."""
        return {name: node for name, node in sorted(self.nodes.items()) if role in node.roles}


def validate(document: Document) -> Intent:
    """Check types and keys; raise OperatorError with all findings."""
    if not isinstance(document.data, dict):
        raise OperatorError((document.finding((), "must hold the keys of an intent", _hint("missing")),))
    try:
        return Intent.model_validate(document.data)
    except ValidationError as error:
        findings = [
            document.finding(
                _path(document.data, item["loc"]), _message(item["type"], item["msg"]), _hint(item["type"], item["msg"])
            )
            for item in error.errors(include_url=False)
        ]
        raise OperatorError(tuple(dict.fromkeys(findings))) from error


def _path(data: Any, loc: tuple[str | int, ...]) -> Path:
    """Return the document's path of a finding: without the marks that pydantic adds, as `[key]`."""
    path: list[str | int] = []
    for part in loc:
        known = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if known:
            data = data[part]
        elif isinstance(part, int) or "[" in part:
            continue
        path.append(part)
    return tuple(path)


_WORDS: Final = {
    "extra_forbidden": "unknown key",
    "missing": "required, but absent",
    "dict_type": "needs keys with values",
    "model_type": "needs keys with values",
    "tuple_type": "needs a list",
    "too_short": "needs at least one",
    "string_type": "needs text; write it in quotes",
}


def _message(kind: str, text: str) -> str:
    return _WORDS.get(kind, text.removeprefix("Value error, "))


def _hint(kind: str, text: str = "") -> str:
    if kind == "missing":
        return "`edgeway reference` tells what it means"
    if kind == "string_pattern_mismatch" and "[a-z]" in text:
        return "a name has lower case letters, digits and dashes"
    return "see `edgeway reference`"
