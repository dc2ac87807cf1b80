"""Instructions for single flows: who they are for, how long they stand."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from appliance.control.instructions import PATIENCE, Instructions
from appliance.kernel.conntrack_codec import entry_of
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.kernel import Kernel
from appliance.model.errors import KernelError
from appliance.model.facts import Flow, FlowKey, Instruction, Namespace, Netns, NftTable
from appliance.model.marks import Action
from appliance.state.diff import Change, Plan

RED = Namespace("vpc-red")
ONE = FlowKey(IPv4Address("10.0.0.1"), 1000, IPv4Address("10.0.0.2"), 80, 6, 1101)
TWO = replace(ONE, source_port=1001)
BODY = "map instructions4 { type mark : mark; }"


@pytest.fixture
def kernel() -> Kernel:
    """Give a kernel in memory with the table of one VPC."""
    made = fake_kernel(FakeWorld(), FakeConntrack())
    made.ports["namespaces"].apply(Plan((Change("create", None, Netns(RED)),)))
    made.ports["nft"].apply(Plan((Change("create", None, NftTable(RED, BODY)),)))
    return made


def instructions(kernel: Kernel) -> Instructions:
    """Make the memory of a daemon that starts."""
    made = Instructions(kernel.ports["nft"], kernel.conntrack)
    made.adopt(0)
    return made


def rows(kernel: Kernel) -> set[Instruction]:
    """Return what the kernel has."""
    return {fact for fact in kernel.ports["nft"].read() if isinstance(fact, Instruction)}


def live(kernel: Kernel, *flows: FlowKey) -> None:
    """Have live records of flows."""
    assert isinstance(kernel.conntrack, FakeConntrack)
    for flow in flows:
        back = FlowKey(flow.destination, flow.destination_port, flow.source, flow.source_port, flow.protocol, flow.zone)
        kernel.conntrack.add(RED, entry_of(Flow(flow, back)))


def test_the_last_instruction_for_a_flow_wins(kernel: Kernel) -> None:
    """Also within one call."""
    made = instructions(kernel)
    deny, allow = Instruction(RED, ONE, Action.DENY), Instruction(RED, ONE, Action.ALLOW)
    made.give((allow, deny), 0)
    assert rows(kernel) == {deny}
    made.give((allow,), 0)
    assert rows(kernel) == {allow} == set(made.facts((RED,)))


def test_an_instruction_that_is_taken_back_leaves_the_others(kernel: Kernel) -> None:
    """And is counted once."""
    made = instructions(kernel)
    made.give((Instruction(RED, ONE, Action.DENY), Instruction(RED, TWO, Action.DENY)), 0)
    assert made.clear(RED, (ONE, ONE)) == 1
    assert made.clear(RED, (ONE,)) == 0
    assert rows(kernel) == {Instruction(RED, TWO, Action.DENY)}


def test_an_instruction_ends_with_its_flow(kernel: Kernel) -> None:
    """The end of a flow without one changes nothing."""
    made = instructions(kernel)
    made.give((Instruction(RED, ONE, Action.DENY),), 0)
    made.ended(RED, (TWO,))
    made.ended(Namespace("other"), (ONE,))
    assert len(rows(kernel)) == 1
    made.ended(RED, (ONE,))
    assert rows(kernel) == set()


def test_a_flow_that_never_comes_is_waited_for_so_long(kernel: Kernel) -> None:
    """One that came keeps its instruction."""
    live(kernel, TWO)
    made = instructions(kernel)
    made.give((Instruction(RED, ONE, Action.DENY), Instruction(RED, TWO, Action.DENY)), 0)
    made.expire(PATIENCE - 1)
    assert len(rows(kernel)) == 2
    made.expire(PATIENCE)
    assert {row.flow for row in rows(kernel)} == {TWO}


def test_a_flow_that_came_late_is_no_longer_waited_for(kernel: Kernel) -> None:
    """Its instruction ends with it and not before."""
    made = instructions(kernel)
    made.give((Instruction(RED, ONE, Action.DENY),), 0)
    live(kernel, ONE)
    made.expire(PATIENCE)
    made.expire(3 * PATIENCE)
    assert len(rows(kernel)) == 1


def test_a_restarted_daemon_adopts_what_the_kernel_has(kernel: Kernel) -> None:
    """And gives up on what belongs to nobody."""
    live(kernel, ONE)
    instructions(kernel).give((Instruction(RED, ONE, Action.DENY), Instruction(RED, TWO, Action.DENY)), 0)
    made = instructions(kernel)
    assert set(made.of(RED)) == {ONE, TWO}
    made.expire(PATIENCE)
    assert set(made.of(RED)) == {ONE}


def test_after_lost_events_the_rows_of_ended_flows_go(kernel: Kernel) -> None:
    """What waits for its first packet stays."""
    live(kernel, ONE)
    made = instructions(kernel)
    made.give((Instruction(RED, ONE, Action.DENY), Instruction(RED, TWO, Action.DENY)), 0)
    assert isinstance(kernel.conntrack, FakeConntrack)
    kernel.conntrack.delete(RED, list(kernel.conntrack.dump(RED)))
    made.check(RED)
    assert set(made.of(RED)) == {TWO}


def test_what_the_kernel_refuses_is_not_remembered(kernel: Kernel) -> None:
    """The caller hears of it."""
    made = instructions(kernel)
    nowhere = Namespace("vpc-nowhere")
    with pytest.raises(KernelError):
        made.give((Instruction(nowhere, ONE, Action.DENY),), 0)
    assert made.facts((nowhere,)) == ()
