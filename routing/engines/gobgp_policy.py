"""The policies of one gobgpd, as values: which routes it accepts from whom and sends to whom. Pure.

Called by `gobgp_config`; `routing.bgp.policy` judges the same way. gobgpd looks up a prefix set by its longest network
only, so rules are made independent of one another here (`independent`). Route-server clients have policies of their
own; all other neighbours share the two global ones, in which a statement names the neighbours it is about. Everything
ends in a refusal (RFC 8212).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv6Network, ip_network
from typing import Final, Literal, TypeVar

from routing.bgp.values import Address, ExportPolicy, ImportPolicy, Mode, Neighbor, Network, PrefixRule, Speaker
from routing.engines.gobgp_names import Names, key_of

T = TypeVar("T", bound=Hashable)

#: Names of the policies of the global table.
IMPORT: Final = "import"
EXPORT: Final = "export"

_ANY_IPV4: Final = (ip_network("0.0.0.0/0"),)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy: if all conditions given hold, the route is accepted or refused.

    `neighbors` are those that taught the route (import) or would get it (export). `prefixes` are of one IP version.
    `take_back` has the neighbour withdrawn what it may have been sent: gobgpd withdraws a route that became long-lived
    stale from whoever did not negotiate that (RFC 9494 4.3), so the route is marked as such on its way out.
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
    take_back: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A list of statements; the first that decides does, and what none decides is refused."""

    name: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class _Sending:
    """What decides what a neighbour is sent; neighbours of equal ones share statements."""

    policy: ExportPolicy
    next_hop_self: bool
    classic: bool
    taking_back: bool


Excess = Mapping[Address, frozenset[Network]]


def policies(speaker: Speaker, excess: Excess, taking_back: Collection[str] = ()) -> tuple[Policy, ...]:
    """Return every policy that gobgpd needs to be `speaker`.

    `excess` are prefixes above a neighbour's limit. `taking_back` are the keys of neighbours whose new export policy
    may forbid what they were sent: these policies withdraw it, after which they are replaced by those without.
    """
    if speaker.mode is not Mode.TRANSPARENT:
        return tuple(_global_policies(speaker, excess, taking_back))
    return tuple(_own_policies(speaker, excess, taking_back))


def statements(
    neighbor: Neighbor, speaker: Speaker, excess: Excess
) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
    """Return what gobgpd is told about one neighbour alone: import and export."""
    above = _above_limit(neighbor, Names(speaker.neighbors), excess)
    sending = _sending(neighbor, speaker, taking_back=False)
    return (*above, *_imports(neighbor.imports, ())), tuple(_exports(sending, ()))


def _own_policies(speaker: Speaker, excess: Excess, taking_back: Collection[str]) -> Iterator[Policy]:
    names = Names(speaker.neighbors)
    for neighbor in speaker.neighbors:
        key = key_of(neighbor)
        above = _above_limit(neighbor, names, excess)
        yield Policy(f"{IMPORT} {key}", (*above, *_imports(neighbor.imports, ())))
        sending = _sending(neighbor, speaker, taking_back=key in taking_back)
        yield Policy(f"{EXPORT} {key}", tuple(_exports(sending, ())))


def _global_policies(speaker: Speaker, excess: Excess, taking_back: Collection[str]) -> Iterator[Policy]:
    names = Names(speaker.neighbors)
    imports = [Statement(accept=True, source="local")]
    imports += [above for neighbor in speaker.neighbors for above in _above_limit(neighbor, names, excess)]
    for accepted, who in _groups((neighbor, neighbor.imports) for neighbor in speaker.neighbors):
        imports += _imports(accepted, who)
    yield Policy(IMPORT, tuple(imports))
    exports: list[Statement] = []
    settings = (
        (neighbor, _sending(neighbor, speaker, taking_back=key_of(neighbor) in taking_back))
        for neighbor in speaker.neighbors
    )
    for sending, who in _groups(settings):
        exports += _exports(sending, who)
    yield Policy(EXPORT, tuple(exports))


def _sending(neighbor: Neighbor, speaker: Speaker, *, taking_back: bool) -> _Sending:
    transparent = speaker.mode is Mode.TRANSPARENT
    inside = neighbor.asn == speaker.asn
    return _Sending(
        neighbor.exports,
        next_hop_self=neighbor.next_hop_self and inside and not transparent,
        # gobgpd sends IPv6 next hops of IPv4 routes to whoever is there, and who did not negotiate them (RFC 8950)
        # ends the session. Where gobgpd writes its own address, it is one of the session's family.
        classic=not neighbor.extended_next_hop and (transparent or inside),
        taking_back=taking_back,
    )


def _above_limit(neighbor: Neighbor, names: Names, excess: Excess) -> Iterator[Statement]:
    for address in sorted(excess, key=lambda address: (address.version, int(address))):
        if names.neighbor(address) is neighbor:
            rules = (PrefixRule.exact(prefix) for prefix in excess[address])
            for prefixes in _by_version(_without_mapped(rules)):
                yield Statement(accept=False, neighbors=(ip_network(str(address)),), prefixes=prefixes)


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


def _exports(sending: _Sending, who: tuple[Network, ...]) -> Iterator[Statement]:
    refused = partial(Statement, accept=sending.taking_back, take_back=sending.taking_back, neighbors=who)
    for prefixes in _by_version(_without_mapped(sending.policy.never)):
        yield refused(prefixes=prefixes)
    for prefixes in _by_version(rule for rule in sending.policy.accept if not _mapped(rule)):
        if sending.next_hop_self:
            yield Statement(accept=True, neighbors=who, prefixes=prefixes, source="external", next_hop_self=True)
        classic = sending.classic and prefixes[0].network.version == 4  # noqa: PLR2004 - IP version
        yield Statement(accept=True, neighbors=who, prefixes=prefixes, next_hops=_ANY_IPV4 if classic else ())
    yield refused()


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
