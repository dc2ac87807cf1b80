"""Frozen facts: what must be true in the kernel of one node.

Every fact has a `key` (identity in its subsystem); two facts with one key and different values are an update.
Compiled by `appliance.control.compile`, read back and applied by the ports of `appliance.kernel`. The namespace "" is
the node's own; any other is a name under /run/netns that we made.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal, NewType

from appliance.model.marks import Action

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network
Namespace = NewType("Namespace", str)

HOST = Namespace("")
LinkKind = Literal["veth", "bridge", "vxlan", "physical"]


@dataclass(frozen=True, slots=True, order=True)
class Netns:
    """A network namespace we make, marked by the alias of its `lo`."""

    name: Namespace

    @property
    def key(self) -> Hashable:
        """Identity."""
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """A device, up unless said otherwise, in `ns`.

    `physical` is a device somebody else made: it starts in the node's own namespace and is moved to `ns` when it
    appears; it is never deleted, only moved back. A `veth` names its other end, which is a Link of its own. A `vxlan`
    has its underlay in the node's own namespace whatever `ns` is. `isolated` ports of a bridge reach only the bridge
    itself, not each other; a port that is not `learning` passes frames on without remembering who sent them.
    """

    ns: Namespace
    name: str
    kind: LinkKind
    mtu: int | None = None
    mac: str | None = None
    master: str | None = None
    peer: tuple[Namespace, str] | None = None
    vni: int | None = None
    local: Address | None = None
    port: int | None = None
    learning: bool = True
    isolated: bool = False
    #: Administratively down when false: how a lost carrier on one side of a wire is told to the other.
    up: bool = True

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.name)


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address on a device (IFA_PROTO is ours)."""

    ns: Namespace
    link: str
    interface: Interface

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.link, self.interface)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour entry: address -> MAC on a device."""

    ns: Namespace
    link: str
    address: Address
    mac: str

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.link, self.address)


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """A permanent forwarding entry of a vxlan device: MAC -> remote tunnel end."""

    ns: Namespace
    link: str
    mac: str
    remote: Address

    @property
    def key(self) -> Hashable:
        """Identity: all-zero MAC entries may be several (head-end replication)."""
        return (self.ns, self.link, self.mac, self.remote if self.mac == "00:00:00:00:00:00" else None)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A per-namespace sysctl, dotted (`net.ipv4.ip_forward`); a device name with a dot is written with a slash."""

    ns: Namespace
    name: str
    value: str

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.name)


@dataclass(frozen=True, slots=True)
class Decapsulate:
    """seg6local End.DX4 (RFC 8986 4.5): take the inner IPv4 packet out and forward it as if to `nexthop`."""

    nexthop: IPv4Address


@dataclass(frozen=True, slots=True)
class Hop:
    """One next hop: `via` on `link`; `via` None is on-link. IPv4 routes may have an IPv6 `via` (RFC 8950)."""

    link: str
    via: Address | None = None
    decapsulate: Decapsulate | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route in table main of `ns`; several hops are an equal-cost group.

    The port realises hops with next-hop objects so that a change of one hop under many routes is one message.
    """

    ns: Namespace
    destination: Network
    hops: tuple[Hop, ...]
    proto: int
    mtu: int | None = None

    @property
    def key(self) -> Hashable:
        """Identity: one route of each protocol and destination (the metric follows from the protocol)."""
        return (self.ns, self.destination, self.proto)


@dataclass(frozen=True, slots=True)
class NftTable:
    """Our inet table of a namespace: `body` is what stands between the braces, sets declared without elements."""

    ns: Namespace
    body: str

    @property
    def key(self) -> Hashable:
        """Identity."""
        return self.ns


@dataclass(frozen=True, slots=True)
class NftSet:
    """The elements of one set or map of our table, as nft writes them (`10.0.0.1 . 80`, `a : b`)."""

    ns: Namespace
    name: str
    elements: frozenset[str]

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.name)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine of the namespace's flow records: its flows were judged by the policy with this digest (design 0004).

    When the digest changes, or the engine comes to be, its generation rises in the transaction that changes the sets.
    """

    ns: Namespace
    number: int
    policy: str

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.number)


@dataclass(frozen=True, slots=True, order=True)
class FlowKey:
    """A flow by the tuple of its first packet, before any translation: what conntrack calls the original direction.

    For ICMP echo `source_port` is the identifier and `destination_port` type * 256 + code, as conntrack has them.
    `zone` is the conntrack zone: equal tuples in different zones are different flows.
    """

    source: Address
    source_port: int
    destination: Address
    destination_port: int
    protocol: int
    zone: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow record as conntrack has it: `reply` is what answers look like; where they differ, addresses are translated."""

    key: FlowKey
    reply: FlowKey
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """What somebody decided for one flow, over the head of the policy; both directions obey (design 0004).

    `object` tells REDIRECT the service node, LIMIT and SAMPLE their settings.
    """

    ns: Namespace
    flow: FlowKey
    action: Action
    object: int = 0

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.flow)


@dataclass(frozen=True, slots=True)
class Steer:
    """Packets of `ns` that carry the mark STEER + `number` go to `hop`, whatever their destination."""

    ns: Namespace
    number: int
    hop: Hop

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.number, 4 if self.hop.via is None else self.hop.via.version)


@dataclass(frozen=True, slots=True)
class Wire:
    """The tc program on the ingress of a port of an inline edge: every frame gets `mark`.

    With `to` it goes on at once: `peer` into the namespace at the other end of that veth (the mark survives), else out
    of that device. Without `to` it goes where it went anyway.
    """

    ns: Namespace
    link: str
    mark: int
    to: str | None = None
    peer: bool = False

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.link)


@dataclass(frozen=True, slots=True)
class Compose:
    """The composed-destination encapsulation of a gateway, on ingress of device `link`.

    An IPv4 packet that arrives there leaves in IPv6 from `source` to `prefix` (/48) | kind (16) | address (32) |
    selector (16) | 0 (16). `members` gives, for each address that several hosts serve, the node ids that serve it: the
    selector is one of them, picked by a hash of the flow, kind 2. For all other addresses the selector is the
    destination port (the identifier for ICMP echo, the embedded source port for ICMP errors), kind 1. No state.
    """

    ns: Namespace
    link: str
    source: IPv6Address
    prefix: IPv6Network
    members: tuple[tuple[IPv4Address, tuple[int, ...]], ...] = ()

    @property
    def key(self) -> Hashable:
        """Identity."""
        return (self.ns, self.link)


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A prefix this node wants announced while it stands here; `routing.advertise` gives it next hop and communities.

    `kind` says what it is and becomes part of a large community; `owner` is the VPC or the node.
    """

    prefix: Network
    kind: Literal["loopback", "public", "snat", "vip", "vip-member", "guest", "floating"]
    owner: str

    @property
    def key(self) -> Hashable:
        """Identity."""
        return self.prefix


Fact = (
    Netns
    | Link
    | LinkAddress
    | Neighbour
    | FdbEntry
    | Sysctl
    | Route
    | NftTable
    | NftSet
    | Engine
    | Instruction
    | Steer
    | Wire
    | Compose
)
