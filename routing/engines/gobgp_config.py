"""What one gobgpd must be, as values: the session parameters and the policies that a `Speaker` means. Pure.

Called by the GoBGP engine, which compares the digests of two such values to change only what differs;
`gobgp_messages` puts them into the words of gobgpd's API. gobgpd looks up a prefix set by its longest network only, so
rules are made independent of one another here (`independent`). Route-server clients have policies of their own; all
other neighbours share the two global ones, in which a statement names the neighbours it is about. Everything ends in
a refusal (RFC 8212).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_network
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from appliance.model.errors import InternalError
from routing.bgp.values import (
    Address,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Speaker,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

T = TypeVar("T", bound="Hashable")

#: Names of the policies of the global table.
IMPORT: Final = "import"
EXPORT: Final = "export"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy: if all conditions given hold, the route is accepted or refused.

    `neighbors` are those that taught the route (import) or would get it (export). `prefixes` are of one IP version.
    """

    accept: bool
    neighbors: tuple[Network, ...] = ()
    prefixes: tuple[PrefixRule, ...] = ()
    as_path: str = ""
    as_path_inverted: bool = False
    longer_than: int | None = None
    next_hops: tuple[Network, ...] = ()
    source: Literal["", "local", "external"] = ""
    next_hop_self: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A list of statements; the first that decides does, and what none decides is refused."""

    name: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Peer:
    """One session, or (`range`) the group that sessions from a prefix join; without what policies say.

    `key` names it in gobgpd: the address, or the group's name. `imports` and `exports` are names of policies.
    """

    key: str
    asn: int
    address: Address | None
    range: Network | None
    local_address: Address | None
    families: tuple[Family, ...]
    passive: bool
    hold_time: int
    restart_time: int
    max_prefixes: int | None
    client: Literal["", "server", "reflector"]
    imports: str
    exports: str


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration of a gobgpd. `digests` has one entry per thing that can change on its own."""

    asn: int
    router_id: IPv4Address
    listen: tuple[Address, ...]
    port: int
    route_server: bool
    policies: tuple[Policy, ...]
    peers: tuple[Peer, ...]
    digests: Mapping[str, str] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do, in this order: remove, set the policies, add, let the others send or be sent their routes again."""

    remove: tuple[str, ...] = ()
    policies: bool = False
    add: tuple[Peer, ...] = ()
    reimport: tuple[str, ...] = ()
    reexport: tuple[str, ...] = ()


def compile_speaker(speaker: Speaker) -> Config:
    """Return the configuration that makes gobgpd be `speaker`."""
    route_server = speaker.mode is Mode.TRANSPARENT
    if route_server and speaker.announcements:
        # gobgpd keeps route-server clients in a table of their own that its own routes never reach (osrg/gobgp#1990).
        raise InternalError(f"{speaker.name}: a transparent speaker of gobgpd cannot announce")
    peers = tuple(_peer(neighbor, speaker) for neighbor in speaker.neighbors)
    if len({peer.key for peer in peers}) != len(peers):
        raise InternalError(f"{speaker.name}: two neighbours have one address or one name")
    policies = tuple(_own_policies(speaker) if route_server else _global_policies(speaker))
    digests = {
        "global": digest((speaker.mode, speaker.asn, speaker.router_id, speaker.listen, speaker.port)),
        "policies": digest(policies),
    }
    for peer, neighbor in zip(peers, speaker.neighbors, strict=True):
        digests[f"peer {peer.key}"] = digest(peer)
        digests[f"import {peer.key}"] = digest(neighbor.imports)
        digests[f"export {peer.key}"] = digest((neighbor.exports, neighbor.next_hop_self))
    return Config(speaker.asn, speaker.router_id, speaker.listen, speaker.port, route_server, policies, peers, digests)


def changes(known: Mapping[str, str], present: Iterable[str], wanted: Config) -> Changes:
    """Compare what gobgpd was made (`known` digests, peers and groups `present`) with what it must be.

    What has no digest was being changed when the daemon died: it is made anew.
    """
    here = frozenset(present)
    desired = {peer.key: peer for peer in wanted.peers}

    def differs(kind: str, key: str) -> bool:
        return known.get(f"{kind} {key}") != wanted.digests[f"{kind} {key}"]

    kept = [key for key in desired if key in here and not differs("peer", key)]
    return Changes(
        remove=tuple(sorted(here.difference(kept))),
        policies=known.get("policies") != wanted.digests["policies"],
        add=tuple(peer for key, peer in desired.items() if key not in kept),
        reimport=tuple(key for key in kept if differs("import", key)),
        reexport=tuple(key for key in kept if differs("export", key)),
    )


def digest(value: object) -> str:
    """Return a short digest of a value; equal values have equal digests in every process."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:24]


def key_of(neighbor: Neighbor) -> str:
    """Return what names a neighbour in gobgpd: its address, or the name of the group for a range."""
    return neighbor.name if neighbor.address is None else str(neighbor.address)


def _peer(neighbor: Neighbor, speaker: Speaker) -> Peer:
    if (neighbor.address is None) == (neighbor.range is None):
        raise InternalError(f"{speaker.name}: {neighbor.name} needs either an address or a range")
    key = key_of(neighbor)
    route_server = speaker.mode is Mode.TRANSPARENT
    client: Literal["", "server", "reflector"] = ""
    if route_server:
        client = "server"
    elif speaker.mode is Mode.REFLECTOR and neighbor.asn == speaker.asn:
        client = "reflector"
    return Peer(
        key=key,
        asn=neighbor.asn,
        address=neighbor.address,
        range=neighbor.range,
        local_address=neighbor.local_address,
        families=neighbor.families,
        passive=neighbor.passive,
        hold_time=neighbor.hold_time,
        restart_time=neighbor.restart_time,
        max_prefixes=neighbor.imports.max_prefixes,
        client=client,
        imports=f"{IMPORT} {key}" if route_server else "",
        exports=f"{EXPORT} {key}" if route_server else "",
    )


