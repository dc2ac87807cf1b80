"""After promises changed exactly the affected flows are handled, counted beforehand and written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.control import reconciliation as module
from appliance.control.flow_watch import FlowWatch
from appliance.control.reconciliation import Audit, Reconciliation, Wanted, scopes
from appliance.control.tasks import Tasks
from appliance.kernel.conntrack_codec import entry_of, flow_of
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.model.errors import KernelError, OperatorError
from appliance.model.facts import Flow, Instruction, Namespace
from appliance.model.marks import Action
from appliance.state.store import MemoryStore
from services.feature import Runtime
from services.flows.changes import parse_change
from services.flows.reconcile import EFFECTS, GRACE
from tests.support.intents import changed, intent, one_vpc
from tests.support.waiting import eventually_async
from tests.unit.services.flows.examples import R3, TCP, UDP, called, entered, left, plain

RED = Namespace("vpc-red")
GONE = "backend-gone red/203.0.113.80:80/tcp 172.16.1.11:8080"
#: As `called`, through a UDP VIP that the tests add.
DNS = {"address": "203.0.113.80", "protocol": "udp", "port": 80, "target-port": 8080, "backends": ["r1", "r3"]}
EVERY = (called(1), called(2), called(3, R3), called(4, protocol=UDP), left(10), entered(20), plain(30))


class Home:
    """A node h1 with the VPC red; the fake of the kernel's table; what was instructed."""

    def __init__(self, store: MemoryStore | None = None, tracker: FakeConntrack | None = None) -> None:
        self.store, self.tracker, self.tasks = store or MemoryStore(), tracker or FakeConntrack(), Tasks()
        self.watch = FlowWatch(self.tracker, self.tasks)
        self.instructed: list[Instruction] = []
        self.refuse = False
        self.done = Reconciliation(self.tracker, self.watch, self.tasks, self.store, self.instruct)

    async def instruct(self, given: Sequence[Instruction]) -> None:
        """Take instructions as the nft port would."""
        if self.refuse:
            raise KernelError("nft", "instructions", 28)
        self.instructed += given

    def wanted(self, *down: str, **paths: Any) -> dict[str, Wanted]:
        """Return what is promised while guests are down and paths of the intent are set."""
        tree = changed(one_vpc(), "vpcs.red.vips.dns", DNS)
        for path, value in paths.items():
            tree = changed(tree, path.replace("__", "."), value)
        runtime = Runtime(down=frozenset(("red", guest, 8080) for guest in down))
        return self.done.wanted(intent(tree), "h1", runtime)

    def kernel(self) -> set[Flow]:
        """Return what the kernel has."""
        return {flow_of(entry) for entry in self.tracker.dump(RED)}

    async def start(self, *flows: Flow) -> None:
        """Have flows, promises, and a whole index."""
        for flow in flows:
            self.tracker.add(RED, entry_of(flow))
        await self.done.carry_out(self.wanted())
        await self.watch.watch(scopes(intent(one_vpc()), "h1"))
        await eventually_async(lambda: self.watch.whole(RED), what="the index is whole")

    def results(self) -> Counter[tuple[str, int, str, str]]:
        """Count what was done."""
        return Counter((row.change.kind, row.flow.key.protocol, row.choice, row.result) for row in self.done.audit)


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    """Give one with flows of every kind, and stop its tasks."""
    made = Home()
    await made.start(*EVERY)
    yield made
    await made.tasks.stop()


async def test_exactly_the_affected_flows_are_handled(home: Home) -> None:
    """TCP is answered, UDP judged again; all others are as they were."""
    await home.done.carry_out(home.wanted("r1"))
    assert home.kernel() == set(EVERY) - {called(4, protocol=UDP)}
    assert set(home.instructed) == {Instruction(RED, called(port).key, Action.REJECT) for port in (1, 2)}
    assert len(home.instructed) == 2
    assert {e.timeout for e in home.tracker.dump(RED) if flow_of(e) in {called(1), called(2)}} == {GRACE}
    assert home.results() == {
        ("backend-gone", TCP, "reset", "instructed"): 2,
        ("backend-gone", UDP, "re-judge", "deleted"): 1,
    }


async def test_the_prediction_is_what_then_happens(home: Home) -> None:
    """By change, protocol and choice; and predicting does nothing."""
    wanted = home.wanted("r1", vpcs__red__guests__r1__public=..., vpcs__red__snat__address="203.0.113.9")
    told = home.done.predict(wanted)
    assert home.kernel() == set(EVERY)
    assert not home.done.audit
    await home.done.carry_out(wanted)
    done = Counter((row.change, row.flow.key.protocol, row.choice) for row in home.done.audit)
    assert {(row.change, row.protocol, row.choice): row.flows for row in told} == done
    assert home.done.predict(wanted) == ()


async def test_the_operator_chooses(home: Home) -> None:
    """Per VPC and kind of change."""
    await home.done.carry_out(home.wanted("r1", vpcs__red__established={"backend-gone": "keep"}))
    assert home.kernel() == set(EVERY)
    assert set(home.results()) == {("backend-gone", p, "keep", "kept") for p in (TCP, UDP)}
    await home.done.carry_out(home.wanted("r1", "r3", vpcs__red__established={"backend-gone": "drop"}))
    assert home.instructed == [Instruction(RED, called(3, R3).key, Action.DENY)]


