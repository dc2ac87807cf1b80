"""The rules of a VPC as values: what each matches, what it decides, and in which order each guest's port has them.

Pure; used by `services.firewall`, which makes the kernel's program of it, and by `edgeway trace` and `show rules`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from appliance.model.intent import Vpc
from appliance.model.marks import Action
from appliance.model.policy import OUTSIDE, TIERS, Rule
from services.flows.program import Rate, word
from services.place import Place
from services.rules.rule import ANY_ADDRESS, ANY_PORT, ANY_PROTOCOL, Match, RuleId, Span, identity, merged

_PROTOCOLS = {"tcp": (6, 6), "udp": (17, 17), "icmp": (1, 1), "any": ANY_PROTOCOL}
_ACTIONS = {
    "allow": Action.ALLOW,
    "deny": Action.DENY,
    "reject": Action.REJECT,
    "redirect": Action.REDIRECT,
    "sample": Action.SAMPLE,
    "limit": Action.LIMIT,
}


@dataclass(frozen=True)
class Policy:
    """Distinct rules by identity, and the index of each guest."""

    rules: Mapping[RuleId, Rule]
    matches: Mapping[RuleId, Match]
    words: Mapping[RuleId, int]
    orders: Mapping[str, tuple[RuleId, ...]]
    rates: tuple[Rate, ...]
    #: Where each rule stands first in the intent.
    places: Mapping[RuleId, int]

    def order(self, guest: str) -> tuple[RuleId, ...]:
        """Return the rules of a guest's port, the first to be asked first."""
        return self.orders[guest]

    @property
    def special(self) -> bool:
        """Tell whether a rule does more than to allow or refuse."""
        return any(rule.action not in {"allow", "deny", "reject"} for rule in self.rules.values())

    @cached_property
    def digest(self) -> Mapping[RuleId, str]:
        """What a rule amounts to now: members of its groups, state of its service node."""
        return {rule: repr((match, self.words[rule])) for rule, match in self.matches.items()}

    def leaves(self, rule: RuleId, guest: IPv4Address) -> bool:
        """Tell whether a rule can match flows from a guest."""
        return any(low <= int(guest) <= high for low, high in self.matches[rule].source)

    def reaches(self, rule: RuleId, guest: IPv4Address) -> bool:
        """Tell whether a rule can match flows to a guest."""
        return any(low <= int(guest) <= high for low, high in self.matches[rule].destination)


def policy(place: Place, vpc: Vpc, nodes_down: frozenset[tuple[str, str]]) -> Policy:
    """Read a VPC's firewall; a service node that is down, or stands on another host, is not redirected to."""
    rules: dict[RuleId, Rule] = {}
    orders: dict[str, dict[RuleId, None]] = {guest: {} for guest in vpc.guests}
    for rule in sorted(vpc.firewall.rules, key=lambda each: TIERS.index(each.tier)):
        name = identity(_fields(rule))
        rules.setdefault(name, rule)
        for guest in _ports_of(vpc, rule):
            orders[guest].setdefault(name)
    rates = _rates(rules.values())
    places = {identity(_fields(rule)): place for place, rule in reversed(list(enumerate(vpc.firewall.rules)))}
    return Policy(
        rules,
        {name: match(vpc, rule) for name, rule in rules.items()},
        {name: _word(place, vpc, rule, rates, nodes_down) for name, rule in rules.items()},
        {guest: tuple(order) for guest, order in orders.items()},
        rates,
        places,
    )


def _fields(rule: Rule) -> Mapping[str, object]:
    """What a rule is, wherever it stands: who has it, and in which tier, belongs to the indexes."""
    return json.loads(rule.model_dump_json(exclude={"applies_to", "tier"}))  # type: ignore[no-any-return]


def _ports_of(vpc: Vpc, rule: Rule) -> Iterator[str]:
    if not rule.applies_to:
        yield from vpc.guests
        return
    for term in rule.applies_to:
        yield from (guest for guest in vpc.groups.get(term, (term,)) if guest in vpc.guests)


def match(vpc: Vpc, rule: Rule) -> Match:
    """Return what a rule matches, in numbers."""
    return Match(
        tuple(_side(vpc, rule.source)),
        tuple(_side(vpc, rule.destination)),
        (_PROTOCOLS[rule.protocol],),
        tuple(map(_port, rule.ports)) or (ANY_PORT,),
    )


def _port(text: str) -> Span:
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _side(vpc: Vpc, terms: tuple[str, ...]) -> Iterator[Span]:
    """Return the spans of one side: none is not anything, but nobody."""
    if not terms:
        yield ANY_ADDRESS[4]
        return
    members = [member for term in terms for member in vpc.groups.get(term, (term,))]
    inside = [IPv4Network(vpc.guests[m].address if m in vpc.guests else m) for m in members if m != OUTSIDE]
    spans = [(int(net.network_address), int(net.broadcast_address)) for net in collapse_addresses(inside)]
    if OUTSIDE in members:
        low, high = int(vpc.subnet.network_address), int(vpc.subnet.broadcast_address)
        spans += [(0, low - 1), (high + 1, ANY_ADDRESS[4][1])]
    yield from merged(spans)


def _rates(rules: Iterable[Rule]) -> tuple[Rate, ...]:
    wanted = sorted({(_ACTIONS[r.action], r.rate) for r in rules if r.rate is not None})
    return tuple(Rate(action, number, rate) for number, (action, rate) in enumerate(wanted, 1))


def _word(place: Place, vpc: Vpc, rule: Rule, rates: tuple[Rate, ...], nodes_down: frozenset[tuple[str, str]]) -> int:
    action = _ACTIONS[rule.action]
    if rule.to is not None:
        node = vpc.service_nodes[rule.to]
        if node.host != place.node:
            return word(Action.ALLOW)
        if (place.vpc, rule.to) in nodes_down:
            return word(_ACTIONS[node.on_failure])
        return word(action, node.id)
    found = next((rate for rate in rates if rate.action is action and rate.rate == rule.rate), None)
    return word(action, found.object if found else 0)
