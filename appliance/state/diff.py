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
    """Compare two sets of facts by key; `order` makes the plan deterministic within each operation."""
    old = {fact.key: fact for fact in existing}
    new = {fact.key: fact for fact in desired}
    gone = sorted((old[key] for key in old.keys() - new.keys()), key=order)
    changed = sorted((new[key] for key in old.keys() & new.keys() if old[key] != new[key]), key=order)
    made = sorted((new[key] for key in new.keys() - old.keys()), key=order)
    return Plan(
        (
            *(Change("delete", fact, None) for fact in gone),
            *(Change("update", old[fact.key], fact) for fact in changed),
            *(Change("create", None, fact) for fact in made),
        )
    )
