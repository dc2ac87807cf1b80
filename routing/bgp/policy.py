"""What is accepted from a neighbour and what may be sent to one: numbered reasons, no I/O.

`judge` and `may_export` are for everybody; who judges many routes one by one keeps an `ImportCheck` per neighbour. Our own
engines judge attributes by it, and packed prefixes by `routing.bgp.filters`, of which this is the reference.
RFC 8212 (nothing without a policy), RFC 7947 and 7948 (route servers), RFC 4271 9, RFC 4456 8, RFC 9774 (no AS_SET).
MAX_PREFIXES is a count and therefore judged by the RIB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from routing.bgp.attributes import Code, has
from routing.bgp.values import (
    Attributes,
    ExportPolicy,
    Neighbor,
    Network,
    PrefixRule,
    Reason,
    SegmentType,
    Speaker,
)

_WIDTH = {4: 32, 6: 128}


class PrefixRules:
    """An index over rules: one dict lookup per distinct length of a rule's network, however many rules there are."""

    __slots__ = ("__weakref__", "_tables", "rules")

    def __init__(self, rules: tuple[PrefixRule, ...]) -> None:
        """Sort the rules by version and length, their networks being the keys."""
        self.rules = rules
        tables: dict[int, dict[int, dict[int, list[tuple[int, int]]]]] = {4: {}, 6: {}}
        for rule in rules:
            length = rule.network.prefixlen
            by_network = tables[rule.network.version].setdefault(length, {})
            by_network.setdefault(int(rule.network.network_address), []).append((rule.min_length, rule.max_length))
        self._tables = {
            version: tuple((length, _mask(version, length), by_network) for length, by_network in sorted(table.items()))
            for version, table in tables.items()
        }

    def match(self, prefix: Network) -> bool:
        """Tell whether any rule covers `prefix`."""
        tables = self._tables[prefix.version]
        if not tables:
            return False
        wanted = prefix.prefixlen
        number = int(prefix.network_address)
        for length, mask, by_network in tables:
            if length > wanted:
                return False
            for low, high in by_network.get(number & mask, ()):
                if low <= wanted <= high:
                    return True
        return False


def _mask(version: int, length: int) -> int:
    width = _WIDTH[version]
    return ((1 << length) - 1) << (width - length)


#: Indexes that somebody has, found by identity: hashing hundreds of networks would cost the gain. An index keeps its rules,
#: so their id is nobody else's as long as it is here.
_indexes: WeakValueDictionary[int, PrefixRules] = WeakValueDictionary()


def _index(rules: tuple[PrefixRule, ...]) -> PrefixRules:
    """Return the index of exactly this tuple."""
    found = _indexes.get(id(rules))
    if found is None or found.rules is not rules:
        found = _indexes[id(rules)] = PrefixRules(rules)
    return found


@dataclass(slots=True)
class ImportCheck:
    """The import side of one neighbour of one speaker."""

    neighbor: Neighbor
    speaker: Speaker
    _forbidden: frozenset[int] = field(init=False)
    _rules: tuple[PrefixRules, PrefixRules] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """AS 0 is in no path (RFC 7607)."""
        self._forbidden = frozenset((*self.neighbor.imports.forbidden_as, 0))

    def prefix(self, prefix: Network) -> Reason | None:
        """Judge the prefix alone: whose is it."""
        policy = self.neighbor.imports
        if self._rules is None:
            self._rules = _index(policy.never), _index(policy.accept)
        never, accept = self._rules
        if never.match(prefix):
            return Reason.BOGON
        if accept.match(prefix):
            return None
        return Reason.NOT_OWNED if policy.accept else Reason.NO_POLICY

    def attributes(self, attributes: Attributes) -> Reason | None:
        """Judge what all prefixes of one attribute set share."""
        return (
            self._path(attributes)
            or self._next_hop(attributes)
            or self._reflection(attributes)
            or self._leak(attributes)
        )

    def _leak(self, attributes: Attributes) -> Reason | None:
        # RFC 9234 5: "If a route with the OTC Attribute is received from a Customer or an RS-Client, then it is a route
        # leak and MUST be considered ineligible".
        return Reason.ROUTE_LEAK if self.neighbor.client and has(attributes, Code.ONLY_TO_CUSTOMER) else None

    def _path(self, attributes: Attributes) -> Reason | None:
        policy = self.neighbor.imports
        path = attributes.as_path
        if policy.refuse_as_set and any(segment.type is SegmentType.SET for segment in path):
            return Reason.AS_SET
        if policy.first_as is not None and _first_as(attributes) != policy.first_as:
            return Reason.FIRST_AS
        asns = attributes.path_asns
        if not self._forbidden.isdisjoint(asns):
            return Reason.FORBIDDEN_AS
        # RFC 4271 9.1.2: "If the AS_PATH attribute of a BGP route contains an AS loop, the BGP route should be
        # excluded". A route server is no exception although it does not add its AS (RFC 7947 2.2.2).
        if self.speaker.asn in asns:
            return Reason.AS_LOOP
        return Reason.PATH_TOO_LONG if len(asns) > policy.max_path_length else None

    def _next_hop(self, attributes: Attributes) -> Reason | None:
        allowed = self.neighbor.imports.next_hops
        if allowed and not any(attributes.next_hop in network for network in allowed):
            return Reason.NEXT_HOP
        return None

    def _reflection(self, attributes: Attributes) -> Reason | None:
        # RFC 4456 8; from an eBGP neighbour both attributes are to be dropped (RFC 7606 7.9), so they loop nowhere.
        if self.neighbor.asn != self.speaker.asn:
            return None
        if attributes.originator_id == self.speaker.router_id:
            return Reason.ORIGINATOR_LOOP
        return Reason.CLUSTER_LOOP if self.speaker.router_id in attributes.cluster_list else None


def _first_as(attributes: Attributes) -> int | None:
    """Return the AS that sent the route; an empty path or one that begins with a set names none."""
    first = attributes.as_path[0] if attributes.as_path else None
    return first.asns[0] if first is not None and first.type is SegmentType.SEQUENCE and first.asns else None


def judge(prefix: Network, attributes: Attributes, neighbor: Neighbor, speaker: Speaker) -> Reason | None:
    """Return why `neighbor` may not announce this route to `speaker`, or None: it is accepted."""
    check = ImportCheck(neighbor, speaker)
    return check.prefix(prefix) or check.attributes(attributes)


def may_export(prefix: Network, policy: ExportPolicy) -> bool:
    """Tell whether the policy lets `prefix` go out; the empty policy lets nothing out (RFC 8212)."""
    return PrefixRules(policy.accept).match(prefix) and not PrefixRules(policy.never).match(prefix)
