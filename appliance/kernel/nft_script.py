"""The changes of a namespace's table as one script for libnftables, and what will be held afterwards.

Pure; `nft` runs the script. Elements first, then the engines whose flows are judged by them (design 0004).
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
    """What to run, what is held afterwards (engines: after `bumps`), and whether the table is made anew."""

    statements: Sequence[Statement]
    after: Held
    bumps: Sequence[Bump] = ()


def script(ns: Namespace, held: Held, changes: Sequence[Change[Fact]], advance: Advance) -> Script:
    """Return what leads from what is held to what is wanted; instructions only where the table is made anew."""
    table, sets, statements = _structure(held, changes)
    after = replace(held, table=table, sets=sets)
    if table is None and held.table is not None:
        gone = Statement(nft_text.remove(), held.table)
        return Script([gone], Held(held.generation, None, {}))
    if table is not None and table != held.table:
        return _anew(ns, replace(after, table=table), table, changes, advance)
    bumps = [_bump(held.flows, change, advance) for change in changes if isinstance(change.fact, Engine)]
    for bump in bumps:
        statements += nft_engines.statement(bump, held.flows.words.get(bump.engine.number, ()))
    return Script(statements, after, bumps)


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


def _bump(flows: Flows, change: Change[Fact], advance: Advance) -> Bump:
    """Return the change of an engine."""
    assert isinstance(change.fact, Engine)  # noqa: S101 - the caller selects them
    return (nft_engines.end if change.new is None else nft_engines.bump)(flows, change.fact, advance)


def _anew(ns: Namespace, after: Held, table: NftTable, changes: Sequence[Change[Fact]], advance: Advance) -> Script:
    """Make the table with all that it holds; every engine is bumped, for its rules may be others."""
    engines, families = nft_engines.declared(table.body)
    statements = [nft_text.table(table)]
    for name, elements in after.sets.items():
        statements += nft_text.add(NftSet(ns, name, elements), elements)
    statements += nft_engines.rows_text(ns, _rows(after.flows.rows, changes), sorted(families))
    for bump in _engines(ns, after.flows, changes, advance):
        if bump.words or bump.engine.number in engines:
            statements += nft_engines.statement(bump)
    return Script(statements, after)


def _rows(rows: Mapping[FlowKey, int], changes: Sequence[Change[Fact]]) -> dict[FlowKey, int]:
    """Return the instructions of afterwards."""
    made = dict(rows)
    for change in changes:
        if isinstance(change.fact, Instruction):
            made.pop(change.fact.flow, None)
            if change.new is not None:
                made[change.fact.flow] = nft_engines.word_of(change.fact)
    return made


def _engines(ns: Namespace, flows: Flows, changes: Sequence[Change[Fact]], advance: Advance) -> list[Bump]:
    """Return all engines: wanted ones with the next generation, those that are gone with the last one that they had."""
    wanted = {engine.number: engine for engine in flows.engines(ns) if engine.policy}
    for change in changes:
        if isinstance(change.fact, Engine):
            wanted.pop(change.fact.number, None)
            if change.new is not None:
                wanted[change.fact.number] = change.fact
    gone = [Engine(ns, number, "") for number in flows.stamps.keys() - wanted.keys()]
    return [
        *(nft_engines.bump(flows, engine, advance) for engine in wanted.values()),
        *(nft_engines.end(flows, engine, advance) for engine in gone),
    ]
