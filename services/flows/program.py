"""The nft program that judges flows (design 0004): pieces of text, put together by VPC edges and inline edges.

The kernel port fills `dispatch`, the instruction maps and the chains `engineN`; here stands what surrounds them. The
packet mark is the register that pieces pass values in: a decided word has bit 31 set and holds action and object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from appliance.model.facts import Namespace, NftSet
from appliance.model.marks import (
    ACTION_MASK,
    ACTION_SHIFT,
    DECIDED,
    DISPATCH,
    GENERATION_MASK,
    INSTRUCTIONS,
    JUDGED_MASK,
    OBJECT_MASK,
    STEER,
    VERDICTS,
    Action,
    engine_chain,
)
from services.feature import Chain, EdgeParts
from services.rules.compile import Stages
from services.rules.elements import declaration, elements, fields, lookups
from services.rules.rule import Family, RuleId

#: After destination translation, before routing.
JUDGE_HOOK = "type filter hook prerouting priority dstnat + 10; policy drop"
#: Words in the dispatch map: engines times actions, with room; a fixed size makes the quicker kind of hash.
DISPATCH_SIZE = 2048
#: Group to which the kernel copies sampled packets (NFLOG), and octets of each.
SAMPLE_GROUP, SAMPLE_LENGTH = 4793, 128
#: Least number of engines for which a table has chains: it is made anew only when twice as many are needed.
LEAST_ENGINES = 4

_TUPLE = "ct zone . ct original {ip} saddr . ct original proto-src . ct original {ip} daddr . ct original proto-dst"
_NAMES = {4: "ip", 6: "ip6"}
#: Every protocol, in words behind which nft 1.0.6 knows that `proto-src` is a port.
_ANY_PROTOCOL = "meta l4proto { tcp, 0-5, 7-255 }"
COUNTERS = ("rechecked", "invalid", "denied", "rejected", "redirected", "spoofed", "unmatched")


@dataclass(frozen=True, slots=True)
class Rate:
    """What `object` of LIMIT and SAMPLE stands for: packets a second, or one packet of so many."""

    action: Action
    object: int
    rate: int


def word(action: Action, obj: int = 0) -> int:
    """Return a decided word."""
    return DECIDED | action << ACTION_SHIFT | obj


def room(engines: int) -> int:
    """Return for how many engines a table should have chains."""
    return max(LEAST_ENGINES, 1 << (engines - 1).bit_length())


def base(slow: Iterable[str], rates: Iterable[Rate] = (), links: bool = False) -> EdgeParts:  # noqa: FBT001, FBT002
    """Return what every program has; `slow` decides about what the fast path does not know, and goes on to `decide`.

    `links` tells that there are service nodes: their devices are in the set `service_links`.
    """
    every = tuple(rates)
    return EdgeParts(
        declarations=(
            f"map {DISPATCH} {{ type mark : verdict; size {DISPATCH_SIZE}; }}",
            *(f"map {INSTRUCTIONS[family]} {{ {_instruction_type(family)} : meta mark; }}" for family in INSTRUCTIONS),
            *(f"counter {name} {{ }}" for name in COUNTERS),
            *(("set service_links { type ifname; }",) if links else ()),
        ),
        chains=(
            *_actions(every, links=links),
            Chain("act", (f"meta mark & {ACTION_MASK:#x} vmap {{ {_verdicts()} }}", "drop")),
            Chain(
                "judge",
                (
                    f"ct mark & {JUDGED_MASK:#x} vmap @{DISPATCH}",
                    "ct state invalid counter name invalid drop",
                    *slow,
                    f"ct mark & {GENERATION_MASK:#x} != 0 counter name rechecked",
                    "goto decide",
                ),
                JUDGE_HOOK,
            ),
        ),
    )


def _instruction_type(family: int) -> str:
    ip = _NAMES[family]
    return f"typeof ct zone . {ip} saddr . tcp sport . {ip} daddr . tcp dport . meta l4proto"


def _verdicts() -> str:
    verdicts = VERDICTS | {Action.ALLOW: "goto do_allow", Action.DENY: "goto do_deny"}
    return ", ".join(f"{action << ACTION_SHIFT:#x} : {verdict}" for action, verdict in verdicts.items())


def _actions(rates: tuple[Rate, ...], *, links: bool) -> Iterator[Chain]:
    """What becomes of a judged flow's packet; the packet mark is ours no longer when it leaves."""
    allow = "meta mark set 0 accept"
    yield Chain("do_allow", (allow,))
    yield Chain("do_deny", ("counter name denied drop",))
    yield Chain(
        "do_reject",
        ("counter name rejected", "meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"),
    )
    steer = f"meta mark set ct mark & {OBJECT_MASK:#x} | {STEER:#x} counter name redirected accept"
    # What comes from a service node has been there, and goes on.
    yield Chain("do_redirect", (f"iifname @service_links {allow}", steer) if links else (allow,))
    yield Chain("do_sample", (*_rated(Action.SAMPLE, rates), allow))
    yield Chain("do_limit", (*_rated(Action.LIMIT, rates), allow))


