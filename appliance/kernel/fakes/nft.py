"""The fake of nft: tables, sets, engines and instructions in dicts; what must be declared in the table's body must be.

An instruction raises the generation of the engine that the live record of its flow names, as the real one does.
"""

from __future__ import annotations

import re
from errno import ENODEV, ENOENT
from typing import TYPE_CHECKING

from appliance.kernel import nft_engines
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.port import Failure
from appliance.model.errors import KernelError
from appliance.model.facts import Engine, Instruction, NftSet, NftTable
from appliance.model.marks import GENERATIONS, Mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from appliance.kernel.conntrack import Conntrack
    from appliance.kernel.fakes.world import FakeWorld
    from appliance.model.facts import Namespace
    from appliance.state.diff import Change, Plan

Fact = NftTable | NftSet | Engine | Instruction
_COUNTER = re.compile(r"\bcounter\s+(\w+)\s*\{")
_DECLARED = re.compile(r"\b(?:set|map)\s+(\w+)\s*\{")


class FakeNft:
    """Our table of each namespace."""

    def __init__(self, world: FakeWorld, conntrack: Conntrack | None = None) -> None:
        """Share a world with the other fakes, and flow records."""
        self.world = world
        self.conntrack = conntrack or FakeConntrack()

    def attend(self, desired: Iterable[Fact]) -> None:
        """Nothing is forgotten here: nothing to do."""

    def read(self) -> frozenset[Fact]:
        """Return what is there."""
        return frozenset(self.world.nft.values())

    def apply(self, plan: Plan[Fact]) -> tuple[Failure, ...]:
        """Carry the plan out, all or nothing in each namespace."""
        by_ns: dict[Namespace, list[Change[Fact]]] = {}
        for change in plan.changes:
            by_ns.setdefault(change.fact.ns, []).append(change)
        if plan:
            self.world.changed()
        return tuple(failure for ns, changes in by_ns.items() for failure in self._apply_one(ns, changes))

    def watch(self) -> AsyncIterator[str]:
        """Yield when anything in the world changed."""
        return self.world.watch("nft")

    def close(self) -> None:
        """Nothing is held."""

    def generations(self, ns: Namespace) -> Mapping[int, int]:
        """Return the generation of every engine of a namespace."""
        return {fact.number: self.world.generations[ns, fact.number] for fact in self._engines(ns)}

    def policies(self, ns: Namespace) -> Mapping[int, str]:
        """Return the digest of the policy by which each engine's flows are judged."""
        return {fact.number: fact.policy for fact in self._engines(ns)}

    def counters(self, ns: Namespace) -> Mapping[str, tuple[int, int]]:
        """Return the named counters that the table declares: no packets here."""
        table = self.world.nft.get((NftTable, ns))
        return dict.fromkeys(_COUNTER.findall(table.body), (0, 0)) if isinstance(table, NftTable) else {}

    def _engines(self, ns: Namespace) -> list[Engine]:
        """Return the engines of a namespace."""
        found = (fact for fact in self.world.nft.values() if isinstance(fact, Engine) and fact.ns == ns)
        return sorted(found, key=lambda fact: fact.number)

    def _apply_one(self, ns: Namespace, changes: list[Change[Fact]]) -> list[Failure]:
        """Apply the changes of one namespace to a copy; keep it if nothing is wrong."""
        wanted = [change.fact for change in changes if change.operation != "delete"]
        if not self.world.exists(ns):
            return [Failure(fact, KernelError("nft", f"{ns}: no such namespace", ENODEV)) for fact in wanted]
        after = dict(self.world.nft)
        for change in changes:
            after.pop((type(change.fact), change.fact.key), None)
            if change.new is not None:
                after[type(change.new), change.new.key] = change.new
        table = after.get((NftTable, ns))
        held = _holds(table.body) if isinstance(table, NftTable) else lambda _: False
        if not all(map(held, wanted)):
            return [Failure(fact, KernelError("nft", f"{ns}: no such set or chain", ENOENT)) for fact in wanted]
        self._bump(ns, changes, anew=table != self.world.nft.get((NftTable, ns)))
        self.world.nft = {key: fact for key, fact in after.items() if fact.ns != ns or held(fact)}
        return []

    def _bump(self, ns: Namespace, changes: list[Change[Fact]], *, anew: bool) -> None:
        """Raise the generations of engines whose flows are judged again."""
        numbers = {change.new.number for change in changes if isinstance(change.new, Engine)}
        current = self.generations(ns)
        if anew:
            numbers |= current.keys()
        for change in changes:
            if isinstance(change.fact, Instruction):
                entry = self.conntrack.get(ns, change.fact.flow)
                mark = Mark.of(entry.mark if entry else 0)
                numbers |= {mark.engine} if current.get(mark.engine) == mark.generation else set()
        for number in numbers:
            self.world.generations[ns, number] = self.world.generations.get((ns, number), 0) % GENERATIONS + 1


def _holds(body: str) -> Callable[[Fact], bool]:
    """Return what tells whether a table with this body can hold a fact."""
    sets = frozenset(_DECLARED.findall(body))
    engines, families = nft_engines.declared(body)

    def holds(fact: Fact) -> bool:
        if isinstance(fact, Engine):
            return fact.number in engines
        if isinstance(fact, Instruction):
            return fact.flow.source.version in families
        return isinstance(fact, NftTable) or fact.name in sets

    return holds
