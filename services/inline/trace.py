"""What an engine of an inline edge says to one flow: its rules one after the other. Pure.

The second reading of what `services.inline.table` writes for the kernel; `appliance.control.inline_trace` asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.model.facts import FlowKey
from appliance.model.inline import InlineEngine, InlineRule
from appliance.model.marks import ACTION_MASK, ACTION_SHIFT, Action
from services.inline.names import Side
from services.inline.rules import default, index, match, rule_id, words
from services.rules.rule import Packet, RuleId

_ICMP = frozenset({1, 58})


@dataclass(frozen=True, slots=True)
class Said:
    """What is decided: by the rule that matched and its place in the road's order from 1, or by the default."""

    action: Action
    identity: RuleId | None = None
    position: int | None = None
    rule: InlineRule | None = None


def ask(engine: InlineEngine, toward: Side, key: FlowKey) -> Said:
    """Judge a flow whose first packet goes towards a side."""
    port = key.source_port if key.protocol in _ICMP else key.destination_port
    packet = Packet(int(key.source), int(key.destination), key.protocol, port)
    rules, decided = {rule_id(rule): rule for rule in engine.rules}, words((engine,))
    for position, identity in enumerate(index(engine, toward), 1):
        if _covers(rules[identity], packet, key.source.version):
            return Said(_action(decided[identity]), identity, position, rules[identity])
    return Said(_action(default(engine, toward)))


def _covers(rule: InlineRule, packet: Packet, version: int) -> bool:
    """Tell whether a rule matches; one with networks is of their family only."""
    if any(network.version != version for network in (*rule.source, *rule.destination)):
        return False
    return match(rule, 4 if version == 4 else 6).covers(packet)  # noqa: PLR2004 - the IP version


def _action(word: int) -> Action:
    return Action((word & ACTION_MASK) >> ACTION_SHIFT)


def rule_text(rule: InlineRule) -> str:
    """Write a rule as one line."""
    words_: list[str] = [rule.action]
    words_ += [rule.protocol] if rule.protocol != "any" else []
    words_ += ["toward", rule.toward] if rule.toward != "any" else []
    for word, networks in (("from", rule.source), ("to", rule.destination)):
        words_ += [word, ",".join(map(str, networks))] if networks else []
    words_ += ["ports", ",".join(rule.ports)] if rule.ports else []
    return " ".join(words_) if len(words_) > 1 else f"{rule.action} anything"
