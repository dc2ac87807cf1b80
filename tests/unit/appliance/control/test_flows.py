"""Instructions and flow records put together: what service nodes may order, what ends with a flow, what is taken over."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from appliance.control import flows as module
from appliance.control.flows import Flows
from appliance.control.instructions import PATIENCE
from appliance.control.tasks import Tasks
from appliance.kernel.conntrack import CtEvent
from appliance.kernel.conntrack_codec import CtEntry, entry_of
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.errors import KernelError
from appliance.model.facts import Flow, FlowKey, Instruction, Namespace, Netns, NftTable
from appliance.model.intent import Intent
from appliance.model.marks import Action, Mark
from appliance.state.diff import Change, Plan
from appliance.state.store import MemoryStore
from services.feature import Runtime
from services.flows.inband import Order, Request, Status
from services.steering import ServiceLink, service_links
from tests.support.fake_node import Journaled
from tests.support.intents import changed, intent, one_vpc, pair
from tests.support.waiting import eventually_async

RED, ZONE = Namespace("vpc-red"), 1101
ONE = FlowKey(IPv4Address("172.16.1.11"), 1000, IPv4Address("172.16.1.13"), 80, 6, ZONE)
TWO, THREE = replace(ONE, source_port=1001), replace(ONE, source_port=1002)
IDS, PROXY = 5, 6
REDIRECTED = Mark(1, 2, Action.REDIRECT, IDS).word


def steered() -> Intent:
    """Return a VPC with two service nodes on h1."""
    nodes = {
        name: {"id": number, "host": "h1", "interface": f"tap2{number}", "link": f"10.9.{number}.0/31"}
        for name, number in (("ids", IDS), ("proxy", PROXY))
    }
    return intent(changed(one_vpc(), "vpcs.red.service-nodes", nodes))


class Deaf(FakeConntrack):
    """Loses events when told to."""

    deaf = False

    def _tell(self, ns: Namespace, event: CtEvent) -> None:
        if not self.deaf:
            super()._tell(ns, event)

    def overrun(self) -> None:
        """Say that events were lost."""
        super()._tell(RED, CtEvent("overrun"))


class Home:
    """The flows of host h1 on a kernel in memory that outlives them."""

    def __init__(self) -> None:
        self.world, self.conntrack, self.store = FakeWorld(), Deaf(), MemoryStore()
        self.kernel = fake_kernel(self.world, self.conntrack)
        self.journal: list[tuple[str, object]] = []
        self.nft = Journaled("nft", self.kernel.ports["nft"], self.journal)
        self.kernel = replace(self.kernel, ports={**self.kernel.ports, "nft": self.nft})
        self.make_table()
        self.tasks = Tasks()
        self.start()

    def make_table(self) -> None:
        """Have the VPC's namespace and a table that can hold instructions."""
        netns: Plan[Any] = Plan((Change("create", None, Netns(RED)),))
        table: Plan[Any] = Plan((Change("create", None, NftTable(RED, "map instructions4 { type mark : mark; }")),))
        assert self.kernel.ports["namespaces"].apply(netns) == ()
        assert self.nft.apply(table) == ()
        self.journal.clear()

    def start(self) -> None:
        """Start anew, as a daemon that knows nothing."""
        self.flows = Flows(self.kernel, self.store, self.tasks)

    async def follow(self, wanted: Intent | None = None) -> None:
        """Be led to an intent, and wait until all flows are known."""
        self.flows.begin(0)
        await self.flows.follow(wanted or steered(), "h1", Runtime())
        if wanted is None:
            await eventually_async(lambda: self.flows.watch.whole(RED), what="the table is read")

    def link(self, name: str = "ids") -> ServiceLink:
        """Return the link of a service node."""
        return next(link for link in service_links(steered(), "h1") if link.name == name)

    def live(self, *flows: FlowKey, mark: int = REDIRECTED) -> None:
        """Have live records of flows."""
        for flow in flows:
            self.conntrack.add(RED, record(flow, mark))

    def end(self, *flows: FlowKey) -> None:
        """End flows."""
        assert self.conntrack.delete(RED, map(record, flows)) == len(flows)

    def rows(self) -> dict[FlowKey, Instruction]:
        """Return the instructions that the kernel has."""
        return {fact.flow: fact for fact in self.nft.read() if isinstance(fact, Instruction)}

    def give(self, *rows: Instruction, now: float = 0) -> None:
        """Instruct as an operator does."""
        self.flows.instructions.give(rows, now)

    async def order(self, *orders: tuple[Order, FlowKey], node: str = "ids") -> list[Status]:
        """Order as a service node does, all at once; it does not know zones."""
        asked = [Request(number, order, replace(flow, zone=0)) for number, (order, flow) in enumerate(orders, 1)]
        return list(await self.flows._ordered(self.link(node), asked))

    def transactions(self) -> list[list[str]]:
        """Return what each transaction did."""
        plans = [plan for _, plan in self.journal if isinstance(plan, Plan)]
        return [[change.operation for change in plan.changes] for plan in plans]


