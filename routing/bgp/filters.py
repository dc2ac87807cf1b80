"""Prefix rules of policies as filters over packed NLRI: one filter for everybody who has the same rules.

Called by `peers` (import) and `audiences` (export). Pure. Rules that came from one text are mostly one object, so they are found
by identity first: hashing hundreds of networks for each neighbour would cost more than the rest of a reload.
"""

from __future__ import annotations

from routing.bgp.hot import PrefixFilter
from routing.bgp.nlri import WIDTHS, rules_of
from routing.bgp.values import ExportPolicy, Family, PrefixRule

Rules = tuple[PrefixRule, ...]


class Filters:
    """Filters made lately, by their rules."""

    LIMIT = 1 << 14

    def __init__(self) -> None:
        """Start with none."""
        # The rules are kept with the filter, so that their id cannot be given to others.
        self._by_id: dict[tuple[int, Family], tuple[Rules, PrefixFilter]] = {}
        self._by_rules: dict[tuple[Rules, Family], PrefixFilter] = {}

    def of(self, rules: Rules, family: Family) -> PrefixFilter:
        """Return the filter of these rules."""
        known = self._by_id.get((id(rules), family))
        if known is not None:
            return known[1]
        if len(self._by_id) >= self.LIMIT:
            self._by_id, self._by_rules = {}, {}
        found = self._by_rules.get((rules, family))
        if found is None:
            found = self._by_rules[rules, family] = PrefixFilter(WIDTHS[family], rules_of(rules, family))
        self._by_id[id(rules), family] = rules, found
        return found


_filters = Filters()
prefix_filter = _filters.of


class ExportFilter:
    """An export policy, compiled; the empty one lets nothing out (RFC 8212).

    `key` is what policies have in common that let out the same.
    """

    __slots__ = ("_accept", "_never", "key")

    def __init__(self, policy: ExportPolicy) -> None:
        """Compile it."""
        self._accept = {family: prefix_filter(policy.accept, family) for family in Family}
        self._never = {family: prefix_filter(policy.never, family) for family in Family}
        self.key = (*self._accept.values(), *self._never.values())

    def allowed(self, family: Family, nlri: bytes) -> bytes:
        """Return the prefixes that may go out; the same object if all may."""
        accept, never = self._accept[family], self._never[family]
        if accept.covers_all(nlri) and never.covers_none(nlri):
            return nlri
        return never.split(accept.split(nlri)[0])[1]
