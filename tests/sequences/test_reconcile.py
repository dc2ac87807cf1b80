"""State, not path: from any state of a host to any other, by any way, the kernel ends with exactly what is desired."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.control.reconcile import Outcome, Reconciler
from appliance.kernel.kernel import Kernel
from tests.support.worlds import STATES, Facts, held, kernel

NAMES = tuple(STATES)
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=8)


def settled(reconciler: Reconciler, made: Kernel, facts: Facts) -> None:
    """The kernel holds the facts and nothing else of ours, and a second run changes nothing."""
    assert held(made) == facts
    again = reconciler.apply(facts)
    assert (again.changed, again.done) == ({}, True)


def by_reading(reconciler: Reconciler, facts: Facts, _: Facts) -> Outcome:
    """Lead there by looking at what is there."""
    return reconciler.apply(facts)


def by_difference(reconciler: Reconciler, facts: Facts, before: Facts) -> Outcome:
    """Lead there by what changed, as the daemon does; look only when that was not enough."""
    outcome = reconciler.move(before, facts)
    return outcome if outcome.done else reconciler.apply(facts)


def walk(names: Sequence[str], *, difference: bool) -> None:
    """Visit the states in order."""
    _, made = kernel()
    reconciler, before = Reconciler(made.ports), STATES["EMPTY"]
    for name in names:
        lead = by_difference if difference else by_reading
        assert lead(reconciler, STATES[name], before).done, name
        before = STATES[name]
        settled(reconciler, made, before)


@pytest.mark.parametrize("difference", [False, True], ids=["reading", "difference"])
@pytest.mark.parametrize("first", NAMES)
def test_every_state_leads_to_every_other_and_back(first: str, difference: bool) -> None:
    """All pairs, there and back."""
    for second in NAMES:
        walk((first, second, first), difference=difference)


@given(paths, st.booleans())
def test_any_way_through_the_states_ends_where_it_should(names: list[str], difference: bool) -> None:
    """Forward, then backward."""
    walk([*names, *reversed(names)], difference=difference)


@given(paths)
def test_a_way_that_is_squashed_ends_the_same(names: list[str]) -> None:
    """States that nobody saw in between leave nothing behind."""
    _, made = kernel()
    reconciler = Reconciler(made.ports)
    for name in names:
        reconciler.apply(STATES[name])
    _, other = kernel()
    Reconciler(other.ports).apply(STATES[names[-1]])
    assert held(made) == held(other) == STATES[names[-1]]


@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers())
def test_a_start_from_half_a_state_ends_with_the_whole(first: str, second: str, seed: int) -> None:
    """A daemon that was killed in the middle leaves any part of what it was doing."""
    _, made = kernel()
    reconciler = Reconciler(made.ports)
    reconciler.apply(STATES[first])
    some = sorted(STATES[second], key=repr)
    reconciler.apply(frozenset(random.Random(seed).sample(some, len(some) // 2)))
    reconciler.apply(STATES[second])
    settled(reconciler, made, STATES[second])


@pytest.mark.parametrize("name", NAMES)
def test_a_restarted_reconciler_changes_nothing_that_is_right(name: str) -> None:
    """It finds its objects by their marks."""
    _, made = kernel()
    Reconciler(made.ports).apply(STATES[name])
    plans = Reconciler(made.ports).plan(STATES[name])
    assert [plan.changes for plan in plans.values() if plan] == []


@pytest.mark.parametrize(("name", "gone"), tuple(product(("ONE_VPC", "TWO_VPCS"), ("tap11", "eth1"))))
def test_a_device_that_comes_late_is_waited_for(name: str, gone: str) -> None:
    """Everything else stands meanwhile, and what is missing says so."""
    world, made = kernel()
    world.outside.discard(gone)
    reconciler = Reconciler(made.ports)
    outcome = reconciler.apply(STATES[name])
    assert not outcome.done
    assert all(failure.error.retry for failure in outcome.pending)
    assert held(made) < STATES[name]
    world.outside.add(gone)
    assert reconciler.apply(STATES[name]).done
    settled(reconciler, made, STATES[name])


@pytest.mark.parametrize("name", NAMES)
def test_what_somebody_takes_away_comes_back(name: str) -> None:
    """Each object alone, with all that goes with it."""
    world, made = kernel()
    reconciler = Reconciler(made.ports)
    reconciler.apply(STATES[name])
    for link in sorted(held(made), key=repr):
        if link in world.links.values():
            world.remove_link(world.links[link.key])
            reconciler.apply(STATES[name])
            settled(reconciler, made, STATES[name])
    for namespace in sorted(world.namespaces):
        world.remove_namespace(namespace)
        reconciler.apply(STATES[name])
        settled(reconciler, made, STATES[name])


def test_the_states_differ() -> None:
    """Two names of one state would test less than they say."""
    assert len(set(STATES.values())) == len(STATES)
