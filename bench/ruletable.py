"""The rule table of `services.rules` as a ruleset that stands alone: what `bench.rulesets` is measured beside.

The statements are those of a VPC edge (`services.flows.program`), without what remembers decisions: every packet finds
its region and, in the index of the guest that it goes to, what the first rule of the region decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.kernel import nft_text
from appliance.model.facts import HOST, NftSet
from appliance.model.marks import DECIDED, Action
from bench.rulesets import HEAD, Simple, workload
from services.feature import Chain, EdgeParts
from services.flows import program
from services.rules.compile import compile_rules
from services.rules.rule import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

_UDP: Final = (17, 17)
_ANYWHERE: Final = (0, 2**32 - 1)


def edgeway(indexes: Sequence[Sequence[Simple]]) -> str:
    """Write rules once, and the index of each workload; those that are alike share it."""
    orders = [tuple(f"{rule.number:032x}" for rule in index) for index in indexes]
    matches = {f"{rule.number:032x}": _match(rule) for index in indexes for rule in index}
    groups = {order: f"port{number}" for number, order in enumerate(dict.fromkeys(orders))}
    compiled: program.Compiled = {4: compile_rules(matches, tuple(groups))}
    words = dict.fromkeys(matches, program.word(Action.ALLOW))
    ports = frozenset(f"{workload(number)} : jump {groups[order]}" for number, order in enumerate(orders))
    return _text(
        EdgeParts.merge(
            (
                program.rules(compiled, HOST),
                *(program.index(compiled, HOST, name, order, words, "return") for order, name in groups.items()),
                EdgeParts(
                    declarations=("map ports { type ipv4_addr : verdict; }",),
                    chains=(Chain("forward", _FORWARD, HEAD),),
                    sets=(NftSet(HOST, "ports", ports),),
                ),
            )
        )
    )


_FORWARD: Final = (
    "meta mark set 0",
    "ct reply ip saddr vmap @ports",
    f"meta mark & {DECIDED:#x} == {DECIDED:#x} accept",
)


def _match(rule: Simple) -> Match:
    """Return what a rule matches."""
    source = (int(rule.source.network_address), int(rule.source.broadcast_address))
    return Match((source,), (_ANYWHERE,), (_UDP,), ((rule.port, rule.port),))


def _text(parts: EdgeParts) -> str:
    """Write a script of nft as the kernel port would."""
    body = "\n".join([*parts.declarations, *(chain.text for chain in parts.chains)])
    filled = [statement.text for one in parts.sets for statement in nft_text.add(one, one.elements)]
    return "\n".join([f"table {nft_text.TABLE} {{\n{body}\n}}", *filled]) + "\n"
