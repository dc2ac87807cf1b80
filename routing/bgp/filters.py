"""Prefix rules of policies as filters over packed NLRI: one filter for everybody who has the same rules.

Called by `peers` (import) and `audiences` (export), which own the filters: one that nobody has any more is gone, and its rules
with it. Pure. Rules that came from one text are mostly one object, so they are found by identity first: hashing hundreds of
networks for each neighbour would cost more than the rest of a reload.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from routing.bgp.hot import PrefixFilter
from routing.bgp.nlri import WIDTHS, rules_of
from routing.bgp.values import ExportPolicy, Family, PrefixRule

Rules = tuple[PrefixRule, ...]


class RuleFilter:
    """The filter of some rules in one family; `rules` are those by whose identity it is found."""

    __slots__ = ("__weakref__", "covers_all", "covers_none", "rules", "split")

    def __init__(self, rules: Rules, family: Family) -> None:
        """Compile it."""
        made = PrefixFilter(WIDTHS[family], rules_of(rules, family))
        self.rules, self.split, self.covers_all, self.covers_none = rules, made.split, made.covers_all, made.covers_none


class Filters:
    """The filters that somebody has, by their rules."""

    def __init__(self) -> None:
        """Start with none."""
        # A filter keeps the rules by whose id it is known, so that the id is nobody else's as long as it is known.
        self._by_id: WeakValueDictionary[tuple[int, Family], RuleFilter] = WeakValueDictionary()
        self._by_rules: WeakValueDictionary[tuple[Rules, Family], RuleFilter] = WeakValueDictionary()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_rules)

    def of(self, rules: Rules, family: Family) -> RuleFilter:
        """Return the filter of these rules."""
        found = self._by_id.get((id(rules), family))
        if found is not None and found.rules is rules:
            return found
        found = self._by_rules.get((rules, family))
        if found is None:
            found = self._by_rules[rules, family] = RuleFilter(rules, family)
        else:
            # Who has the same in another object is many, or comes after those who had the first one.
            self._by_id.pop((id(found.rules), family), None)
            found.rules = rules
        self._by_id[id(rules), family] = found
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
