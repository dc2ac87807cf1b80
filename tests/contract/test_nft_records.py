"""Flow records under real packets: who is judged again, when, and by what (design 0004)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.nft import NftPort
from appliance.kernel.nft_records import Draft, Records
from appliance.model.facts import Engine, FlowKey, Instruction, Namespace, NftSet, NftTable
from appliance.model.marks import Action
from appliance.state.diff import Change, Plan
from tests.contract.boxes import reach
from tests.contract.packets import CLIENT, FENCE, LEFT, RED, RIGHT, SERVER, ZONE, Road, Talk
from tests.support.flow_body import flow_body
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel

Fact = NftTable | NftSet | Engine | Instruction
TABLE = NftTable(RED, flow_body({1: "5000-5999", 2: "6000-6999", 3: str(FENCE), 4: "2048"}, zone=ZONE))
FIRST, *OTHERS = (Engine(RED, number, "first") for number in (1, 2, 3, 4))
BASE: frozenset[Fact] = frozenset({TABLE, FIRST, *OTHERS})
AGAIN = replace(FIRST, policy="second")


@pytest.fixture
def road(world: World) -> Iterator[Road]:
    """Build the road."""
    made = Road(world)
    yield made
    made.close()


@pytest.fixture
def port(road: Road) -> Iterator[NftPort]:
    """Make the table, with four engines."""
    made = NftPort(road.world.namespaces)
    assert reach(made, BASE) == ()
    assert made.read() == BASE
    yield made
    made.close()


def facts(*given: Fact) -> frozenset[Fact]:
    """Write facts short."""
    return frozenset(given)


def instruct(port: NftPort, instruction: Instruction) -> None:
    """Give one instruction, as the reconciler does for a difference."""
    assert port.apply(Plan((Change("create", None, instruction),))) == ()


def rechecked(port: NftPort) -> int:
    """Return how many trips of the slow path were made by flows that had been judged before."""
    return port.counters(RED)["rechecked"][0]


def test_a_bump_has_every_flow_of_the_engine_judged_again_once_and_no_other(road: Road, port: NftPort) -> None:
    """Active ones at their next packet, whichever side sends it; an idle one costs nothing until it speaks."""
    talks = [road.talk(4000 + number, 5000 + number, version) for number, version in enumerate((4, 6, 4, 4))]
    other = road.talk(4100, 6000)
    for talk in (*talks, other):
        assert road.ask(talk)
        assert road.answer(talk)
    marks = {talk.key: road.mark(talk) for talk in (*talks, other)}
    assert reach(port, BASE - {FIRST} | {AGAIN}) == ()
    generation = port.generations(RED)[1]
    *active, idle = talks
    for _ in range(3):
        for talk in active:
            assert road.answer(talk)
            assert road.ask(talk)
        assert road.ask(other)
    assert rechecked(port) == len(active)
    assert [mark.generation for talk in active if (mark := road.mark(talk))] == [generation] * len(active)
    assert road.mark(idle) == marks[idle.key]
    assert road.mark(other) == marks[other.key]
    assert road.ask(idle)
    assert rechecked(port) == len(talks)


@pytest.mark.parametrize("version", [4, 6])
def test_an_instruction_stops_a_live_flow_and_lets_it_go_again(road: Road, port: NftPort, version: int) -> None:
    """In both directions, whichever packet comes first; no other flow of the engine is stopped; then the policy again."""
    talk, other = road.talk(4000, 5000, version), road.talk(4001, 5001, version)
    for one in (talk, other):
        assert road.ask(one)
        assert road.answer(one)
    for action in (Action.DENY, Action.ALLOW, Action.DENY):
        assert reach(port, BASE | {talk.says(action)}) == ()
        assert port.read() == BASE | {talk.says(action)}
        assert road.answer(talk) == road.ask(talk) == (action == Action.ALLOW)
        assert road.ask(other)
    assert reach(port, BASE) == ()
    assert port.read() == BASE
    assert road.ask(talk)
    assert road.answer(talk)


def test_an_instruction_can_come_before_the_first_packet(road: Road, port: NftPort) -> None:
    """No record names an engine, so none is bumped; the object stands in the record for whoever obeys it."""
    stopped, sampled = road.talk(4000, 5000), road.talk(4001, 5001)
    before = port.generations(RED)
    assert reach(port, BASE | facts(stopped.says(Action.DENY), sampled.says(Action.SAMPLE, 7))) == ()
    assert port.generations(RED) == before
    assert not road.ask(stopped)
    assert road.ask(sampled)
    mark = road.mark(sampled)
    assert mark is not None
    assert (mark.engine, mark.action, mark.object) == (1, Action.SAMPLE, 7)


def test_a_first_packet_on_its_way_meanwhile_is_judged_again(
    road: Road, port: NftPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was judged after its record was looked for, and before the instruction was there."""
    talk, commit = road.talk(4000, 5000), Records.commit
    asked: list[bool] = []

    def late(self: Records, ns: Namespace, generation: int, draft: Draft) -> None:
        if not asked:
            asked.append(road.ask(talk))
        commit(self, ns, generation, draft)

    monkeypatch.setattr(Records, "commit", late)
    instruct(port, talk.says(Action.DENY))
    assert asked == [True]
    assert not road.ask(talk)


