"""Values of BGP that every engine shares: families, attributes, paths, policies and the numbered reasons.

Names are those of RFC 4271, 4456, 4760, 7947, 8092 and 8950. Nothing here decides; `routing.bgp.policy` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Family(Enum):
    """Address families we carry; the value is (AFI, SAFI) of RFC 4760."""

    IPV4 = (1, 1)
    IPV6 = (2, 1)

    #: There is one of each. Enum would hash the name, in Python, at every look-up.
    __hash__ = object.__hash__

    @classmethod
    def of(cls, prefix: Network | Address) -> Family:
        """Return the family of a prefix or an address."""
        return cls.IPV4 if prefix.version == 4 else cls.IPV6  # noqa: PLR2004 - IP version


class Origin(IntEnum):
    """ORIGIN (RFC 4271 5.1.1)."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class SegmentType(IntEnum):
    """AS_PATH segment types (RFC 4271 4.3)."""

    SET = 1
    SEQUENCE = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """One AS_PATH segment."""

    type: SegmentType
    asns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UnknownAttribute:
    """An optional attribute we do not know: flags, type code and value octets, passed on if transitive."""

    flags: int
    code: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attribute set of a path, without what belongs to the prefix; interned by the RIB, so it is hashable."""

    next_hop: Address
    origin: Origin = Origin.IGP
    as_path: tuple[Segment, ...] = ()
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: tuple[int, IPv4Address] | None = None
    communities: tuple[tuple[int, int], ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    extended_communities: tuple[bytes, ...] = ()
    originator_id: IPv4Address | None = None
    cluster_list: tuple[IPv4Address, ...] = ()
    unknown: tuple[UnknownAttribute, ...] = ()

    @property
    def path_asns(self) -> tuple[int, ...]:
        """Every AS number of the path, in order, sets included."""
        return tuple(asn for segment in self.as_path for asn in segment.asns)

    @property
    def path_length(self) -> int:
        """Length for best-path selection: an AS_SET counts one (RFC 4271 9.1.2.2 a)."""
        return sum(1 if s.type is SegmentType.SET else len(s.asns) for s in self.as_path)


@dataclass(frozen=True, slots=True)
class PrefixRule:
    """`network` itself and its more specifics with a length in [min_length, max_length]."""

    network: Network
    min_length: int
    max_length: int

    @classmethod
    def exact(cls, network: Network) -> PrefixRule:
        """Match the network and nothing below."""
        return cls(network, network.prefixlen, network.prefixlen)

    def matches(self, prefix: Network) -> bool:
        """Tell whether the rule covers `prefix`."""
        return (
            prefix.version == self.network.version
            and self.min_length <= prefix.prefixlen <= self.max_length
            and prefix.subnet_of(self.network)  # type: ignore[arg-type] # same version, checked above
        )


class Reason(IntEnum):
    """Why a route was refused; the numbers are stable, operators script on them."""

    NO_POLICY = 1  # RFC 8212: nothing is accepted without a policy
    NOT_OWNED = 2  # the intent does not give this prefix to the neighbour
    BOGON = 3  # never accepted: special-purpose space or the zone's own
    FIRST_AS = 4  # the first AS of the path is not the neighbour's (RFC 4271 6.3)
    FORBIDDEN_AS = 5  # the path holds an AS that must not appear (0, private transit, our own)
    PATH_TOO_LONG = 6
    NEXT_HOP = 7  # NEXT_HOP is not one of the neighbour's own addresses (RFC 7948 4.8)
    MAX_PREFIXES = 8  # above the neighbour's limit
    AS_LOOP = 9  # our own AS is in the path (RFC 4271 9)
    ORIGINATOR_LOOP = 10  # ORIGINATOR_ID is ours (RFC 4456 8)
    CLUSTER_LOOP = 11  # our CLUSTER_ID is in CLUSTER_LIST (RFC 4456 8)
    MALFORMED = 12  # treated as withdrawn (RFC 7606)
    AS_SET = 13  # AS_SET in the path (RFC 9774)
    NEXT_HOP_UNREACHABLE = 14
    ROUTE_LEAK = 15  # a client's route that was for customers only (RFC 9234 5)


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """What a neighbour may announce. The default accepts nothing (RFC 8212).

    Checks run in the order of the fields of `Reason` that they give: BOGON (`never`), NOT_OWNED (`accept`), AS_SET,
    FIRST_AS, FORBIDDEN_AS, PATH_TOO_LONG, NEXT_HOP, MAX_PREFIXES. `next_hops` empty means any.
    """

    accept: tuple[PrefixRule, ...] = ()
    never: tuple[PrefixRule, ...] = ()
    first_as: int | None = None
    forbidden_as: tuple[int, ...] = ()
    max_path_length: int = 64
    next_hops: tuple[Network, ...] = ()
    max_prefixes: int | None = None
    refuse_as_set: bool = True


@dataclass(frozen=True, slots=True)
class ExportPolicy:
    """What a neighbour may be sent; the default sends nothing."""

    accept: tuple[PrefixRule, ...] = ()
    never: tuple[PrefixRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Announcement:
    """A route this speaker originates. `next_hop` None is the local address of each session."""

    prefix: Network
    next_hop: Address | None = None
    communities: tuple[tuple[int, int], ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    med: int | None = None


class Mode(Enum):
    """What a speaker is to its neighbours."""

    TRANSPARENT = "transparent"  # eBGP route server: next hop, AS_PATH, MED untouched, own AS not added (RFC 7947)
    REFLECTOR = "reflector"  # iBGP route reflector, all neighbours are clients (RFC 4456)
    ROUTER = "router"  # an ordinary speaker: a host or a gateway


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A session, or (`range` given, `address` None) all sessions that come from a prefix (dynamic neighbours).

    `next_hop_self` applies to iBGP export of routes learned by eBGP. `restart_time` > 0 turns graceful restart on
    (RFC 4724), in seconds, as restarter and as helper. `passive` waits for the neighbour to connect. `client`: we are a
    route server to it, and say so (RFC 9234).
    """

    name: str
    asn: int
    address: Address | None = None
    range: Network | None = None
    local_address: Address | None = None
    families: tuple[Family, ...] = (Family.IPV4,)
    imports: ImportPolicy = field(default_factory=ImportPolicy)
    exports: ExportPolicy = field(default_factory=ExportPolicy)
    passive: bool = False
    next_hop_self: bool = False
    extended_next_hop: bool = False
    hold_time: int = 90
    restart_time: int = 120
    client: bool = False


@dataclass(frozen=True, slots=True)
class Speaker:
    """Everything one engine process must be: the whole desired state, told at once."""

    name: str
    mode: Mode
    asn: int
    router_id: IPv4Address
    listen: tuple[Address, ...]
    port: int = 179
    neighbors: tuple[Neighbor, ...] = ()
    announcements: tuple[Announcement, ...] = ()
