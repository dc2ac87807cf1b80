"""The rules of inline engines as values: what each matches in either family, and in which order each road has them.

A road is an engine and the side that a flow's first packet goes to: it has an index of its own (design 0004). Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from ipaddress import collapse_addresses
from typing import Final

from appliance.model.facts import Network
from appliance.model.inline import InlineEngine, InlineRule
from appliance.model.marks import Action
from services.flows.program import Compiled, word
from services.inline.names import SIDES, Side
from services.rules.compile import compile_rules
from services.rules.rule import ANY_ADDRESS, ANY_PORT, ANY_PROTOCOL, Family, Index, Match, RuleId, Span, identity

FAMILIES: Final[tuple[Family, ...]] = (4, 6)
_PROTOCOLS: Final[Mapping[str, Mapping[Family, Span]]] = {
    "any": dict.fromkeys(FAMILIES, ANY_PROTOCOL),
    "tcp": dict.fromkeys(FAMILIES, (6, 6)),
    "udp": dict.fromkeys(FAMILIES, (17, 17)),
    "icmp": {4: (1, 1), 6: (58, 58)},
}
_ACTIONS: Final = {"allow": Action.ALLOW, "deny": Action.DENY, "reject": Action.REJECT}


def rule_id(rule: InlineRule) -> RuleId:
    """Return a rule's identity: what it is, wherever it stands and whichever way it looks."""
    return identity(json.loads(rule.model_dump_json(exclude={"toward"})))


def index(engine: InlineEngine, toward: Side) -> Index:
    """Return the rules of a road, the first to be asked first, each once."""
    return tuple(dict.fromkeys(rule_id(rule) for rule in engine.rules if rule.toward in ("any", toward)))


def words(engines: Iterable[InlineEngine]) -> dict[RuleId, int]:
    """Return what each rule decides."""
    return {rule_id(rule): word(_ACTIONS[rule.action]) for engine in engines for rule in engine.rules}


def default(engine: InlineEngine, toward: Side) -> int:
    """Return what is decided when no rule of a road matches."""
    return word(_ACTIONS[engine.northward if toward == "north" else engine.southward])


def compiled(engines: Iterable[InlineEngine]) -> Compiled:
    """Compile the rules of engines that judge in one namespace, for both families."""
    every = tuple(engines)
    orders = tuple(index(engine, toward) for engine in every for toward in SIDES)
    made = {}
    for family in FAMILIES:
        matches = {
            rule_id(rule): match(rule, family)
            for engine in every
            for rule in engine.rules
            if _version(rule) in (None, family)
        }
        made[family] = compile_rules(matches, tuple(tuple(r for r in order if r in matches) for order in orders))
    return made


def match(rule: InlineRule, family: Family) -> Match:
    """Return what a rule matches, in numbers."""
    return Match(
        _addresses(rule.source, family),
        _addresses(rule.destination, family),
        (_PROTOCOLS[rule.protocol][family],),
        tuple(map(_port, rule.ports)) or (ANY_PORT,),
    )


def policy(engine: InlineEngine) -> str:
    """Return the digest of all that can change a verdict of the engine's flows."""
    return hashlib.blake2b(engine.model_dump_json().encode(), digest_size=12).hexdigest()


def _version(rule: InlineRule) -> int | None:
    """Return the one family that a rule is of (`verify_inline`), None if it is of both."""
    return next((network.version for network in (*rule.source, *rule.destination)), None)


def _addresses(networks: tuple[Network, ...], family: Family) -> tuple[Span, ...]:
    if not networks:
        return (ANY_ADDRESS[family],)
    merged = collapse_addresses(networks)  # type: ignore[type-var] # all of one family
    return tuple((int(network.network_address), int(network.broadcast_address)) for network in merged)


def _port(text: str) -> Span:
    low, _, high = text.partition("-")
    return int(low), int(high or low)