def test_an_instruction_bumps_the_engine_of_its_flow_alone(road: Road, port: NftPort) -> None:
    """And one that is there already bumps nothing."""
    talk = road.talk(4000, 5000)
    assert road.ask(talk)
    before = port.generations(RED)
    instruct(port, talk.says(Action.DENY))
    assert not road.ask(talk)
    assert port.generations(RED) == {**before, 1: before[1] % 4095 + 1}
    instruct(port, talk.says(Action.DENY))
    assert port.generations(RED) == {**before, 1: before[1] % 4095 + 1}


def test_instructions_together_with_sets_follow_them(road: Road, port: NftPort) -> None:
    """The policy denies one flow, an instruction another; deleting a set's elements and instructions undoes both."""
    denied, stopped, spared = (road.talk(4000 + number, 5000 + number) for number in range(3))
    for talk in (denied, stopped, spared):
        assert road.ask(talk)
    policy = NftSet(RED, "denied", frozenset({"5000", "5002"}))
    desired = BASE - {FIRST} | facts(AGAIN, policy, stopped.says(Action.DENY), spared.says(Action.ALLOW))
    assert reach(port, desired) == ()
    assert port.read() == desired
    assert [road.ask(talk) for talk in (denied, stopped, spared)] == [False, False, True]
    assert reach(port, BASE) == ()
    assert port.read() == BASE
    assert [road.ask(talk) for talk in (denied, stopped, spared)] == [True, True, True]


def test_a_table_that_is_made_anew_keeps_instructions_and_has_all_judged_again(road: Road, port: NftPort) -> None:
    """Every engine goes on from its generation."""
    talk, stopped = road.talk(4000, 5000), road.talk(4001, 5001, 6)
    for one in (talk, stopped):
        assert road.ask(one)
    instruct(port, stopped.says(Action.DENY))
    before = port.generations(RED)
    other = replace(TABLE, body=TABLE.body + "counter spare { }\n")
    desired = BASE - {TABLE} | facts(other, stopped.says(Action.DENY))
    assert reach(port, desired) == ()
    assert port.read() == desired
    assert port.generations(RED) == {engine: generation % 4095 + 1 for engine, generation in before.items()}
    assert road.ask(talk)
    assert rechecked(port) == 1
    assert not road.ask(stopped)


def test_an_icmp_error_is_judged_as_its_flow(road: Road, port: NftPort) -> None:
    """Also when it is the first packet after a bump: the record that it belongs to is that of the flow."""
    talk = road.talk(4000, 5000)
    assert road.ask(talk)
    _refuse(road, talk)
    assert _refused(road, talk)
    assert rechecked(port) == 0
    instruct(port, talk.says(Action.DENY))
    _refuse(road, talk)
    assert not _refused(road, talk)
    assert rechecked(port) == 1
    instruct(port, talk.says(Action.ALLOW))
    _refuse(road, talk)
    assert _refused(road, talk)
    assert rechecked(port) == 2


def _refuse(road: Road, talk: Talk) -> None:
    """Have the server say that nobody listens there (RFC 792: type 3, code 3, with the head of the packet)."""
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 31, 0, 0, 64, 17, 0, CLIENT[4].packed, SERVER[4].packed)
    head += struct.pack(">HHHH", talk.key.source_port, talk.key.destination_port, 11, 0)
    total = sum(struct.unpack(">14H", head)) + 0x0303
    total = (total & 0xFFFF) + (total >> 16)
    with road.world.namespaces.in_namespace(RIGHT):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with raw:
        raw.sendto(struct.pack(">BBHI", 3, 3, ~(total + (total >> 16)) & 0xFFFF, 0) + head, (str(CLIENT[4]), 0))


def _refused(road: Road, talk: Talk) -> bool:
    """Tell whether the client has heard it, once all is through."""
    road.pass_through()
    return talk.client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_an_echo_is_a_flow(road: Road, port: NftPort) -> None:
    """Its identifier stands for its source port, its type and code for its destination port."""
    key = FlowKey(CLIENT[4], 77, SERVER[4], 8 << 8, 1, ZONE)
    ping = ("ping", "-c1", "-W1", "-e", "77", str(SERVER[4]))
    road.world.run(LEFT, *ping)
    instruct(port, Instruction(RED, key, Action.DENY))
    with pytest.raises(AssertionError, match="100% packet loss"):
        road.world.run(LEFT, *ping)
    assert port.apply(Plan((Change("delete", Instruction(RED, key, Action.DENY), None),))) == ()
    road.world.run(LEFT, *ping)


def test_a_stream_stands_still_and_goes_on(road: Road, port: NftPort) -> None:
    """TCP too: what was sent meanwhile arrives after the instruction is gone."""
    with road.world.namespaces.in_namespace(RIGHT):
        listener = socket.create_server((str(SERVER[4]), 5000))
    with road.world.namespaces.in_namespace(LEFT):
        client = socket.create_connection((str(SERVER[4]), 5000))
    server, (_, number) = listener.accept()
    server.setblocking(False)
    with listener, client, server:
        instruction = Instruction(RED, FlowKey(CLIENT[4], number, SERVER[4], 5000, 6, ZONE), Action.DENY)
        instruct(port, instruction)
        client.send(b"meanwhile")
        road.pass_through()
        with pytest.raises(BlockingIOError):
            server.recv(64)
        assert reach(port, BASE) == ()
        assert eventually(lambda: _read(server), what="what was sent meanwhile arrives") == b"meanwhile"


def _read(end: socket.socket) -> bytes:
    """Read what is there."""
    try:
        return end.recv(64)
    except BlockingIOError:
        return b""