def back(flow: FlowKey) -> FlowKey:
    """Return the other direction."""
    return FlowKey(flow.destination, flow.destination_port, flow.source, flow.source_port, flow.protocol, flow.zone)


def record(flow: FlowKey, mark: int = 0) -> CtEntry:
    """Return a flow's record."""
    return replace(entry_of(Flow(flow, back(flow))), mark=mark)


@pytest.fixture
async def home(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    """Give one that follows its VPC."""
    monkeypatch.setattr(module, "GATHER", 0.01)
    made = Home()
    try:
        await made.follow()
        yield made
    finally:
        await made.tasks.stop()


# -- orders of service nodes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [Order.ALLOW, Order.DENY, Order.REJECT])
async def test_an_order_for_a_redirected_flow_is_done_and_carries_the_nodes_number(home: Home, order: Order) -> None:
    """So that it is known later who gave it."""
    home.live(ONE)
    assert await home.order((order, ONE)) == [Status.DONE]
    assert order.action is not None
    assert home.rows() == {ONE: Instruction(RED, ONE, order.action, IDS)}


async def test_a_flow_may_be_named_as_its_answers_look(home: Home) -> None:
    """The node sees both directions; the row is that of the first."""
    home.live(ONE)
    assert await home.order((Order.DENY, back(ONE))) == [Status.DONE]
    assert set(home.rows()) == {ONE}


async def test_there_is_nothing_to_order_for_a_flow_that_is_not_there(home: Home) -> None:
    """Nor is anything kept for it."""
    assert await home.order((Order.DENY, ONE)) == [Status.NO_SUCH_FLOW]
    assert home.rows() == {}


@pytest.mark.parametrize(
    "mark",
    [
        0,
        Mark(1, 2, Action.ALLOW).word,
        Mark(1, 2, Action.REDIRECT, PROXY).word,
        Mark(1, 2, Action.LIMIT, IDS).word,  # the number of a rate
        Mark(1, 2, Action.SAMPLE, IDS).word,
    ],
    ids=["never judged", "allowed", "redirected to another", "limited", "sampled"],
)
async def test_flows_that_are_not_redirected_to_the_node_are_none_of_its_business(home: Home, mark: int) -> None:
    """Whatever the number in their record stands for."""
    home.live(ONE, mark=mark)
    assert await home.order((Order.DENY, ONE)) == [Status.REFUSED]
    assert home.rows() == {}


@pytest.mark.parametrize(
    "given",
    [
        Instruction(RED, ONE, Action.DENY),
        Instruction(RED, ONE, Action.ALLOW, PROXY),
        Instruction(RED, ONE, Action.REDIRECT, PROXY),
        Instruction(RED, ONE, Action.LIMIT, IDS),
    ],
    ids=["operator", "other node", "redirected elsewhere", "limited"],
)
@pytest.mark.parametrize("order", [Order.ALLOW, Order.CLEAR])
async def test_what_others_instructed_is_not_for_the_node_to_change(
    home: Home, given: Instruction, order: Order
) -> None:
    """Though the flow was redirected to it before, and its record still says so."""
    home.live(ONE)
    home.give(given)
    assert await home.order((order, ONE)) == [Status.REFUSED]
    assert home.rows() == {ONE: given}


async def test_a_flow_that_an_operator_redirects_to_the_node_is_its_own(home: Home) -> None:
    """Before its next packet too."""
    home.live(ONE, mark=Mark(1, 2, Action.ALLOW).word)
    home.give(Instruction(RED, ONE, Action.REDIRECT, IDS))
    assert await home.order((Order.ALLOW, ONE)) == [Status.DONE]
    assert home.rows() == {ONE: Instruction(RED, ONE, Action.ALLOW, IDS)}


async def test_a_flow_that_passes_by_the_node_can_be_ended_by_it_later(home: Home) -> None:
    """Its record says ALLOW by then, but the row is the node's."""
    home.live(ONE)
    assert await home.order((Order.ALLOW, ONE)) == [Status.DONE]
    home.live(ONE, mark=Mark(2, 2, Action.ALLOW, IDS).word)
    assert await home.order((Order.DENY, ONE), node="proxy") == [Status.REFUSED]
    assert await home.order((Order.DENY, ONE)) == [Status.DONE]
    assert home.rows()[ONE].action is Action.DENY


async def test_a_node_that_forgot_an_order_may_give_another_before_the_flow_speaks(home: Home) -> None:
    """The record still says what the node had ordered."""
    home.live(ONE, mark=Mark(2, 2, Action.ALLOW, IDS).word)
    home.give(Instruction(RED, ONE, Action.ALLOW, IDS))
    assert await home.order((Order.CLEAR, ONE)) == [Status.DONE]
    assert home.rows() == {}
    assert await home.order((Order.CLEAR, ONE)) == [Status.DONE]
    assert await home.order((Order.DENY, ONE)) == [Status.DONE]
    assert home.rows()[ONE].action is Action.DENY


async def test_orders_that_come_together_are_one_transaction(home: Home) -> None:
    """And each is answered for itself."""
    home.live(ONE, TWO)
    home.give(Instruction(RED, TWO, Action.ALLOW, IDS))
    home.live(replace(THREE, source_port=9), mark=0)
    home.journal.clear()
    orders = ((Order.DENY, ONE), (Order.DENY, THREE), (Order.CLEAR, TWO), (Order.DENY, replace(THREE, source_port=9)))
    assert await home.order(*orders) == [Status.DONE, Status.NO_SUCH_FLOW, Status.DONE, Status.REFUSED]
    assert home.transactions() == [["create", "delete"]]
    assert set(home.rows()) == {ONE}


async def test_of_two_orders_for_a_flow_the_last_one_wins(home: Home) -> None:
    """Together or one after the other."""
    home.live(ONE)
    assert await home.order((Order.DENY, ONE), (Order.ALLOW, ONE)) == [Status.DONE] * 2
    assert home.rows()[ONE].action is Action.ALLOW
    assert home.transactions() == [["create"]]
    assert await home.order((Order.REJECT, ONE)) == [Status.DONE]
    assert home.rows()[ONE].action is Action.REJECT
    assert await home.order((Order.DENY, ONE), (Order.CLEAR, ONE)) == [Status.DONE] * 2
    assert home.rows() == {}


async def test_an_order_that_is_repeated_changes_nothing(home: Home) -> None:
    """The answer may have been lost."""
    home.live(ONE)
    await home.order((Order.DENY, ONE))
    home.journal.clear()
    assert await home.order((Order.DENY, ONE)) == [Status.DONE]
    assert home.transactions() == []


async def test_what_the_kernel_refuses_is_answered_as_failed(home: Home) -> None:
    """Only what would have been done: the others know already. Asked again, it is done."""
    home.live(ONE)
    home.nft.refusals = [errno.EAGAIN]
    assert await home.order((Order.DENY, ONE), (Order.DENY, TWO)) == [Status.FAILED, Status.NO_SUCH_FLOW]
    assert home.flows.instructions.of(RED) == {}
    assert await home.order((Order.DENY, ONE)) == [Status.DONE]


async def test_flows_that_cannot_be_looked_up_are_answered_as_failed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request has an answer."""
    home.live(ONE)

    def get(ns: Namespace, key: FlowKey) -> CtEntry | None:
        if key.source_port == TWO.source_port:
            raise KernelError("conntrack", ns, errno.ENODEV)
        return record(key, REDIRECTED)

    monkeypatch.setattr(home.conntrack, "get", get)
    assert await home.order((Order.DENY, ONE), (Order.DENY, TWO), (Order.DENY, THREE)) == [Status.FAILED] * 3
    assert home.rows() == {}


async def test_the_same_tuple_in_another_vpc_is_another_flow(home: Home) -> None:
    """A node's flows are those of its VPC."""
    home.live(replace(ONE, zone=ZONE + 1))
    assert await home.order((Order.DENY, ONE)) == [Status.NO_SUCH_FLOW]


# -- ends -------------------------------------------------------------------------------------------------------------


async def gone(home: Home, *flows: FlowKey) -> None:
    """Wait until the kernel has no instructions for these."""
    await eventually_async(lambda: not home.rows().keys() & set(flows), what="the instructions end", within=10)


async def test_instructions_of_flows_that_ended_are_removed_together(home: Home) -> None:
    """Those of others stay."""
    home.live(ONE, TWO, THREE)
    home.give(*(Instruction(RED, flow, Action.DENY) for flow in (ONE, TWO, THREE)))
    home.journal.clear()
    home.end(ONE, TWO)
    await gone(home, ONE, TWO)
    assert home.transactions() == [["delete", "delete"]]
    assert set(home.rows()) == {THREE}


async def test_the_end_of_a_flow_without_an_instruction_costs_nothing(home: Home) -> None:
    """Most flows have none."""
    home.live(ONE, TWO)
    home.give(Instruction(RED, TWO, Action.DENY))
    home.journal.clear()
    home.end(ONE, TWO)
    await gone(home, TWO)
    assert home.transactions() == [["delete"]]


@pytest.mark.parametrize("action", [Action.ALLOW, Action.DENY], ids=["another", "the same"])
async def test_what_is_given_while_an_end_is_carried_out_stays(home: Home, action: Action) -> None:
    """It is for the next flow with these ports, though it may say the same."""
    home.live(ONE, TWO)
    home.give(*(Instruction(RED, flow, Action.DENY) for flow in (ONE, TWO)))
    home.flows.watch.on_ended(lambda _, flow: home.give(Instruction(RED, ONE, action)) if flow == ONE else None)
    home.end(ONE, TWO)
    await gone(home, TWO)
    assert home.rows() == {ONE: Instruction(RED, ONE, action)}


async def test_what_the_kernel_refuses_to_remove_is_no_end_of_the_following(home: Home) -> None:
    """The next end is carried out."""
    home.live(ONE, TWO)
    home.give(*(Instruction(RED, flow, Action.DENY) for flow in (ONE, TWO)))
    home.nft.bursting = [KernelError("nft", "busy", errno.EBUSY)]
    home.end(ONE)
    await eventually_async(lambda: not home.nft.bursting, what="a removal fails")
    home.end(TWO)
    await gone(home, TWO)
    assert set(home.rows()) == {ONE}


async def test_after_lost_events_the_instructions_of_ended_flows_go(home: Home) -> None:
    """Also of a flow that came and went unheard; what waits for its first packet stays."""
    home.conntrack.deaf = True
    home.live(ONE)
    home.give(Instruction(RED, ONE, Action.DENY), Instruction(RED, TWO, Action.DENY))
    home.end(ONE)
    home.conntrack.deaf = False
    home.conntrack.overrun()
    await gone(home, ONE)
    assert set(home.rows()) == {TWO}


async def test_a_flow_that_never_comes_is_given_up_on(home: Home) -> None:
    """A kernel that cannot do it now is asked again."""
    home.give(Instruction(RED, ONE, Action.DENY))
    home.nft.bursting = [KernelError("nft", "busy", errno.EBUSY)]
    home.flows.tick(PATIENCE - 1)
    assert set(home.rows()) == {ONE}
    home.flows.tick(PATIENCE)
    assert set(home.rows()) == {ONE}
    home.flows.tick(PATIENCE)
    assert home.rows() == {}


async def test_a_vpc_that_comes_back_has_no_instructions_of_its_earlier_life(home: Home) -> None:
    """They went with its namespace, and so did its flows."""
    home.live(ONE)
    home.give(Instruction(RED, ONE, Action.DENY), Instruction(RED, TWO, Action.DENY))
    assert home.flows.instructions.facts((RED,))
    await home.follow(intent(pair()))
    await home.follow()
    assert home.flows.instructions.facts((RED,)) == ()


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_what_the_kernel_has_is_taken_over_once(home: Home) -> None:
    """By whoever comes next; what appears later without us is not ours."""
    home.live(ONE)
    await home.order((Order.ALLOW, ONE))
    await home.tasks.stop()
    home.start()
    home.flows.begin(0)
    assert set(home.flows.instructions.of(RED)) == {ONE}
    stranger = Instruction(RED, TWO, Action.DENY)
    home.nft.apply(Plan((Change("create", None, stranger),)))
    home.flows.begin(1)
    assert set(home.flows.instructions.of(RED)) == {ONE}


async def test_a_node_may_go_on_with_its_flow_after_a_restart(home: Home) -> None:
    """The row tells who gave it; and it ends with the flow, though nobody here saw it begin."""
    home.live(ONE)
    await home.order((Order.ALLOW, ONE))
    await home.tasks.stop()
    home.start()
    await home.follow()
    assert await home.order((Order.DENY, ONE), node="proxy") == [Status.REFUSED]
    assert await home.order((Order.DENY, ONE)) == [Status.DONE]
    home.end(ONE)
    await gone(home, ONE)


async def test_what_could_not_be_read_is_read_when_it_is_tried_again(home: Home) -> None:
    """Otherwise the next look at the table would remove every instruction."""
    home.live(ONE)
    home.give(Instruction(RED, ONE, Action.DENY))
    await home.tasks.stop()
    home.start()
    home.nft.broken = [KernelError("nft", "busy", errno.EBUSY)]
    with pytest.raises(KernelError):
        home.flows.begin(0)
    home.flows.begin(0)
    assert set(home.flows.instructions.of(RED)) == {ONE}


async def test_nothing_is_listened_to_before_an_intent_is_there() -> None:
    """Nor touched."""
    made = Home()
    assert made.tasks.names() == frozenset()
    assert made.journal == []
    await made.tasks.stop()
