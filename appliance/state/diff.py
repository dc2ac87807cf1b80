"""(existing, desired) -> Plan: the ordered, printable changes that lead from one to the other.

Pure. Used by every port's caller; a Plan is a value that can be shown, counted and refused before it is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar


class Keyed(Protocol):
    """What a fact must have."""

    @property
    def key(self) -> Hashable:
        """Identity of the fact in its subsystem."""
        ...


F = TypeVar("F", bound=Keyed)
Operation = Literal["delete", "update", "create"]


@dataclass(frozen=True, slots=True)
class Change(Generic[F]):
    """One difference: `old` is None for create, `new` is None for delete."""

    operation: Operation
    old: F | None
    new: F | None

    @property
    def fact(self) -> F:
        """The fact after the change, or the one that goes."""
        fact = self.new if self.new is not None else self.old
        assert fact is not None  # noqa: S101 - a Change always has one side
        return fact


@dataclass(frozen=True, slots=True)
class Plan(Generic[F]):
    """Changes in the order in which they are shown: deletions, updates, creations; false when there is nothing."""

    changes: tuple[Change[F], ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.changes)

    def of(self, operation: Operation) -> tuple[Change[F], ...]:
        """Select the changes of one kind."""
        return tuple(change for change in self.changes if change.operation == operation)


def diff(existing: Iterable[F], desired: Iterable[F], order: Callable[[F], str] = repr) -> Plan[F]:
    """Compare two sets of facts by key; `order` makes the plan deterministic within each operation.

    Each key is hashed as seldom as can be: that is most of what this costs where facts are many and nearly all equal.
    """
    gone = {fact.key: fact for fact in existing}
    changed: list[tuple[F, F]] = []
    made: list[F] = []
    for key, fact in {fact.key: fact for fact in desired}.items():
        before = gone.pop(key, None)
        if before is None:
            made.append(fact)
        elif before is not fact and before != fact:
            changed.append((before, fact))
    return Plan(
        (
            *(Change("delete", fact, None) for fact in sorted(gone.values(), key=order)),
            *(Change("update", before, fact) for before, fact in sorted(changed, key=lambda pair: order(pair[1]))),
            *(Change("create", None, fact) for fact in sorted(made, key=order)),
        )
    )
