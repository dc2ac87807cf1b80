"""desired facts -> kernel: read, diff, plan, apply in the written order, read back, status per object.

Level-triggered: it is told the whole desired state each time and works out the rest. What is right is left alone, so a
second run is empty and a restarted daemon disturbs nothing. Called by `appliance.control.daemon` and `edgeway plan`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from appliance.control.compile import ORDER
from appliance.kernel.port import Attentive, Failure, Port
from appliance.model.facts import (
    Compose,
    Engine,
    Fact,
    FdbEntry,
    Instruction,
    Link,
    LinkAddress,
    Neighbour,
    Netns,
    NftSet,
    NftTable,
    Route,
    Steer,
    Sysctl,
    Wire,
)
from appliance.state.diff import Change, Plan, diff

log = structlog.get_logger()

#: Each subsystem: its name, the kinds of facts it holds; applied in this order, deletions in the opposite one.
SUBSYSTEMS: tuple[tuple[str, tuple[type[Fact], ...]], ...] = (
    ("namespaces", (Netns,)),
    ("links", (Link,)),
    ("sysctls", (Sysctl,)),
    ("addresses", (LinkAddress,)),
    ("neighbours", (Neighbour,)),
    ("fdb", (FdbEntry,)),
    # Before the rules that mark packets: until its steer stands, what has a mark would pass the service node by.
    ("steers", (Steer,)),
    ("nft", (NftTable, NftSet, Engine, Instruction)),
    ("wires", (Wire,)),
    ("compose", (Compose,)),
    ("routes", (Route,)),
)
assert {kind for _, kinds in SUBSYSTEMS for kind in kinds} == set(ORDER)  # noqa: S101 - two lists, one truth

#: Applied in one piece, deletions too: the elements of a set may go only with the rules that use it.
WHOLE = frozenset({"nft"})

#: Rounds of read, diff and apply before what is left waits for the next event.
ROUNDS = 4

Plans = Mapping[str, Plan[Any]]


@dataclass(slots=True)
class Outcome:
    """What a reconcile did: changes made per subsystem, and what is pending with its error.

    `settled` is false when what was changed may have taken along what was right, and nobody has looked since; `seconds`
    is what each subsystem has taken.
    """

    changed: dict[str, int] = field(default_factory=dict)
    pending: tuple[Failure, ...] = ()
    settled: bool = True
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def spending(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile for a subsystem."""
        begun = time.monotonic()
        yield
        self.seconds[name] += time.monotonic() - begun

    @property
    def done(self) -> bool:
        """Whether the kernel holds all that was desired."""
        return self.settled and not self.pending


class Reconciler:
    """Ports by subsystem, told the whole desired state."""

    def __init__(self, ports: Mapping[str, Port[Any]]) -> None:
        """`ports` has one entry for each name in SUBSYSTEMS."""
        self.ports = ports

    def plan(self, facts: Collection[Fact]) -> Plans:
        """Read every subsystem and return what would change; changes nothing."""
        return {name: self.plan_one(name, facts) for name, _ in SUBSYSTEMS}

    def plan_one(self, name: str, facts: Collection[Fact]) -> Plan[Any]:
        """Plan one subsystem."""
        kinds = next(kinds for other, kinds in SUBSYSTEMS if other == name)
        port, wanted = self.ports[name], _of(kinds, facts)
        if isinstance(port, Attentive):
            port.attend(wanted)
        return diff(port.read(), wanted)

    def apply(self, facts: Collection[Fact], only: Collection[str] | None = None) -> Outcome:
        """Lead the kernel (or `only` some subsystems) to the facts, by reading what is there.

        What is refused for a passing reason is tried again while others succeed.
        """
        outcome = Outcome()
        names = [name for name, _ in SUBSYSTEMS if only is None or name in only]
        for _ in range(ROUNDS):
            plans: dict[str, Plan[Any]] = {}
            for name in names:
                with outcome.spending(name):
                    plans[name] = self.plan_one(name, facts)
            failures, progress = self._round(plans, outcome)
            outcome.pending, outcome.settled = tuple(failures), not _disturbs(plans)
            if outcome.done or not progress:
                break
            if not outcome.settled:
                names = [name for name, _ in SUBSYSTEMS]
        return _told(outcome)

    def move(self, old: Collection[Fact], new: Collection[Fact]) -> Outcome:
        """Lead the kernel from one desired state, which it holds, to the next, at the cost of the difference.

        When it is not done afterwards the caller applies the whole state, which reads what is there.
        """
        outcome = Outcome()
        gone, come = set(old) - set(new), set(new) - set(old)
        plans = {name: diff(_of(kinds, gone), _of(kinds, come)) for name, kinds in SUBSYSTEMS}
        failures, _ = self._round(plans, outcome)
        outcome.pending, outcome.settled = tuple(failures), not _disturbs(plans)
        return _told(outcome)

    def _round(self, plans: Plans, outcome: Outcome) -> tuple[list[Failure], bool]:
        failures: list[Failure] = []
        progress = False
        for name, plan in _in_order(plans):
            with outcome.spending(name):
                refused = self.ports[name].apply(plan)
            failures += refused
            made = len(plan.changes) - len(refused)
            if made > 0:
                progress = True
                outcome.changed[name] = outcome.changed.get(name, 0) + made
        return failures, progress


def _disturbs(plans: Plans) -> bool:
    """Tell whether addresses, routes and ports may go with a change: a device that cannot change is made anew."""
    changed = plans["links"].of("update") if "links" in plans else ()
    return any(c.old and c.new and replace(c.old, up=c.new.up) != c.new for c in changed)


def _of(kinds: tuple[type[Fact], ...], facts: Iterable[Fact]) -> list[Fact]:
    return [fact for fact in facts if isinstance(fact, kinds)]


def _told(outcome: Outcome) -> Outcome:
    if outcome.changed or outcome.pending:
        log.info("kernel-reconciled", changed=outcome.changed, pending=len(outcome.pending))
    return outcome


def _in_order(plans: Plans) -> Iterator[tuple[str, Plan[Any]]]:
    """Deletions from the last subsystem to the first, then updates and creations from the first to the last."""
    names = [name for name, _ in SUBSYSTEMS if name in plans]
    for name in reversed(names):
        if name not in WHOLE and (gone := plans[name].of("delete")):
            yield name, Plan(gone)
    for name in names:
        if rest := tuple(change for change in plans[name].changes if name in WHOLE or change.operation != "delete"):
            yield name, Plan(rest)


def changes(plans: Plans) -> Iterable[tuple[str, Change[Any]]]:
    """Yield every change with its subsystem, in the order of application."""
    for name, plan in _in_order(plans):
        for change in plan.changes:
            yield name, change
