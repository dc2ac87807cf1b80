"""What the speakers of a node say while it is drained: nothing that another node says as well (design 0009). Pure.

Gateways and route servers keep no state of flows: their neighbours have the same routes from others, and take those as
soon as these are withdrawn. What a host has is only there: it goes on announcing what it owns. Forwarding is untouched,
so packets that are under way when the withdrawal is heard arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from appliance.model.intent import Intent
from routing.advertise import owns
from routing.bgp.values import ExportPolicy, Family, PrefixRule, Speaker


def drained(intent: Intent, name: str, speakers: Iterable[Speaker]) -> Iterator[Speaker]:
    """Yield the speakers with policies that let out only what this node alone has."""
    alone = () if "route-server" in intent.nodes[name].roles else tuple(_alone(intent, name))
    for speaker in speakers:
        neighbors = tuple(
            replace(neighbor, exports=_of(alone, set(neighbor.families))) for neighbor in speaker.neighbors
        )
        yield replace(speaker, neighbors=neighbors)


def _alone(intent: Intent, name: str) -> Iterator[PrefixRule]:
    public = set(intent.zone.public)
    return (rule for rule in owns(intent, name) if rule.network not in public)


def _of(rules: Iterable[PrefixRule], families: set[Family]) -> ExportPolicy:
    return ExportPolicy(tuple(rule for rule in rules if Family.of(rule.network) in families))
