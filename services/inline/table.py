"""The nft table of a namespace in which engines of an inline edge judge (design 0006; flow records: design 0004).

A frame's mark, set on the port it came in on, tells engine and side; zone and rules follow from it. A flow goes towards
the side that its first packet went to: for a packet of the reply that is the side it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from appliance.model.facts import Engine, Fact, Namespace, NftTable
from appliance.model.inline import Inline, InlineEngine
from appliance.model.marks import SIDE_SOUTH, engine_chain, inline_zone
from services.feature import Chain, EdgeParts
from services.flows import program
from services.inline import rules
from services.inline.names import SIDES, Side

#: Zones are given before the kernel puts fragments together (-400), so that it never joins those of two engines.
ARRIVAL: Final = -450
#: Low bits of a mark that tell the engine: zones of an edge begin at a multiple of 256.
_ENGINE: Final = 0xFF

#: Direction of a packet in its flow, the side it came in on, the side the flow's first packet went to.
_ROADS: Final[tuple[tuple[str, Side, Side], ...]] = (
    ("original", "south", "north"),
    ("original", "north", "south"),
    ("reply", "north", "north"),
    ("reply", "south", "south"),
)

#: What routers say to each other on the wire is neither tracked nor judged: what must have been sent on this wire (hop
#: limit 255) or cannot go beyond the router at its end (1, link-local) is no way in for others. Most packets see six
#: comparisons of this. `notrack` does nothing to a packet that has its zone.
_UNTOUCHED: Final = (
    "ip ttl { 1, 255 } jump near",
    "ip6 hoplimit { 1, 255 } jump near",
    "ip daddr 224.0.0.0/24 notrack accept",
    "ip6 daddr ff02::/16 notrack accept",
    "ip6 saddr fe80::/10 ip6 nexthdr 89 notrack accept",
    # The kernel tracks these never, whatever their hop limit: they would pass as untracked.
    "icmpv6 type { 130-137, 143 } drop",
)
_NEAR: Final = (
    "ip ttl 255 udp dport { 3784, 3785, 4784 } notrack accept",
    "ip6 hoplimit 255 udp dport { 3784, 3785, 4784 } notrack accept",
    "tcp sport 179 notrack accept",
    "tcp dport 179 notrack accept",
    "ip protocol { 2, 89 } notrack accept",
    "ip6 hoplimit 255 icmpv6 type { 133-137 } notrack accept",
    "ip6 hoplimit 1 icmpv6 type { 130-132, 143 } notrack accept",
)


def engine_facts(ns: Namespace, edge: Inline, names: Iterable[str]) -> Iterator[Fact]:
    """Return the table of a namespace and the engines that judge there; the port fills dispatch and stamps."""
    engines = sorted((edge.engines[name] for name in names), key=lambda engine: engine.id)
    parts = EdgeParts.merge(
        (
            program.base(("ct state untracked accept",)),
            EdgeParts(chains=(*_arrival(edge, engines), *program.engines(engine.id for engine in engines))),
            *_judgement(ns, engines),
        )
    )
    yield NftTable(ns, "\n".join([*parts.declarations, *(chain.text for chain in parts.chains)]))
    yield from parts.sets
    for engine in engines:
        yield Engine(ns, engine.id, rules.policy(engine))


def _arrival(edge: Inline, engines: Iterable[InlineEngine]) -> Iterator[Chain]:
    """Let through what routers say to each other; give all else its zone."""
    zones = ", ".join(
        f"{mark:#010x} : {zone}"
        for zone in (inline_zone(edge.id, engine.id) for engine in engines)
        for mark in (zone, zone | SIDE_SOUTH)
    )
    yield Chain("near", _NEAR)
    yield Chain(
        "arrival",
        (*_UNTOUCHED, f"ct zone set meta mark map {{ {zones} }}"),
        f"type filter hook prerouting priority {ARRIVAL}; policy accept",
    )


def _judgement(ns: Namespace, engines: Iterable[InlineEngine]) -> Iterator[EdgeParts]:
    """An index for each road, and the way to it: the mark is read first, for the program uses it for other things."""
    every = tuple(engines)
    table, words = rules.compiled(every), rules.words(every)
    yield program.rules(table, ns)
    for engine in every:
        for toward in SIDES:
            otherwise = f"meta mark set {rules.default(engine, toward):#010x}"
            order = rules.index(engine, toward)
            yield program.index(table, ns, _index(engine, toward), order, words, otherwise)
            yield EdgeParts(chains=(_road(engine, toward),))
    ways = ", ".join(
        f"{direction} . {engine.id | (SIDE_SOUTH if came == 'south' else 0):#010x} : goto {_road(engine, toward).name}"
        for engine in every
        for direction, came, toward in _ROADS
    )
    decide = (f"ct direction . meta mark & {SIDE_SOUTH | _ENGINE:#x} vmap {{ {ways} }}", "drop")
    yield EdgeParts(chains=(Chain("decide", decide),))


def _road(engine: InlineEngine, toward: Side) -> Chain:
    """Ask for an instruction, then the rules; then stamp."""
    stamp = engine_chain(engine.id)
    statements = (
        "meta mark set 0",
        *program.instructions(rules.FAMILIES),
        program.goto_decided(stamp),
        f"jump {_index(engine, toward)}",
        f"goto {stamp}",
    )
    return Chain(f"road{engine.id}_{toward}", statements)


def _index(engine: InlineEngine, toward: Side) -> str:
    return f"index{engine.id}_{toward}"
