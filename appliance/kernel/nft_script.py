"""The changes of a namespace's table as one script for libnftables, and what will be held afterwards.

Pure; `nft` runs the script. The engines whose flows are judged by the sets are bumped afterwards, in a transaction of
their own: the kernel shows rules and hashed sets at one moment, and sets of intervals a little later (design 0004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from appliance.kernel import nft_engines, nft_text
from appliance.kernel.nft_engines import Advance, Bump, Flows
from appliance.kernel.nft_text import Statement
from appliance.model.facts import Engine, FlowKey, Instruction, Namespace, NftSet, NftTable
from appliance.state.diff import Change

Fact = NftTable | NftSet | Engine | Instruction


@dataclass(frozen=True, slots=True)
class Held:
    """What a namespace holds at a generation of its ruleset; no table: no comment, no sets."""

    generation: int
    table: NftTable | None
    sets: Mapping[str, nft_text.Elements]
    hash: str = ""
    flows: Flows = field(default_factory=Flows)


@dataclass(frozen=True, slots=True)
class Script:
    """What to run, what is held afterwards (engines: after `bumps`), and the changes of engines that must follow."""

    statements: Sequence[Statement]
    after: Held
    bumps: Sequence[Bump] = ()
    follow: Sequence[Change[Fact]] = ()


def script(ns: Namespace, held: Held, changes: Sequence[Change[Fact]], advance: Advance) -> Script:
    """Return what leads from what is held to what is wanted; instructions only where the table is made anew."""
    table, sets, statements = _structure(held, changes)
    after = replace(held, table=table, sets=sets)
    if table is None and held.table is not None:
        gone = Statement(nft_text.remove(), held.table)
        return Script([gone], Held(held.generation, None, {}))
    if table is not None and table != held.table:
        return _anew(ns, replace(after, table=table), table, changes, advance)
    follow = [change for change in changes if isinstance(change.fact, Engine)]
    bumps = [nft_engines.unsettle(held.flows, change.new) for change in follow if isinstance(change.new, Engine)]
    for bump in bumps:
        statements += nft_engines.statement(bump, held.flows.words.get(bump.engine.number, {}))
    return Script(statements, after, bumps, follow)


def _structure(
    held: Held, changes: Sequence[Change[Fact]]
) -> tuple[NftTable | None, dict[str, nft_text.Elements], list[Statement]]:
    """Return the table and sets of afterwards, and the changes of elements."""
    table, sets = held.table, dict(held.sets)
    statements: list[Statement] = []
    for change in changes:
        fact = change.fact
        if isinstance(fact, NftTable):
            table = change.new if isinstance(change.new, NftTable) else None
        elif isinstance(fact, NftSet):
            old = sets.pop(fact.name, frozenset())
            new = fact.elements if change.new is not None else frozenset()
            statements += nft_text.subtract(fact, old - new) + nft_text.add(fact, new - old)
            sets[fact.name] = new
    return table, sets, statements


def _anew(ns: Namespace, after: Held, table: NftTable, changes: Sequence[Change[Fact]], advance: Advance) -> Script:
    """Make the table with all that it holds; every engine is bumped afterwards, for its rules may be others."""
    engines, families = nft_engines.declared(table.body)
    statements = [nft_text.table(table)]
    for name, elements in after.sets.items():
        statements += nft_text.add(NftSet(ns, name, elements), elements)
    statements += nft_engines.rows_text(ns, _rows(after.flows.rows, changes), sorted(families))
    wanted = _engines(ns, after.flows, changes)
    gone = [Engine(ns, number, "") for number in after.flows.stamps.keys() - wanted.keys() if number in engines]
    for bump in (
        *(nft_engines.unsettle(after.flows, engine) for engine in wanted.values()),
        *(nft_engines.end(after.flows, engine, advance) for engine in gone),
    ):
        statements += nft_engines.statement(bump)
    return Script(statements, after, (), [Change("update", None, engine) for engine in wanted.values()])


def _rows(rows: Mapping[FlowKey, int], changes: Sequence[Change[Fact]]) -> dict[FlowKey, int]:
    """Return the instructions of afterwards."""
    made = dict(rows)
    for change in changes:
        if isinstance(change.fact, Instruction):
            made.pop(change.fact.flow, None)
            if change.new is not None:
                made[change.fact.flow] = nft_engines.word_of(change.fact)
    return made


def _engines(ns: Namespace, flows: Flows, changes: Sequence[Change[Fact]]) -> dict[int, Engine]:
    """Return the engines of afterwards."""
    wanted = {engine.number: engine for engine in flows.engines(ns) if engine.policy}
    for change in changes:
        if isinstance(change.fact, Engine):
            wanted.pop(change.fact.number, None)
            if change.new is not None:
                wanted[change.fact.number] = change.fact
    return wanted
