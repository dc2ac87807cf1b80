"""The reconciler on ports in memory: order, retries, what is pending. Ways between states: `tests/sequences`."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from appliance.control.reconcile import ROUNDS, SUBSYSTEMS, Reconciler, changes
from appliance.kernel.port import Failure, Port
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Fact, Link, Namespace, Netns, NftSet, NftTable, Sysctl
from appliance.state.diff import Change, Plan, diff
from tests.support.worlds import STATES, held, kernel

ONE, TWO, EMPTY = STATES["ONE_VPC"], STATES["TWO_VPCS"], STATES["EMPTY"]
#: The subsystems that ONE has facts for, in the order of application.
USED = [name for name, kinds in SUBSYSTEMS if any(isinstance(fact, kinds) for fact in ONE)]
RED = Namespace("red")
NETNS = Netns(RED)


class Script:
    """A port that keeps a journal and refuses what it is told to refuse, so many times."""

    def __init__(self, name: str, journal: list[tuple[str, str, Fact]]) -> None:
        self.name, self.journal = name, journal
        self.facts: dict[Any, Fact] = {}
        self.refuse: dict[Fact, int] = {}
        self.reads = 0

    def read(self) -> frozenset[Fact]:
        """Return what was taken."""
        self.reads += 1
        return frozenset(self.facts.values())

    def apply(self, plan: Plan[Fact]) -> tuple[Failure, ...]:
        """Take what is not refused."""
        failures = []
        for change in plan.changes:
            if self.refuse.get(change.fact, 0) > 0:
                self.refuse[change.fact] -= 1
                failures.append(Failure(change.fact, KernelError(self.name, "x", errno.EBUSY)))
                continue
            self.journal.append((self.name, change.operation, change.fact))
            self.facts.pop((type(change.fact), change.fact.key), None)
            if change.new is not None:
                self.facts[type(change.new), change.new.key] = change.new
        return tuple(failures)

    async def watch(self) -> AsyncIterator[str]:
        """Say once that it listens; nothing ever happens."""
        yield "listening"

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def journal() -> list[tuple[str, str, Fact]]:
    """Give an empty journal."""
    return []


@pytest.fixture
def ports(journal: list[tuple[str, str, Fact]]) -> dict[str, Script]:
    """Give one scripted port for each subsystem."""
    return {name: Script(name, journal) for name, _ in SUBSYSTEMS}


def reconciler(ports: Mapping[str, Port[Any]]) -> Reconciler:
    """Make a reconciler of some ports."""
    return Reconciler(ports)


def test_creations_run_from_namespaces_to_routes(
    ports: dict[str, Script], journal: list[tuple[str, str, Fact]]
) -> None:
    """What stands on something comes after it."""
    outcome = reconciler(ports).apply(ONE)
    order = list(dict.fromkeys(name for name, _, _ in journal))
    assert order == USED
    assert outcome.done
    assert outcome.changed == {name: sum(1 for entry in journal if entry[0] == name) for name in order}


def test_deletions_run_the_other_way_but_nft_goes_in_one_piece(
    ports: dict[str, Script], journal: list[tuple[str, str, Fact]]
) -> None:
    """Routes first, namespaces last; the elements of a set go only with the rules that use it."""
    made = reconciler(ports)
    made.apply(ONE)
    journal.clear()
    made.apply(EMPTY)
    order = list(dict.fromkeys(name for name, _, _ in journal))
    assert order == [name for name in reversed(USED) if name != "nft"] + ["nft"]
    assert {operation for _, operation, _ in journal} == {"delete"}


def test_deletions_come_before_creations(ports: dict[str, Script], journal: list[tuple[str, str, Fact]]) -> None:
    """A device can move from one namespace to another."""
    made = reconciler(ports)
    made.apply(STATES["TWO_VPCS"])
    journal.clear()
    made.apply(STATES["GUESTS_SWAPPED"])
    steps = [(name, operation) for name, operation, _ in journal if name == "links"]
    assert steps == [("links", "delete")] * 2 + [("links", "create")] * 2


def test_table_and_sets_change_in_one_plan(ports: dict[str, Script]) -> None:
    """One transaction: no packet meets a rule without its elements."""
    table, old, new = NftTable(RED, "a"), NftSet(RED, "s", frozenset({"1"})), NftSet(RED, "t", frozenset({"1"}))
    made = reconciler(ports)
    made.apply({table, old})
    plans = made.plan({NftTable(RED, "b"), new})
    assert [(name, change.operation) for name, change in changes(plans)] == [
        ("nft", "delete"),
        ("nft", "update"),
        ("nft", "create"),
    ]


def test_a_plan_changes_nothing(ports: dict[str, Script], journal: list[tuple[str, str, Fact]]) -> None:
    """It is shown, and may be refused."""
    plans = reconciler(ports).plan(ONE)
    assert journal == []
    assert {change.new for _, change in changes(plans)} == ONE
    assert plans["namespaces"] == diff([], [fact for fact in ONE if isinstance(fact, Netns)])


def test_the_second_run_is_empty(ports: dict[str, Script], journal: list[tuple[str, str, Fact]]) -> None:
    """And reads each subsystem once."""
    made = reconciler(ports)
    made.apply(ONE)
    before, reads = list(journal), {name: port.reads for name, port in ports.items()}
    outcome = made.apply(ONE)
    assert (outcome.changed, outcome.done, journal) == ({}, True, before)
    assert {name: port.reads - reads[name] for name, port in ports.items()} == dict.fromkeys(ports, 1)


def test_only_the_subsystems_that_were_named_are_looked_at(ports: dict[str, Script]) -> None:
    """The kernel told which of them changed."""
    outcome = reconciler(ports).apply(ONE, only={"sysctls"})
    assert set(outcome.changed) == {"sysctls"}
    assert {name for name, port in ports.items() if port.reads} == {"sysctls"}


def test_what_each_subsystem_took_is_told(ports: dict[str, Script]) -> None:
    """And nothing is told of one that nobody looked at."""
    outcome = Reconciler(ports).apply((), ("links", "routes"))
    assert outcome.seconds.keys() == {"links", "routes"}
    assert all(seconds > 0 for seconds in outcome.seconds.values())


def test_what_is_refused_is_tried_again_while_something_else_succeeds(ports: dict[str, Script]) -> None:
    """A device appears while the namespace is being made."""
    ports["namespaces"].refuse[NETNS] = 2
    sysctls: dict[Fact, int] = {Sysctl(HOST, f"net.x.{n}", "1"): n for n in range(4)}
    ports["sysctls"].refuse.update(sysctls)
    outcome = reconciler(ports).apply({NETNS, *sysctls})
    assert outcome.done
    assert outcome.changed == {"namespaces": 1, "sysctls": 4}


def test_what_stays_refused_is_pending_with_its_error(ports: dict[str, Script]) -> None:
    """Everything else is done; nobody spins."""
    ports["namespaces"].refuse[NETNS] = 99
    outcome = reconciler(ports).apply({NETNS, Sysctl(HOST, "net.x", "1")})
    assert not outcome.done
    assert [failure.fact for failure in outcome.pending] == [NETNS]
    assert outcome.changed == {"sysctls": 1}
    assert ports["namespaces"].reads <= ROUNDS
    ports["namespaces"].refuse.clear()
    assert reconciler(ports).apply({NETNS, Sysctl(HOST, "net.x", "1")}).changed == {"namespaces": 1}


def test_after_a_device_changed_everything_is_looked_at_again(ports: dict[str, Script]) -> None:
    """A device that cannot change is made anew, and takes along what is on it."""
    made = reconciler(ports)
    old, new = Link(HOST, "a", "veth", mtu=1500), Link(HOST, "a", "veth", mtu=9000)
    made.apply({old})
    for port in ports.values():
        port.reads = 0
    assert made.apply({new}, only={"links"}).done
    assert {port.reads for name, port in ports.items() if name != "links"} == {1}
    assert not made.move({new}, {old}).done, "by the difference alone nobody has looked"


def test_a_move_costs_the_difference(ports: dict[str, Script], journal: list[tuple[str, str, Fact]]) -> None:
    """No subsystem is read."""
    made = reconciler(ports)
    made.apply(ONE)
    journal.clear()
    for port in ports.values():
        port.reads = 0
    outcome = made.move(ONE, TWO)
    assert outcome.done
    assert {port.reads for port in ports.values()} == {0}
    assert {fact for _, operation, fact in journal if operation != "delete"} == TWO - ONE
    assert {fact for _, operation, fact in journal if operation == "delete"} <= ONE - TWO


def test_a_move_tells_what_was_refused(ports: dict[str, Script]) -> None:
    """The caller then looks at the whole."""
    ports["namespaces"].refuse[NETNS] = 1
    outcome = reconciler(ports).move(EMPTY, {NETNS})
    assert [failure.fact for failure in outcome.pending] == [NETNS]
    assert not outcome.done


def test_foreign_facts_of_a_subsystem_are_not_asked_of_another(ports: dict[str, Script]) -> None:
    """Each port is given its own kinds."""
    reconciler(ports).apply(ONE)
    for name, kinds in SUBSYSTEMS:
        assert {type(fact) for fact in ports[name].read()} <= set(kinds)
    assert frozenset(fact for port in ports.values() for fact in port.read()) == ONE


def test_the_kernel_in_memory_takes_the_whole_lab() -> None:
    """With everything that goes with devices and namespaces."""
    _, made = kernel()
    assert Reconciler(made.ports).apply(TWO).done
    assert held(made) == TWO


def test_changes_are_told_in_the_order_of_application(
    ports: dict[str, Script], journal: list[tuple[str, str, Fact]]
) -> None:
    """What `edgeway plan` prints is what will happen."""
    made = reconciler(ports)
    made.apply(ONE)
    told = [(name, change.operation, change.fact) for name, change in changes(made.plan(TWO))]
    journal.clear()
    made.apply(TWO)
    assert journal == told
    assert isinstance(next(iter(changes(made.plan(EMPTY))))[1], Change)