async def test_flows_can_be_listed_before_and_after(home: Home) -> None:
    """By the name of the change; the VIP by its own name too."""
    steps = home.done.affected_by("backend-gone red/web 172.16.1.11:8080")
    assert {(step.flow, step.choice) for step in steps} == {(called(1), "reset"), (called(2), "reset")}
    await home.done.carry_out(home.wanted("r1"))
    assert {row.flow for row in home.done.done_for(GONE)} == {called(1), called(2)}
    assert home.done.done_for("guest-gone red/r1 172.16.1.11") == ()
    with pytest.raises(OperatorError):
        home.done.affected_by("all")


async def test_a_flow_that_is_told_late_is_handled_by_the_second_look(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered already is not instructed again."""
    monkeypatch.setattr(module, "SETTLE", 0.05)
    await home.done.carry_out(home.wanted("r1"))
    late = called(9, protocol=UDP)
    home.tracker.add(RED, entry_of(late))
    await eventually_async(lambda: late not in home.kernel(), what="it is deleted")
    await eventually_async(lambda: "flows-again" not in home.tasks.names(), what="nothing is owed")
    assert len(home.instructed) == 2
    assert sum(home.results().values()) == 4


async def test_a_flow_made_under_a_promise_that_is_true_again_is_left_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend came back before the second look."""
    monkeypatch.setattr(module, "SETTLE", 0.05)
    await home.done.carry_out(home.wanted("r1"))
    await home.done.carry_out(home.wanted())
    late = called(9, protocol=UDP)
    home.tracker.add(RED, entry_of(late))
    await eventually_async(lambda: "flows-again" not in home.tasks.names(), what="nothing is owed")
    assert late in home.kernel()


async def test_what_was_answered_for_long_enough_ends(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next packet is a first one; the kernel's own time is renewed by every packet."""
    monkeypatch.setitem(EFFECTS, "reset", EFFECTS["reset"]._replace(timeout=0))
    await home.done.carry_out(home.wanted("r1"))
    await eventually_async(lambda: called(1) not in home.kernel(), what="the record is deleted")
    assert home.kernel() == set(EVERY) - {called(1), called(2), called(4, protocol=UDP)}


async def test_what_fails_is_written_down_and_tried_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other flows do not suffer."""
    monkeypatch.setattr(module, "SETTLE", 0.05)
    home.refuse = True
    await home.done.carry_out(home.wanted("r1"))
    assert called(4, protocol=UDP) not in home.kernel()
    assert sum(row.result.startswith("failed: ") for row in home.done.audit) == 2
    home.refuse = False
    await eventually_async(lambda: len(home.instructed) == 2, what="it is tried again")


async def test_a_record_that_ended_unheard_leaves_the_index(home: Home) -> None:
    """As those do whose beginning nobody listened to."""
    flow = called(4, protocol=UDP)
    held = home.tracker._entries[RED]
    del held[next(key for key, entry in held.items() if flow_of(entry) == flow)]
    await home.done.carry_out(home.wanted("r1"))
    index = home.watch.index(RED)
    assert index is not None
    assert flow not in index
    assert home.results()["backend-gone", UDP, "re-judge", "deleted, or had ended: 1 of 1"] == 1


async def test_a_restarted_daemon_handles_what_changed_meanwhile() -> None:
    """It remembers what was promised; what it finds when it has read the table is handled then."""
    first = Home()
    await first.start(*EVERY)
    await first.tasks.stop()
    second = Home(first.store, first.tracker)
    try:
        await second.done.carry_out(second.wanted("r1"))
        await second.watch.watch(scopes(intent(one_vpc()), "h1"))
        await eventually_async(lambda: len(second.instructed) == 2, what="the flows are found")
        assert called(4, protocol=UDP) not in second.kernel()
    finally:
        await second.tasks.stop()


async def test_a_vpc_that_moves_away_is_moved_and_not_removed(home: Home) -> None:
    """Its guests stand elsewhere: their flows may go on there; then it is forgotten here."""
    moved = {f"vpcs__red__guests__{guest}__host": "h2" for guest in ("r1", "r3")}
    wanted = home.wanted(**moved)
    assert {row.change.kind for row in home.done.predict(wanted)} == {"backend-gone", "guest-moved"}
    await home.done.carry_out(wanted)
    assert home.wanted(**moved) == {}
    await home.done.carry_out({})
    assert home.done.predict({}) == ()


def row(number: int) -> Audit:
    """Return any row."""
    change = parse_change(f"guest-gone red/r1 172.16.1.{number % 256}")
    return Audit(datetime.now(UTC), "red", change, called(number % 60000), "keep", "kept")


def test_the_list_of_what_was_done_is_bounded() -> None:
    """The oldest rows leave."""
    home = Home()
    home.done.audit.extend(map(row, range(module.AUDIT + 5)))
    assert len(home.done.audit) == module.AUDIT
    assert home.done.audit[0].flow == called(5)
