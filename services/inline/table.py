"""The nft table of a namespace in which engines of an inline edge judge (design 0006; flow records: design 0004).

A frame's mark, set on the port it came in on, tells engine and side; zone and rules follow from it. The direction of a
flow is the side its first packet came from: of a reply it is the other one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from ipaddress import collapse_addresses
from typing import Final

from appliance.model.facts import Engine, Fact, Namespace, Network, NftTable
from appliance.model.inline import Inline, InlineEngine, InlineRule
from appliance.model.marks import (
    ACTION_MASK,
    ACTION_SHIFT,
    DECIDED,
    DISPATCH,
    JUDGED_MASK,
    SIDE_SOUTH,
    VERDICTS,
    Action,
    engine_chain,
    inline_zone,
)
from services.inline.names import SIDES, Side

#: Zones are given before the kernel puts fragments together (-400), so that it never joins those of two engines.
ARRIVAL: Final = -450
JUDGEMENT: Final = -90

#: Direction of a packet in its flow, the side it came in on, the side the flow's first packet went to.
_ROADS: Final[tuple[tuple[str, Side, Side], ...]] = (
    ("original", "south", "north"),
    ("original", "north", "south"),
    ("reply", "north", "north"),
    ("reply", "south", "south"),
)
_ACTION: Final = {"allow": Action.ALLOW, "deny": Action.DENY, "reject": Action.REJECT}
_PROTOCOL: Final = {"tcp": "6", "udp": "17", "icmp": "{ 1, 58 }"}
#: nft 1.0.6 wants a protocol with ports before `proto-dst`; the port is that of the flow, whatever the packet is.
_ANY_PROTOCOL: Final = "meta l4proto { tcp, 0-5, 7-255 }"

#: What routers say to each other on the wire is neither tracked nor judged: what must have been sent on this wire (hop
#: limit 255) or cannot go beyond the router at its end (1, link-local) is no way in for others. Most packets see four
#: comparisons of this.
_UNTOUCHED: Final = (
    "ip ttl { 1, 255 } jump near",
    "ip6 hoplimit { 1, 255 } jump near",
    "ip daddr 224.0.0.0/24 notrack accept",
    "ip6 daddr ff02::/16 notrack accept",
    "ip6 saddr fe80::/10 ip6 nexthdr 89 notrack accept",
)
_NEAR: Final = (
    "ip ttl 255 udp dport { 3784, 3785, 4784 } notrack accept",
    "ip6 hoplimit 255 udp dport { 3784, 3785, 4784 } notrack accept",
    "tcp sport 179 notrack accept",
    "tcp dport 179 notrack accept",
    "ip protocol 89 notrack accept",
    "ip6 hoplimit 255 icmpv6 type { 133-137 } notrack accept",
)


def engine_facts(ns: Namespace, edge: Inline, engines: tuple[str, ...]) -> Iterator[Fact]:
    """Return the table of a namespace and the engines that judge there; the port fills dispatch and stamps."""
    here = {name: edge.engines[name] for name in engines}
    yield NftTable(ns, body(edge, here.values()))
    for engine in here.values():
        yield Engine(ns, engine.id, policy(engine))


def policy(engine: InlineEngine) -> str:
    """Return the digest of all that can change a verdict of the engine's flows."""
    return hashlib.blake2b(engine.model_dump_json().encode(), digest_size=16).hexdigest()


def body(edge: Inline, engines: Iterable[InlineEngine]) -> str:
    """Write the table."""
    engines = sorted(engines, key=lambda engine: engine.id)
    zones = ", ".join(
        f"0x{mark:08x} : {zone}"
        for zone in (inline_zone(edge.id, engine.id) for engine in engines)
        for mark in (zone, zone | SIDE_SOUTH)
    )
    lines = [
        f"map {DISPATCH} {{ type mark : verdict; }}",
        _chain("near", *_NEAR),
        _chain(
            "arrival",
            f"type filter hook prerouting priority {ARRIVAL}; policy accept;",
            *_UNTOUCHED,
            f"ct zone set meta mark map {{ {zones} }}",
        ),
        # In the words of the other end, port and MAC too; nobody here has an address to send an ICMP error from.
        _chain("do_reject", "meta l4proto tcp reject with tcp reset", "drop"),
        *(_chain(chain, "accept") for chain in ("do_redirect", "do_sample", "do_limit")),
        _chain("act", f"ct mark & 0x{ACTION_MASK:08x} vmap {{ {_acts()} }}"),
    ]
    for engine in engines:
        lines.append(_chain(engine_chain(engine.id)))
        lines += (_chain(_rules_chain(engine, side), *_rules(engine, side)) for side in SIDES)
    return "\n".join([*lines, _judge(engines)])


def _judge(engines: Iterable[InlineEngine]) -> str:
    """Write the one chain that every packet sees: known flows first, then the rules for where the flow began."""
    roads = ", ".join(
        f"{direction} . 0x{engine.id | (SIDE_SOUTH if came == 'south' else 0):08x} : goto {_rules_chain(engine, toward)}"
        for engine in engines
        for direction, came, toward in _ROADS
    )
    return _chain(
        "judge",
        f"type filter hook prerouting priority {JUDGEMENT}; policy drop;",
        f"ct mark & 0x{JUDGED_MASK:08x} vmap @{DISPATCH}",
        "ct state untracked accept",
        "ct state invalid drop",
        f"ct direction . meta mark & 0x{SIDE_SOUTH | 0xFF:08x} vmap {{ {roads} }}",
    )


def _rules_chain(engine: InlineEngine, toward: Side) -> str:
    return f"rules{engine.id}_{toward}"


def _rules(engine: InlineEngine, toward: Side) -> Iterator[str]:
    for rule in engine.rules:
        if rule.toward in ("any", toward):
            yield from (f"{match}{_decide(engine, _ACTION[rule.action])}" for match in _matches(rule))
    default = engine.northward if toward == "north" else engine.southward
    yield _decide(engine, _ACTION[default])


def _decide(engine: InlineEngine, action: Action) -> str:
    return f"meta mark set 0x{DECIDED | action << ACTION_SHIFT:08x} goto {engine_chain(engine.id)}"


def _matches(rule: InlineRule) -> Iterator[str]:
    """Yield the rule's conditions, read from the flow's own tuple, for each family it can be of."""
    versions = {network.version for network in (*rule.source, *rule.destination)}
    for word in [{4: "ip", 6: "ip6"}[version] for version in sorted(versions)] or [""]:
        terms = [*_networks(word, "saddr", rule.source), *_networks(word, "daddr", rule.destination)]
        if rule.protocol != "any":
            terms.append(f"ct original protocol {_PROTOCOL[rule.protocol]}")
        if rule.ports:
            ports = ", ".join("-".join(str(int(end)) for end in text.split("-")) for text in rule.ports)
            terms.append(f"{_ANY_PROTOCOL} ct original proto-dst {{ {ports} }}")
        yield "".join(f"{term} " for term in terms)


def _networks(word: str, field: str, networks: tuple[Network, ...]) -> Iterator[str]:
    if networks:
        merged = collapse_addresses(networks)  # type: ignore[type-var] # of one family: verify_inline
        yield f"ct original {word} {field} {{ {', '.join(map(str, merged))} }}"


def _acts() -> str:
    return ", ".join(f"0x{action << ACTION_SHIFT:08x} : {verdict}" for action, verdict in VERDICTS.items())


def _chain(name: str, *statements: str) -> str:
    return "\n".join([f"chain {name} {{", *(f"  {statement}" for statement in statements), "}"])
