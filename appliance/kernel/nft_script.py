"""The changes of a namespace's table as one script for libnftables, and what will be held afterwards.

Pure; `nft` runs the script. The engines whose flows are judged by the sets are bumped afterwards, in a transaction of
their own: the kernel shows rules and hashed sets at one moment, and sets of intervals a little later (design 0004). So
what the elements of such a set lead to stays until then as well (`postponed`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from appliance.kernel import nft_engines, nft_swap, nft_text
from appliance.kernel.nft_engines import Advance, Bump, Flows
from appliance.kernel.nft_swap import Body
from appliance.kernel.nft_text import Name, Statement
from appliance.model.facts import Engine, FlowKey, Instruction, Namespace, NftSet, NftTable
from appliance.state.diff import Change

Fact = NftTable | NftSet | Engine | Instruction
Changes = Sequence[Change[Fact]]

#: Sets and maps of intervals, as a body declares them.
_INTERVALS: Final = re.compile(r"^\s*(?:set|map)\s+(\S+)\s*\{[^}]*\bflags\s[^;}]*\binterval\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """What a namespace holds at a generation of its ruleset; `hash` is that of the body; no table: nothing of all that."""

    generation: int
    table: NftTable | None
    sets: Mapping[str, nft_text.Elements]
    hash: str = ""
    flows: Flows = field(default_factory=Flows)
    objects: frozenset[Name] = frozenset()

    @property
    def surplus(self) -> frozenset[Name]:
        """Return what is left of another body."""
        body = None if self.table is None else nft_swap.body(self.table.body)
        return frozenset() if body is None else nft_swap.surplus(body, self.objects)


@dataclass(frozen=True, slots=True)
class Script:
    """What to run, what is held afterwards (engines: after `bumps`), and the changes of engines that must follow.

    `looked`: whether that must be looked up, because rules came or went.
    """

    statements: Sequence[Statement]
    after: Held
    bumps: Sequence[Bump] = ()
    follow: Sequence[Change[Fact]] = ()
    looked: bool = False


def postponed(held: Held, changes: Changes) -> tuple[Changes, Changes]:
    """Cut the changes of sets in two where rules change, or a set of intervals is among them; else the second part is empty.

    A packet that goes by the old ones must find what they lead to: old elements of other sets go later.
    """
    table = _table(held, changes)
    late = set(_INTERVALS.findall(table.body)) if table is not None else set()
    if table != held.table:
        if swapped(held, changes) is None:
            return changes, ()
    elif not any(_named(change.fact) in late for change in changes):
        return changes, ()
    cut = [(change, None) if _named(change.fact) in late else _cut(held, change) for change in changes]
    return [first for first, _ in cut], [second for _, second in cut if second is not None]


def swapped(held: Held, changes: Changes) -> tuple[Body, Body] | None:
    """Return the old body and the new one if the table changes and no packet need notice."""
    table = _table(held, changes)
    if held.table is None or table is None or table == held.table or nft_text.digest(held.table.body) != held.hash:
        return None
    old, new = nft_swap.body(held.table.body), nft_swap.body(table.body)
    return None if old is None or new is None or not new.follows(old) else (old, new)


def prepared(held: Held, changes: Changes) -> Script | None:
    """Return what a table must have before its rules are exchanged; None if nothing."""
    bodies, table = swapped(held, changes), _table(held, changes)
    if bodies is None or table is None:
        return None
    text, fresh = nft_swap.prepare(*bodies)
    if not fresh:
        return None
    statements, sets = [Statement(text, table)], dict(held.sets)
    for change in changes:
        if isinstance(change.new, NftSet) and ("set", change.new.name) in fresh:
            statements += nft_text.add(change.new, change.new.elements)
            sets[change.new.name] = change.new.elements
    return Script(statements, replace(held, sets=sets, objects=held.objects | fresh))


def _table(held: Held, changes: Changes) -> NftTable | None:
    """Return the table of afterwards."""
    found = [change.new for change in changes if isinstance(change.fact, NftTable)]
    return held.table if not found else found[-1] if isinstance(found[-1], NftTable) else None


def _named(fact: Fact) -> str:
    return fact.name if isinstance(fact, NftSet) else ""


def _cut(held: Held, change: Change[Fact]) -> tuple[Change[Fact], Change[Fact] | None]:
    """Cut one change: its new elements, then the end of the old ones; an element with a new value changes at once."""
    fact = change.fact
    if not isinstance(fact, NftSet):
        return change, None
    new = change.new.elements if isinstance(change.new, NftSet) else frozenset[str]()
    keys = {nft_text.key(element) for element in new}
    stay = {element for element in held.sets.get(fact.name, ()) if nft_text.key(element) not in keys}
    if not stay:
        return change, None
    both = replace(fact, elements=new | stay)
    return Change("update", change.old, both), Change("delete" if change.new is None else "update", both, change.new)


def script(ns: Namespace, held: Held, changes: Changes, advance: Advance, *, last: bool = False) -> Script:
    """Return what leads from what is held to what is wanted; instructions only where the table is made anew.

    Engines are bumped in the `last` transaction of a change, and unsettled in one before.
    """
    table, (sets, statements) = _table(held, changes), _sets(held, changes)
    after = replace(held, table=table, sets=sets)
    if table is None and held.table is not None:
        return Script([Statement(nft_text.remove(), held.table)], Held(held.generation, None, {}), looked=True)
    if table is not None and table != held.table:
        bodies = swapped(held, changes)
        if bodies is None:
            return _anew(ns, after, table, changes, advance)
        return _exchanged(ns, after, Statement(nft_swap.exchange(*bodies, table.body), table), statements, changes)
    follow = [change for change in changes if isinstance(change.fact, Engine)]
    if last:
        bumps = [_bump(held.flows, change, advance) for change in follow]
        follow = []
    else:
        bumps = [nft_engines.unsettle(held.flows, change.new) for change in follow if isinstance(change.new, Engine)]
    for bump in bumps:
        statements += nft_engines.statement(bump, held.flows.words.get(bump.engine.number, {}))
    return _cleared(Script(statements, after, bumps, follow)) if last else Script(statements, after, bumps, follow)


def _cleared(made: Script) -> Script:
    """Remove what is left of another body, with all its elements."""
    gone, table = made.after.surplus, made.after.table
    if not gone or table is None:
        return made
    kept = [one for one in made.statements if ("set", _named(one.fact)) not in gone]
    return replace(made, statements=[*kept, Statement("\n".join(nft_swap.remove(gone)), table)], looked=True)


def _bump(flows: Flows, change: Change[Fact], advance: Advance) -> Bump:
    """Return the change of an engine."""
    assert isinstance(change.fact, Engine)  # noqa: S101 - the caller selects them
    return (nft_engines.end if change.new is None else nft_engines.bump)(flows, change.fact, advance)


def _sets(held: Held, changes: Changes) -> tuple[dict[str, nft_text.Elements], list[Statement]]:
    """Return the sets of afterwards, and the changes of elements."""
    sets = dict(held.sets)
    statements: list[Statement] = []
    for change in changes:
        fact = change.fact
        if isinstance(fact, NftSet):
            old = sets.pop(fact.name, frozenset())
            new = fact.elements if change.new is not None else frozenset()
            statements += nft_text.subtract(fact, old - new) + nft_text.add(fact, new - old)
            sets[fact.name] = new
    return sets, statements


def _exchanged(
    ns: Namespace, after: Held, rules: Statement, sets: Sequence[Statement], changes: Sequence[Change[Fact]]
) -> Script:
    """Exchange the rules, and what may change with them; every engine is bumped afterwards, for its rules may be others."""
    wanted, statements = _engines(ns, after.flows, changes), [rules, *sets]
    for engine in wanted.values():
        held = after.flows.words.get(engine.number, {})
        statements += nft_engines.statement(nft_engines.unsettle(after.flows, engine), held)
    gone = [change for change in changes if isinstance(change.fact, Engine) and change.new is None]
    return Script(statements, after, (), [*_judged_again(wanted), *gone], looked=True)


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
    return Script(statements, after, (), _judged_again(wanted), looked=True)


def _judged_again(engines: Mapping[int, Engine]) -> list[Change[Fact]]:
    return [Change("update", None, engine) for engine in engines.values()]


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
