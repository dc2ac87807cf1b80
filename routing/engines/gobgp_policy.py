"""The policies of one gobgpd, as values: which routes it accepts from whom and sends to whom. Pure.

Called by `gobgp_config`; `routing.bgp.policy` judges the same way. gobgpd looks up a prefix set by its longest network
only, so rules are made independent of one another here (`independent`). Route-server clients have policies of their
own; all other neighbours share the two global ones, in which a statement names the neighbours it is about. Everything
ends in a refusal (RFC 8212).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Network, ip_network
from typing import Final, Literal, TypeVar

from routing.bgp.values import ExportPolicy, ImportPolicy, Mode, Neighbor, Network, PrefixRule, Speaker

T = TypeVar("T", bound=Hashable)

#: Names of the policies of the global table.
IMPORT: Final = "import"
EXPORT: Final = "export"

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


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


def policies(speaker: Speaker) -> tuple[Policy, ...]:
    """Return every policy that gobgpd needs to be `speaker`."""
    return tuple(_own_policies(speaker) if speaker.mode is Mode.TRANSPARENT else _global_policies(speaker))


def statements(neighbor: Neighbor, speaker: Speaker) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
    """Return what gobgpd is told about one neighbour alone: import and export."""
    next_hop_self = neighbor.next_hop_self and neighbor.asn == speaker.asn
    return tuple(_imports(neighbor.imports, ())), tuple(_exports(neighbor.exports, (), next_hop_self=next_hop_self))


def key_of(neighbor: Neighbor) -> str:
    """Return what names a neighbour in gobgpd: its address, or the name of the group for a range."""
    return neighbor.name if neighbor.address is None else str(neighbor.address)


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
    for prefixes in _by_version(_without_mapped(policy.never)):
        yield Statement(accept=False, neighbors=who, prefixes=prefixes)
    for as_path in _bad_paths(policy):
        yield Statement(accept=False, neighbors=who, as_path=as_path)
    if policy.first_as is not None:
        # An AS_SET at the beginning names no AS, so it is not the neighbour's.
        yield Statement(accept=False, neighbors=who, as_path=f"^{policy.first_as}( |$)", as_path_inverted=True)
    if policy.refuse_as_set:
        yield Statement(accept=False, neighbors=who, longer_than=policy.max_path_length)
    for prefixes in _by_version(rule for rule in policy.accept if not _mapped(rule)):
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
    for prefixes in _by_version(_without_mapped(policy.never)):
        yield Statement(accept=False, neighbors=who, prefixes=prefixes)
    for prefixes in _by_version(rule for rule in policy.accept if not _mapped(rule)):
        if next_hop_self:
            yield Statement(accept=True, neighbors=who, prefixes=prefixes, source="external", next_hop_self=True)
        yield Statement(accept=True, neighbors=who, prefixes=prefixes)
    yield Statement(accept=False, neighbors=who)


def _mapped(rule: PrefixRule) -> bool:
    """Tell whether gobgpd would take the rule's network for one of IPv4 (RFC 4291 2.5.5.2), which no one routes."""
    return isinstance(rule.network, IPv6Network) and rule.network.subnet_of(_MAPPED)


def _without_mapped(rules: Iterable[PrefixRule]) -> Iterator[PrefixRule]:
    """Replace what gobgpd cannot be told by the next wider network that it can: good for refusals only."""
    for rule in rules:
        yield PrefixRule(_MAPPED.supernet(), rule.min_length, rule.max_length) if _mapped(rule) else rule


def _by_version(rules: Iterable[PrefixRule]) -> Iterator[tuple[PrefixRule, ...]]:
    listed = tuple(rules)
    for version in (4, 6):
        chosen = independent(tuple(rule for rule in listed if rule.network.version == version))
        if chosen:
            yield chosen


@lru_cache(maxsize=1024)
def independent(rules: tuple[PrefixRule, ...]) -> tuple[PrefixRule, ...]:
    """Return rules of one IP version that mean the same when only those of the longest matching network are asked."""
    # By length and leading bits: making networks of networks would cost ten times as much.
    bounds: dict[tuple[int, int], set[tuple[int, int]]] = {}
    networks: dict[tuple[int, int], Network] = {}
    for rule in rules:
        place = _place(rule.network, rule.network.prefixlen)
        networks[place] = rule.network
        bounds.setdefault(place, set()).add((rule.min_length, rule.max_length))
    lengths = sorted({length for length, _ in networks})
    found = []
    for place in sorted(networks):
        network = networks[place]
        inherited: set[tuple[int, int]] = set()
        for length in lengths:
            if length <= network.prefixlen:
                inherited |= bounds.get(_place(network, length), set())
        clipped = {(max(low, network.prefixlen), high) for low, high in inherited}
        found += [PrefixRule(network, low, high) for low, high in sorted(clipped) if low <= high]
    return tuple(found)


def _place(network: Network, length: int) -> tuple[int, int]:
    return length, int(network.network_address) >> (network.max_prefixlen - length)