def _own_policies(speaker: Speaker) -> Iterator[Policy]:
    for neighbor in speaker.neighbors:
        key = key_of(neighbor)
        yield Policy(f"{IMPORT} {key}", tuple(_imports(neighbor.imports, ())))
        yield Policy(f"{EXPORT} {key}", tuple(_exports(neighbor.exports, (), next_hop_self=False)))


def _global_policies(speaker: Speaker) -> Iterator[Policy]:
    imports: list[Statement] = [Statement(accept=True, source="local")]
    for accepted, who in _groups((neighbor, neighbor.imports) for neighbor in speaker.neighbors):
        imports += _imports(accepted, who)
    yield Policy(IMPORT, tuple(imports))
    exports: list[Statement] = []
    settings = (
        (neighbor, (neighbor.exports, neighbor.next_hop_self and neighbor.asn == speaker.asn))
        for neighbor in speaker.neighbors
    )
    for (sent, next_hop_self), who in _groups(settings):
        exports += _exports(sent, who, next_hop_self=next_hop_self)
    yield Policy(EXPORT, tuple(exports))


def _groups(settings: Iterable[tuple[Neighbor, T]]) -> Iterator[tuple[T, tuple[Network, ...]]]:
    """Yield each setting with the neighbours that have it: gobgpd asks the statements one after the other.

    Single neighbours come before ranges and longer ranges before shorter ones: the first that names a neighbour is its.
    """
    single: dict[T, list[Network]] = {}
    ranges: list[tuple[Network, T]] = []
    for neighbor, setting in settings:
        if neighbor.range is not None:
            ranges.append((neighbor.range, setting))
        else:
            single.setdefault(setting, []).append(ip_network(str(neighbor.address)))
    for setting, who in single.items():
        yield setting, tuple(who)
    for network, setting in sorted(ranges, key=lambda item: -item[0].prefixlen):
        yield setting, (network,)


def _imports(policy: ImportPolicy, who: tuple[Network, ...]) -> Iterator[Statement]:
    for prefixes in _by_version(policy.never):
        yield Statement(accept=False, neighbors=who, prefixes=prefixes)
    for as_path in _bad_paths(policy):
        yield Statement(accept=False, neighbors=who, as_path=as_path)
    if policy.first_as is not None:
        # An AS_SET at the beginning names no AS, so it is not the neighbour's.
        yield Statement(accept=False, neighbors=who, as_path=f"^{policy.first_as}( |$)", as_path_inverted=True)
    if policy.refuse_as_set:
        yield Statement(accept=False, neighbors=who, longer_than=policy.max_path_length)
    for prefixes in _by_version(policy.accept):
        yield Statement(accept=True, neighbors=who, prefixes=prefixes, next_hops=policy.next_hops)
    yield Statement(accept=False, neighbors=who)


def _bad_paths(policy: ImportPolicy) -> Iterator[str]:
    """Yield regular expressions over paths as gobgpd writes them: `65001 65002 {65003,65004}`."""
    # AS 0 is in no path (RFC 7607). In brackets, or gobgpd looks for AS 0 itself and finds it in every AS_SET.
    forbidden = "|".join(str(asn) for asn in sorted({*policy.forbidden_as, 0}))
    yield f"_({forbidden})_"
    if policy.refuse_as_set:
        yield r"\{"
    else:
        # gobgpd's own count takes an AS_SET for one; every AS counts here.
        yield f"^([^0-9]*[0-9]+[^0-9]+){{{policy.max_path_length}}}[^0-9]*[0-9]"


def _exports(policy: ExportPolicy, who: tuple[Network, ...], *, next_hop_self: bool) -> Iterator[Statement]:
    for prefixes in _by_version(policy.never):
        yield Statement(accept=False, neighbors=who, prefixes=prefixes)
    for prefixes in _by_version(policy.accept):
        if next_hop_self:
            yield Statement(accept=True, neighbors=who, prefixes=prefixes, source="external", next_hop_self=True)
        yield Statement(accept=True, neighbors=who, prefixes=prefixes)
    yield Statement(accept=False, neighbors=who)


def _by_version(rules: tuple[PrefixRule, ...]) -> Iterator[tuple[PrefixRule, ...]]:
    for version in (4, 6):
        chosen = independent(rule for rule in rules if rule.network.version == version)
        if chosen:
            yield chosen


def independent(rules: Iterable[PrefixRule]) -> tuple[PrefixRule, ...]:
    """Return rules of one IP version that mean the same when only those of the longest matching network are asked."""
    by_network: dict[Network, set[tuple[int, int]]] = {}
    for rule in rules:
        by_network.setdefault(rule.network, set()).add((rule.min_length, rule.max_length))
    lengths = sorted({network.prefixlen for network in by_network})
    return tuple(
        PrefixRule(network, low, high)
        for network in sorted(by_network, key=lambda network: (int(network.network_address), network.prefixlen))
        for low, high in sorted(_inherited(network, by_network, lengths))
    )


def _inherited(
    network: Network, by_network: Mapping[Network, set[tuple[int, int]]], lengths: list[int]
) -> set[tuple[int, int]]:
    bounds: set[tuple[int, int]] = set()
    for length in lengths:
        if length > network.prefixlen:
            break
        for low, high in by_network.get(network.supernet(new_prefix=length), ()):
            low_here = max(low, network.prefixlen)
            if low_here <= high:
                bounds.add((low_here, high))
    return bounds
