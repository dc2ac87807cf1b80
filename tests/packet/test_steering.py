"""Flows through a service node, packet by packet: the way, the record, what is left when the node is not there."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.control.instruct import InBand
from appliance.control.ping import ping
from appliance.control.tasks import Tasks
from appliance.model.facts import Instruction, Steer
from appliance.model.marks import Action
from services.flows.inband import Order, Request, Status
from tests.packet.steering import GUESTS, NODE, PORT, R1, R3, RED, REDIRECTED, ZONE, Talk, Vpc, flow
from tests.support.waiting import eventually, eventually_async

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.steering import ServiceLink
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel


@pytest.fixture
def vpc(world: World) -> Iterator[Vpc]:
    """Build it."""
    made = Vpc.build(world)
    yield made
    made.kernel.close()


def test_a_redirected_connection_goes_through_the_node_in_both_directions(vpc: Vpc) -> None:
    """Each packet passes the edge twice and has one record; nothing about it is invalid, however much is sent."""
    with closing(Talk(vpc)) as talk:
        assert talk.say(1 << 20)
        there, back = vpc.passed(talk.flow)
        assert min(there, back) > 20
        (record,) = vpc.records()
        assert "ESTABLISHED" in record
        assert f"mark={REDIRECTED} " in record
        talk.end()
    eventually(lambda: "TIME_WAIT" in vpc.records()[0], what="the record follows the end of the connection")
    assert vpc.counted("invalid") == 0


def test_every_packet_passes_the_node_once(vpc: Vpc) -> None:
    """As many as the edge steered; what comes back from the node is not steered again."""
    with closing(Talk(vpc)) as talk:
        assert talk.say(100)
        talk.end()
        eventually(lambda: sum(vpc.passed(talk.flow)) == vpc.counted("steered"), what="all have passed")


def test_other_flows_of_the_same_guests_do_not_see_the_node(vpc: Vpc) -> None:
    """The mark is of the flow."""
    with closing(Talk(vpc, PORT + 1)) as talk:
        assert talk.say()
    assert vpc.node.packets() == {}
    assert vpc.counted("steered") == 0


def test_a_reset_goes_through_the_node_too(vpc: Vpc) -> None:
    """Seen twice by the record, it is still one end."""
    with closing(Talk(vpc)) as talk:
        assert talk.say()
        talk.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        before, _ = vpc.passed(talk.flow)
        talk.client.close()
        eventually(lambda: " CLOSE " in vpc.records()[0], what="the record is closed")
        # An acknowledgement may have been on its way when they were counted.
        eventually(lambda: vpc.passed(talk.flow)[0] > before, what="the reset passed")
        eventually(lambda: sum(vpc.passed(talk.flow)) == vpc.counted("steered"), what="all have passed")
    assert vpc.counted("invalid") == 0


def test_datagrams_go_through_the_node(vpc: Vpc) -> None:
    """One record, both directions."""
    with vpc.socket(R3, socket.SOCK_DGRAM, PORT) as server, vpc.socket(R1, socket.SOCK_DGRAM) as client:
        client.sendto(b"there", (GUESTS[R3][1], PORT))
        data, address = server.recvfrom(100)
        assert (data, address) == (b"there", client.getsockname())
        server.sendto(b"back", address)
        assert client.recv(100) == b"back"
        assert vpc.passed(flow(client.getsockname()[1], 17)) == (1, 1)
    assert len(vpc.records()) == 1


def test_nobody_is_told_a_better_way(vpc: Vpc) -> None:
    """The node sends back on the link on which it got packets, which a router may take for a mistake of the sender."""
    with closing(Talk(vpc)) as talk:
        assert talk.say(1 << 16)
    for ns in (R1, R3, NODE, RED):
        names, values = [line.split() for line in _icmp(vpc, ns)]
        seen = dict(zip(names, values, strict=True))
        assert (seen["InRedirects"], seen["OutRedirects"]) == ("0", "0")


def _icmp(vpc: Vpc, ns: str) -> list[str]:
    lines = vpc.world.run(ns, "cat", "/proc/self/net/snmp").splitlines()
    return [line for line in lines if line.startswith("Icmp:")]


def test_a_connection_goes_on_without_the_node_once_its_mark_is_gone(vpc: Vpc) -> None:
    """And with it when the mark comes: no packet is lost and no reset is sent."""
    with closing(Talk(vpc)) as talk:
        for mark in (0, REDIRECTED, 0):
            vpc.mark(mark, talk.port)
            assert talk.say()  # what was on its way through the node has arrived
            before = vpc.passed(talk.flow)
            assert talk.say(1 << 18)
            visits = [after - was for after, was in zip(vpc.passed(talk.flow), before, strict=True)]
            assert [visit > 5 for visit in visits] == [mark == REDIRECTED] * 2
        talk.end()
    assert vpc.counted("invalid") == 0


@pytest.mark.parametrize(
    ("there", "again"),
    [
        ("address del 10.9.0.1/31 dev e0", "address add 10.9.0.1/31 dev e0"),
        ("link set e0 down", "link set e0 up"),
    ],
    ids=["without its address", "down"],
)
def test_what_should_go_through_a_node_that_is_away_goes_nowhere(vpc: Vpc, there: str, again: str) -> None:
    """Not past it: that is for the intent to say. The connection outlives it, with the node or with the mark taken off."""
    with closing(Talk(vpc)) as talk, closing(Talk(vpc, PORT + 1)) as other:
        assert talk.say()
        vpc.ip(NODE, there)
        vpc.ip(RED, "neigh flush dev tap7")
        assert talk.silent()
        assert other.say()
        vpc.mark(0, talk.port)
        assert talk.hear(1) == b"x"
        assert talk.say()
        vpc.ip(NODE, again, "route replace default via 10.9.0.0")
        vpc.mark(REDIRECTED, talk.port)
        before = vpc.passed(talk.flow)
        assert talk.say()
        assert vpc.passed(talk.flow) > before
        talk.end()


def test_without_its_link_a_node_is_not_passed_by_until_the_link_is_mended(vpc: Vpc) -> None:
    """The kernel takes the route with the device, and what drops in its place stays."""
    with closing(Talk(vpc)) as talk:
        assert talk.say()
        vpc.ip(RED, "link set tap7 down")
        assert talk.silent()
        assert vpc.lead().changed["steers"] == 1
        assert talk.hear(1) == b"x"
        assert talk.say()
        talk.end()


def test_what_the_node_drops_is_dropped(vpc: Vpc) -> None:
    """It is no copy that it gets."""
    with closing(Talk(vpc)) as talk:
        assert talk.say()
        vpc.node.run("nft", "insert", "rule", "inet", "node", "forward", "drop")
        assert talk.silent()


def test_the_steer_goes_before_its_link_can_be_given_back(vpc: Vpc) -> None:
    """Taking the service node out of the intent leaves nothing, and the guests still talk."""
    vpc.facts = frozenset(f for f in vpc.facts if "tap7" not in repr(f) or "chain" in repr(f))
    assert not any(isinstance(fact, Steer) for fact in vpc.facts)
    outcome = vpc.lead()
    assert {"steers", "links", "addresses"} <= outcome.changed.keys()
    assert "tap7" in vpc.world.run("", "ip", "link")
    assert "0x53" not in vpc.world.run(RED, "ip", "rule")
    with closing(Talk(vpc, PORT + 1)) as talk:
        assert talk.say()


# -- with the program of flow records ---------------------------------------------------------------------------------


@pytest.fixture
def judged(world: World) -> Iterator[Vpc]:
    """Build it with the rules of an intent."""
    made = Vpc.build(world, judged=True)
    yield made
    made.kernel.close()


def test_a_redirect_of_the_intent_leads_through_the_node(judged: Vpc) -> None:
    """Both directions, each packet once, and nothing else of these guests."""
    with closing(Talk(judged)) as talk, closing(Talk(judged, PORT + 1)) as other:
        assert talk.say(1 << 20)
        assert other.say()
        talk.end()
        eventually(lambda: sum(judged.passed(talk.flow)) == judged.counted("redirected"), what="all have passed")
        assert {key.source_port for key in judged.node.packets()} == {talk.port, PORT}
    assert judged.counted("invalid") == 0


def test_an_instruction_takes_a_live_flow_off_the_node_and_puts_it_back(judged: Vpc) -> None:
    """Both directions obey at once, and no octet is lost; a denied one falls silent."""
    with closing(Talk(judged)) as talk:
        assert talk.say()
        key = replace(talk.flow, zone=ZONE)
        for order in (Instruction(RED, key, Action.ALLOW), None):
            judged.lead(*([order] if order else []))
            assert talk.say()
            before = judged.passed(talk.flow)
            assert talk.say(1 << 18)
            visits = [after - was for after, was in zip(judged.passed(talk.flow), before, strict=True)]
            assert [visit > 5 for visit in visits] == [order is None] * 2
        judged.lead(Instruction(RED, key, Action.DENY))
        assert talk.silent()
    assert judged.counted("invalid") == 0


async def test_a_node_is_reached_and_heard_through_the_rules(judged: Vpc) -> None:
    """An echo comes back, and a request comes in and is answered, whatever the firewall says about guests."""
    edge = judged.kernel.namespaces
    await eventually_async(lambda: ping(edge, RED, "tap7", judged.link.node, 1), what="the node answers")
    asked: list[Request] = []

    async def instruct(link: ServiceLink, requests: Sequence[Request]) -> Sequence[Status]:
        assert link == judged.link
        asked.extend(requests)
        facts = [Instruction(RED, replace(one.flow, zone=ZONE), Action.ALLOW) for one in requests]
        judged.lead(*facts)
        return [Status.DONE] * len(requests)

    tasks = Tasks()
    ears = InBand(edge, tasks, instruct)
    try:
        await ears.watch([judged.link])
        await eventually_async(lambda: ears.open)
        with closing(await asyncio.to_thread(Talk, judged)) as talk:
            assert await asyncio.to_thread(talk.say)
            (answer,) = await asyncio.to_thread(judged.node.instruct, Order.ALLOW, talk.flow)
            assert (answer.status, asked) == (Status.DONE, [Request(answer.number, Order.ALLOW, talk.flow)])
            assert await asyncio.to_thread(talk.say)
            before = judged.passed(talk.flow)
            assert await asyncio.to_thread(talk.say, 1 << 18)
            assert judged.passed(talk.flow) == before
    finally:
        await tasks.stop()
