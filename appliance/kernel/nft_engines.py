"""What our table holds for flow records, and how it changes: engines, generations, instructions (design 0004).

Pure. `nft` and `nft_records` keep a `Flows` for each namespace and carry a `Bump` out: as text for libnftables where the
table or its sets change too, as nfnetlink messages where nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from appliance.kernel import nft_flows
from appliance.kernel.netlink import Message
from appliance.kernel.nft_flows import DECISION, Stamp, base, words_of
from appliance.kernel.nft_text import TABLE, Statement
from appliance.model.errors import InternalError
from appliance.model.facts import Engine, FlowKey, Instruction, Namespace
from appliance.model.marks import (
    ACTION_MASK,
    ACTION_SHIFT,
    DECIDED,
    DISPATCH,
    INSTRUCTIONS,
    OBJECT_MASK,
    OBJECTS,
    Action,
    engine_chain,
)

#: Digests stand in the comments of rules, which hold 128 octets and no quote.
_POLICY: Final = re.compile(r"[!#-~]{1,100}")
#: The digest of an engine between the transaction that changes sets and the one that bumps it.
UNSETTLED: Final = "unsettled"
_CHAIN: Final = re.compile(r"\bchain\s+engine(\d+)\s*\{")
_MAP: Final = re.compile(rf"\bmap\s+({'|'.join(INSTRUCTIONS.values())})\s*\{{")

#: Gives the generation after that of an engine, or the first one if it has none that is known.
Advance = Callable[[int, int | None], int]


@dataclass(slots=True)
class Flows:
    """What the table of a namespace holds for flow records, kept up to date at the cost of each change.

    `stamps` has every engine whose chain is not empty: None where its rules are not what we write. `words` is what the
    dispatch map does with each word, by engine. `rows` are the words of instructions.
    """

    stamps: dict[int, Stamp | None] = field(default_factory=dict)
    words: dict[int, dict[int, str]] = field(default_factory=dict)
    rows: dict[FlowKey, int] = field(default_factory=dict)

    def generation(self, engine: int) -> int | None:
        """Return the generation of an engine, live or gone; None if it is not known."""
        stamp = self.stamps.get(engine)
        return None if stamp is None else stamp.generation or None

    def live(self, engine: int) -> Stamp | None:
        """Return the stamp of an engine whose chain and words are as they must be."""
        stamp = self.stamps.get(engine)
        if stamp is None or not stamp.policy or self.words.get(engine) != words_of(engine, stamp.generation):
            return None
        return stamp

    def engines(self, ns: Namespace) -> Iterator[Engine]:
        """Yield the engines; one that is not as it must be has no policy, so that it differs from what is wanted."""
        for engine in self.stamps.keys() | self.words.keys():
            stamp, words = self.stamps.get(engine), self.words.get(engine)
            if (live := self.live(engine)) is not None:
                yield Engine(ns, engine, live.policy)
            elif words or (engine in self.stamps and (stamp is None or stamp.policy)):
                yield Engine(ns, engine, "")

    def instructions(self, ns: Namespace) -> Iterator[Instruction]:
        """Yield the instructions."""
        return (instruction(ns, flow, word) for flow, word in self.rows.items())


@dataclass(frozen=True, slots=True)
class Bump:
    """A change of one engine: the stamp that its chain gets, if any; a stamp without policy ends the engine.

    `kept`: the words that stay while the engine is unsettled.
    """

    engine: Engine
    stamp: Stamp | None
    kept: Mapping[int, str] | None = None

    @property
    def words(self) -> dict[int, str]:
        """Return what the dispatch map holds for the engine afterwards."""
        if self.kept is not None:
            return dict(self.kept)
        if self.stamp is None or not self.stamp.policy:
            return {}
        return words_of(self.engine.number, self.stamp.generation)


def bump(flows: Flows, engine: Engine, advance: Advance) -> Bump:
    """Have all flows of an engine judged again, by its policy."""
    if not _POLICY.fullmatch(engine.policy):
        raise InternalError(f"policy {engine.policy!r} of engine {engine.number} fits no comment")
    return Bump(engine, Stamp(advance(engine.number, flows.generation(engine.number)), engine.policy))


def unsettle(flows: Flows, engine: Engine) -> Bump:
    """Say that an engine's flows are judged by no policy that anybody wants, while sets change: it must be bumped next.

    What was judged stays so. An engine that does not live gets no words: each of its packets is judged until the bump.
    """
    kept = {} if flows.live(engine.number) is None else flows.words[engine.number]
    return Bump(engine, Stamp(flows.generation(engine.number) or 0, UNSETTLED), kept)


def end(flows: Flows, engine: Engine, advance: Advance) -> Bump:
    """Take the words of an engine away; its chain keeps the generation, which its next life goes on from."""
    number = engine.number
    if number not in flows.stamps:
        return Bump(engine, None)
    known = flows.generation(number)
    return Bump(engine, Stamp(advance(number, None) if known is None else known, ""))


def messages(flows: Flows, change: Bump) -> list[Message]:
    """Return the messages that carry a change out."""
    number = change.engine.number
    made = [] if change.stamp is None else nft_flows.stamp(number, change.stamp)
    if gone := flows.words.get(number):
        made.append(nft_flows.undispatch(gone))
    if change.words:
        made.append(nft_flows.dispatch(change.words))
    return made


def statement(change: Bump, held: Mapping[int, str] = MappingProxyType({})) -> list[Statement]:
    """Return the text that carries a change out; `held` is what the dispatch map holds for the engine."""
    lines = []
    if change.stamp is not None:
        chain, word = (
            f"{TABLE} {engine_chain(change.engine.number)}",
            base(change.engine.number, change.stamp.generation),
        )
        stamp = f'ct mark set meta mark and 0x{DECISION:08x} or 0x{word:08x} comment "{change.stamp.policy}"'
        lines += [f"flush chain {chain}", f"add rule {chain} {stamp}", f"add rule {chain} goto act"]
    if held == change.words:
        return [Statement("\n".join(lines), change.engine)] if lines else []
    if old := ", ".join(f"0x{word:08x}" for word in held):
        lines.append(f"delete element {TABLE} {DISPATCH} {{ {old} }}")
    if new := ", ".join(f"0x{word:08x} : {verdict}" for word, verdict in change.words.items()):
        lines.append(f"add element {TABLE} {DISPATCH} {{ {new} }}")
    return [Statement("\n".join(lines), change.engine)] if lines else []


def record(flows: Flows, change: Bump) -> None:
    """Remember a change that was carried out."""
    number = change.engine.number
    if change.stamp is not None:
        flows.stamps[number] = change.stamp
    flows.words.pop(number, None)
    if change.words:
        flows.words[number] = change.words


def declared(body: str) -> tuple[frozenset[int], frozenset[int]]:
    """Return the engines whose chains a body declares, and the address families of its maps of instructions."""
    families = {name: version for version, name in INSTRUCTIONS.items()}
    return (
        frozenset(int(number) for number in _CHAIN.findall(body)),
        frozenset(families[name] for name in _MAP.findall(body)),
    )


def word_of(given: Instruction) -> int:
    """Return the word that stands for an instruction."""
    if not 0 <= given.object <= OBJECTS:
        raise InternalError(f"object {given.object} of an instruction is outside 0..{OBJECTS}")
    return DECIDED | given.action << ACTION_SHIFT | given.object


def instruction(ns: Namespace, flow: FlowKey, word: int) -> Instruction:
    """Return what a row says; a word that we never write is an object that nobody asks for."""
    action = (word & ACTION_MASK) >> ACTION_SHIFT
    if word & ~(DECISION | DECIDED) or not word & DECIDED or action not in set(Action):
        return Instruction(ns, flow, Action.DENY, -1)
    return Instruction(ns, flow, Action(action), word & OBJECT_MASK)


def rows_text(ns: Namespace, rows: dict[FlowKey, int], families: Iterable[int]) -> list[Statement]:
    """Return the text that adds rows, in the script in which their maps are declared: there their types are known."""
    made = []
    for version in families:
        elements = ", ".join(_element(flow, word) for flow, word in rows.items() if flow.source.version == version)
        if elements:
            first = next(flow for flow in rows if flow.source.version == version)
            text = f"add element {TABLE} {INSTRUCTIONS[version]} {{ {elements} }}"
            made.append(Statement(text, instruction(ns, first, rows[first])))
    return made


def _element(flow: FlowKey, word: int) -> str:
    """Write a row as nft reads it."""
    one, other = f"{flow.source} . {flow.source_port}", f"{flow.destination} . {flow.destination_port}"
    return f"{flow.zone} . {one} . {other} . {flow.protocol} : 0x{word:08x}"
