"""The rule table: each distinct rule once, the ports that refer to it, and ports with equal indexes as one index group.

Called by whoever knows the ports. A rule is in the table while some port refers to it. Pure: the numbers of groups come
from the content of their indexes, so that a change of one index leaves the others their numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.model.errors import InternalError
from appliance.model.marks import ENGINES
from services.rules.rule import Index, Match, RuleId

#: Names of groups end up as numbers of engines.
_SLOTS: Final = ENGINES


def identity(fields: Mapping[str, object]) -> RuleId:
    """Return the identity of a rule with this content."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """Ports that have the same rules in the same order."""

    number: int
    index: Index
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleTable:
    """Each rule once, who refers to it, and the groups by number."""

    rules: Mapping[RuleId, Match]
    referrers: Mapping[RuleId, frozenset[str]]
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, indexes: Mapping[str, Index], rules: Mapping[RuleId, Match]) -> RuleTable:
        """Make the table for the indexes of all ports."""
        ports: dict[Index, list[str]] = {}
        referrers: dict[RuleId, set[str]] = {}
        for port in sorted(indexes):
            ports.setdefault(_checked(indexes[port], rules), []).append(port)
            for rule in indexes[port]:
                referrers.setdefault(rule, set()).add(port)
        numbers = _numbers(ports)
        return cls(
            {rule: rules[rule] for rule in sorted(referrers)},
            {rule: frozenset(referrers[rule]) for rule in sorted(referrers)},
            tuple(sorted(Group(numbers[index], index, tuple(ports[index])) for index in ports)),
        )

    @property
    def indexes(self) -> tuple[Index, ...]:
        """Return the distinct indexes, in the order of the groups."""
        return tuple(group.index for group in self.groups)

    def references(self, rule: RuleId) -> int:
        """Return how many ports refer to a rule."""
        return len(self.referrers.get(rule, ()))

    def group_of(self, port: str) -> Group:
        """Return the group of a port."""
        for group in self.groups:
            if port in group.ports:
                return group
        raise InternalError(f"port {port} has no index")


def _checked(index: Index, rules: Mapping[RuleId, Match]) -> Index:
    """Refuse what the caller must not give."""
    if missing := [rule for rule in index if rule not in rules]:
        raise InternalError(f"an index has rules that there are not: {', '.join(missing)}")
    if len(set(index)) != len(index):
        raise InternalError("an index has a rule twice")
    return index


def _numbers(indexes: Mapping[Index, object]) -> dict[Index, int]:
    """Number indexes by content; of two that want one number the second takes the next, past the slots if all are taken."""
    wanted = sorted((_digest(index), index) for index in indexes)
    taken: set[int] = set()
    numbers: dict[Index, int] = {}
    for digest, index in wanted:
        number = digest % _SLOTS if len(taken) < _SLOTS else len(taken)
        while number in taken:
            number = (number + 1) % _SLOTS
        taken.add(number)
        numbers[index] = number + 1
    return numbers


def _digest(index: Index) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(index).encode(), digest_size=8).digest())
