"""The fake of nft: tables and sets in dicts; a set must be declared in its table's body, as in the kernel."""

from __future__ import annotations

import re
from errno import ENODEV, ENOENT
from typing import TYPE_CHECKING

from appliance.kernel.port import Failure
from appliance.model.errors import KernelError
from appliance.model.facts import NftSet, NftTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from appliance.kernel.fakes.world import FakeWorld
    from appliance.model.facts import Namespace
    from appliance.state.diff import Change, Plan

Fact = NftTable | NftSet
_DECLARED = re.compile(r"\b(?:set|map)\s+(\w+)\s*\{")


class FakeNft:
    """Our table of each namespace."""

    def __init__(self, world: FakeWorld) -> None:
        """Share a world with the other fakes."""
        self.world = world

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
        declared = set(_DECLARED.findall(table.body)) if isinstance(table, NftTable) else set()
        if any(isinstance(fact, NftSet) and fact.name not in declared for fact in wanted):
            return [Failure(fact, KernelError("nft", f"{ns}: no such set", ENOENT)) for fact in wanted]
        gone = [
            key
            for key, fact in after.items()
            if isinstance(fact, NftSet) and fact.ns == ns and fact.name not in declared
        ]
        for key in gone:
            del after[key]
        self.world.nft = after
        return []