def _rated(action: Action, rates: tuple[Rate, ...]) -> Iterator[str]:
    for rate in (each for each in rates if each.action is action):
        match = f"ct mark & {OBJECT_MASK:#x} == {rate.object:#x}"
        if action is Action.SAMPLE:
            yield f"{match} numgen inc mod {rate.rate} 0 log group {SAMPLE_GROUP} snaplen {SAMPLE_LENGTH}"
        else:
            yield f"{match} limit rate over {rate.rate}/second burst {rate.rate} packets counter name denied drop"


def instructions(families: Iterable[int] = (4,)) -> tuple[str, ...]:
    """Look the flow's instruction up: leaves its word in the packet mark, which must be zero before.

    What is looked up is the record's tuple and protocol, so an error message finds the instruction of the flow that it
    is about.
    """
    return tuple(
        f"{_ANY_PROTOCOL} meta mark set {_TUPLE.format(ip=_NAMES[family])} . ct original protocol"
        f" map @{INSTRUCTIONS[family]}"
        for family in families
    )


#: Leave a chain with what was decided.
RETURN_DECIDED = f"meta mark & {DECIDED:#x} == {DECIDED:#x} return"


def goto_decided(chain: str) -> str:
    """Go on elsewhere once something is decided."""
    return f"meta mark & {DECIDED:#x} == {DECIDED:#x} goto {chain}"


def engines(numbers: Iterable[int]) -> tuple[Chain, ...]:
    """Return the chains that the kernel port fills."""
    return tuple(Chain(engine_chain(number)) for number in numbers)


Compiled = Mapping[Family, Stages]


def rules(compiled: Compiled, ns: Namespace) -> EdgeParts:
    """Return the shared rule table: the maps of regions of every family and stage."""
    named = [
        (name, stage, family)
        for family, stages in compiled.items()
        for name, stage in zip(_names("regions", family, stages), stages.stages, strict=True)
    ]
    return EdgeParts(
        declarations=tuple(declaration(stage, name, family) for name, stage, family in named),
        sets=tuple(NftSet(ns, name, frozenset(elements(stage, family))) for name, stage, family in named),
    )


def index(
    compiled: Compiled, ns: Namespace, name: str, order: tuple[RuleId, ...], words: Mapping[RuleId, int], default: str
) -> EdgeParts:
    """Return the index `name`: a chain to jump to, which returns with a decided word in the packet mark.

    `order` are the rules of the index, `words` what each decides; without a rule `default` is done.
    """
    statements: list[str] = []
    declarations, sets = [], []
    for family, stages in compiled.items():
        for regions, verdicts, stage in zip(
            _names("regions", family, stages), _names(name, family, stages), stages.stages, strict=True
        ):
            statements += ["meta mark set 0", *lookups(stage, regions, family)]
            statements += [f"meta mark set meta mark map @{verdicts}", RETURN_DECIDED]
            declarations.append(f"map {verdicts} {{ type mark : mark; }}")
            sets.append(NftSet(ns, verdicts, _decided(stage.sets, order, words)))
    return EdgeParts(declarations=tuple(declarations), chains=(Chain(name, (*statements, default)),), sets=tuple(sets))


def _decided(
    sets: Mapping[int, Iterable[RuleId]], order: tuple[RuleId, ...], words: Mapping[RuleId, int]
) -> frozenset[str]:
    place = {rule: position for position, rule in enumerate(order)}
    found = set()
    for number, members in sets.items():
        first = min((place[rule] for rule in members if rule in place), default=None)
        if first is not None:
            found.add(f"{number:#010x} : {words[order[first]]:#010x}")
    return frozenset(found)


def _names(prefix: str, family: Family, stages: Stages) -> list[str]:
    """Name the maps of the stages.

    Where a stage comes, goes or looks at other fields all names are others: the old maps stay until no packet goes by the
    rules that look there (design 0004).
    """
    shape = "; ".join(" ".join(fields(stage, family)) for stage in stages.stages)
    mark = hashlib.blake2b(shape.encode(), digest_size=2).hexdigest()
    return [f"{prefix}_{family}_{mark}_{place}" for place in range(len(stages.stages))]
