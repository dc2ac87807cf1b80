"""(existing, desired) -> plan: applying it leads from the one to the other, whatever they are."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from appliance.state.diff import Change, Plan, diff


@dataclass(frozen=True, slots=True)
class Thing:
    """The smallest fact: a name and what may change under it."""

    name: int
    value: int

    @property
    def key(self) -> Hashable:
        """Identity."""
        return self.name


things = st.dictionaries(st.integers(0, 9), st.integers(0, 3)).map(lambda d: [Thing(*item) for item in d.items()])


def carried_out(plan: Plan[Thing], existing: Iterable[Thing]) -> set[Thing]:
    """Do what a kernel does: refuse what does not fit to what is there."""
    held = {thing.key: thing for thing in existing}
    for change in plan.changes:
        if change.old is not None:
            assert held.pop(change.old.key) == change.old
        if change.new is not None:
            assert change.new.key not in held
            held[change.new.key] = change.new
    return set(held.values())


@given(things, things)
def test_a_plan_leads_from_the_existing_to_the_desired(existing: list[Thing], desired: list[Thing]) -> None:
    """The law of diff and apply."""
    assert carried_out(diff(existing, desired), existing) == set(desired)


@given(things)
def test_between_equals_there_is_nothing_to_do(existing: list[Thing]) -> None:
    """The second run is empty."""
    plan = diff(existing, list(reversed(existing)))
    assert not plan
    assert plan.changes == ()


@given(things, things)
def test_what_is_right_is_left_alone(existing: list[Thing], desired: list[Thing]) -> None:
    """No change names a fact that both sides have."""
    both = set(existing) & set(desired)
    assert not {change.fact for change in diff(existing, desired).changes} & both


@given(things, things)
def test_the_way_back_is_the_opposite_plan(existing: list[Thing], desired: list[Thing]) -> None:
    """As many deletions as creations before, old and new swapped."""
    there, back = diff(existing, desired), diff(desired, existing)
    assert [change.old for change in back.of("delete")] == [change.new for change in there.of("create")]
    assert {(c.old, c.new) for c in back.of("update")} == {(c.new, c.old) for c in there.of("update")}


@given(things, things, st.integers())
def test_a_plan_does_not_depend_on_the_order_of_the_facts(
    existing: list[Thing], desired: list[Thing], seed: int
) -> None:
    """Sets have no order; what is printed has."""
    mixed = random.Random(seed).sample
    plan = diff(existing, desired)
    assert diff(mixed(existing, len(existing)), mixed(desired, len(desired))) == plan


def test_deletions_stand_before_updates_and_creations() -> None:
    """And each in the order that was asked for."""
    plan = diff(
        [Thing(1, 1), Thing(2, 1), Thing(3, 1)], [Thing(3, 2), Thing(5, 1), Thing(4, 1)], lambda t: str(-t.name)
    )
    assert [(c.operation, c.fact.name) for c in plan.changes] == [
        ("delete", 1),
        ("delete", 2),
        ("update", 3),
        ("create", 4),
        ("create", 5),
    ]
    assert plan.of("update") == (Change("update", Thing(3, 1), Thing(3, 2)),)


def test_a_change_shows_the_fact_after_it_or_the_one_that_goes() -> None:
    """For messages about it."""
    assert Change("delete", Thing(1, 1), None).fact == Thing(1, 1)
    assert Change("update", Thing(1, 1), Thing(1, 2)).fact == Thing(1, 2)
    assert Change("create", None, Thing(1, 2)).fact == Thing(1, 2)


def test_a_plan_with_changes_is_true() -> None:
    """`if plan:` asks whether there is anything to do."""
    assert diff([], [Thing(1, 1)])
    nothing: Plan[Thing] = Plan()
    assert not nothing
