"""Instructions of service nodes, over real sockets: who is heard, what is answered, what is only counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from appliance.control.instruct import Bucket, InBand
from appliance.control.tasks import Tasks
from appliance.model.facts import FlowKey, Namespace
from appliance.model.marks import INSTRUCT_PORT
from services.flows.inband import Order, Request, Status, decode_answer, encode_request
from services.steering import ServiceLink
from tests.support.service_node import ServiceNode
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from tests.contract.worlds import World

LINK = ServiceLink("red", "ids", 1, "n0", IPv4Interface("10.9.0.0/31"), IPv4Address("10.9.0.1"))
NODE, GUEST = Namespace("node"), Namespace("guest")
FLOWS = [FlowKey(IPv4Address("172.16.1.11"), port, IPv4Address("172.16.1.13"), 80, 6) for port in range(1000, 1300)]


def test_a_bucket_lets_so_many_pass_and_fills_with_time() -> None:
    """No more than a second's worth at once."""
    bucket = Bucket(rate=10, held=10, filled=0.0)
    assert [bucket.take(0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [bucket.take(0.25) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.0) for _ in range(12)] == [True] * 10 + [False] * 2


class Owner:
    """Whoever carries instructions out: keeps what it was asked, answers what the test wants."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.calls = 0
        self.status: Status | None = Status.DONE
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, link: ServiceLink, requests: Sequence[Request]) -> Sequence[Status]:
        """Take requests; a status of None is a bug."""
        assert link == LINK
        self.calls += 1
        self.asked += requests
        await self.gate.wait()
        if self.status is None:
            raise RuntimeError("a bug")
        return [self.status for _ in requests]


@pytest.fixture
def owner() -> Owner:
    """Give one that does all it is asked."""
    return Owner()


@pytest.fixture
def node(world: World) -> ServiceNode:
    """Give a service node on a link to the edge of VPC red."""
    world.make(LINK.ns, NODE)
    wire(world)
    return made(world)


def wire(world: World, link: str = "n0", other: Namespace = NODE, address: str = "10.9.0.1/31") -> None:
    """Join the edge and another namespace."""
    far = link.replace("0", "1")
    world.run(LINK.ns, "ip", "link", "add", link, "type", "veth", "peer", "name", far, "netns", str(world.path(other)))
    world.run(LINK.ns, "ip", "link", "set", link, "up")
    world.run(other, "ip", "link", "set", far, "up")
    world.run(other, "ip", "address", "add", address, "dev", far)
    if other == NODE:
        world.run(LINK.ns, "ip", "address", "add", "10.9.0.0/31", "dev", link)
        made(world).start()


def made(world: World) -> ServiceNode:
    """Return the node as the test uses it."""
    return ServiceNode(world.path(NODE), "n1", LINK.node, LINK.edge.ip)


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """Give tasks that end with the test."""
    tasks = Tasks()
    yield tasks
    await tasks.stop()


@pytest.fixture
async def listening(world: World, node: ServiceNode, tasks: Tasks, owner: Owner) -> InBand:
    """Give open ears."""
    found = InBand(world.namespaces, tasks, owner)
    await found.watch([LINK])
    await eventually_async(lambda: found.open == {LINK})
    return found


pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("status", Status)
async def test_a_request_is_carried_out_and_then_answered(
    listening: InBand, node: ServiceNode, owner: Owner, status: Status
) -> None:
    """With what became of it, and not before."""
    owner.status = status
    owner.gate.clear()
    with node.socket() as link:
        link.sendto(encode_request(Request(7, Order.ALLOW, FLOWS[0])), ("10.9.0.0", INSTRUCT_PORT))
        await eventually_async(lambda: owner.asked == [Request(7, Order.ALLOW, FLOWS[0])])
        link.setblocking(False)
        with pytest.raises(BlockingIOError):
            link.recv(100)
        owner.gate.set()
        answer = decode_answer(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(link, 100), 10))
    assert answer is not None
    assert (answer.number, answer.status) == (7, status)
    assert listening.counts[LINK].requests == 1


async def test_many_requests_are_handed_over_together_and_in_order(
    listening: InBand, node: ServiceNode, owner: Owner
) -> None:
    """The last of two for one flow wins."""
    answers = await asyncio.to_thread(node.instruct, Order.DENY, *FLOWS)
    assert {answer.status for answer in answers} == {Status.DONE}
    assert [request.flow for request in owner.asked] == FLOWS
    assert owner.calls < len(FLOWS)
    assert listening.counts[LINK].requests == len(FLOWS)


async def test_a_bug_behind_it_is_an_answer_too(listening: InBand, node: ServiceNode, owner: Owner) -> None:
    """And listening goes on."""
    owner.status = None
    with capture_logs() as logs:
        (answer,) = await asyncio.to_thread(node.instruct, Order.DENY, FLOWS[0])
    assert answer.status is Status.FAILED
    assert [entry["event"] for entry in logs] == ["instruct-failed"]
    assert listening.counts[LINK].failed == 1
    owner.status = Status.DONE
    (answer,) = await asyncio.to_thread(node.instruct, Order.DENY, FLOWS[0])
    assert answer.status is Status.DONE


async def test_what_is_malformed_is_counted_and_answered_where_it_has_a_number(
    listening: InBand, node: ServiceNode, owner: Owner
) -> None:
    """It never reaches the owner."""
    with node.socket() as link:
        for octets in (b"", b"EW", bytes(24), b"EW\x02\x01\0\0\0\x09later", b"x" * 2000):
            link.sendto(octets, ("10.9.0.0", INSTRUCT_PORT))
        answer = decode_answer(await asyncio.to_thread(link.recv, 100))
    assert answer is not None
    assert (answer.number, answer.status) == (9, Status.MALFORMED)
    await eventually_async(lambda: listening.counts[LINK].malformed == 5)
    assert owner.asked == []


async def test_only_the_node_itself_is_heard(world: World, listening: InBand, node: ServiceNode, owner: Owner) -> None:
    """Another address on its link, or the edge itself, is counted; its address on another link is not for us at all."""
    node.run("ip", "address", "add", "10.9.9.9/32", "dev", "lo")
    world.run(LINK.ns, "ip", "route", "add", "10.9.9.9/32", "dev", "n0")
    world.make(GUEST)
    wire(world, "g0", GUEST, "10.9.0.1/31")
    for device in ("all", "g0"):
        world.run(LINK.ns, "sysctl", "-qw", f"net.ipv4.conf.{device}.rp_filter=0")
    octets = encode_request(Request(1, Order.ALLOW, FLOWS[0]))
    for ns, source in ((GUEST, "10.9.0.1"), (NODE, "10.9.9.9"), (LINK.ns, "10.9.0.0")):
        with world.namespaces.in_namespace(ns):
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with stranger:
            stranger.bind((source, 0))
            stranger.sendto(octets, ("10.9.0.0", INSTRUCT_PORT))
    await eventually_async(lambda: listening.counts[LINK].foreign == 2)
    (answer,) = await asyncio.to_thread(node.instruct, Order.CLEAR, FLOWS[1])
    assert answer.status is Status.DONE
    assert [request.flow for request in owner.asked] == FLOWS[1:2]
    assert listening.counts[LINK].foreign == 2


async def test_too_many_are_dropped_counted_and_logged_once_a_second(
    world: World, node: ServiceNode, tasks: Tasks, owner: Owner
) -> None:
    """The others are carried out."""
    found = InBand(world.namespaces, tasks, owner, rate=20)
    await found.watch([LINK])
    await eventually_async(lambda: found.open)
    octets = encode_request(Request(1, Order.ALLOW, FLOWS[0]))
    with capture_logs() as logs, node.socket() as link:
        for _ in range(200):
            link.sendto(octets, ("10.9.0.0", INSTRUCT_PORT))
        await eventually_async(lambda: found.counts[LINK].requests + found.counts[LINK].limited == 200)
        await eventually_async(lambda: logs)
    assert found.counts[LINK].limited >= 100
    assert len(owner.asked) == found.counts[LINK].requests >= 20
    assert {entry["event"] for entry in logs} == {"instructions-refused"}
    assert len(logs) <= 3


async def test_a_link_that_comes_later_is_opened_then(world: World, tasks: Tasks, owner: Owner) -> None:
    """Namespace, device and address may all be missing at first."""
    found = InBand(world.namespaces, tasks, owner)
    await found.watch([LINK])
    world.make(LINK.ns, NODE)
    wire(world)
    await eventually_async(lambda: found.open == {LINK})
    (answer,) = await asyncio.to_thread(made(world).instruct, Order.ALLOW, FLOWS[0])
    assert answer.status is Status.DONE


async def test_a_device_that_was_made_anew_is_heard_again(
    world: World, listening: InBand, node: ServiceNode, owner: Owner
) -> None:
    """A socket stays with the device it was bound to."""
    await asyncio.to_thread(world.run, LINK.ns, "ip", "link", "delete", "n0")
    await eventually_async(lambda: not listening.open)
    node.run("nft", "flush", "ruleset")
    wire(world)
    await eventually_async(lambda: listening.open)
    (answer,) = await asyncio.to_thread(node.instruct, Order.ALLOW, FLOWS[0])
    assert answer.status is Status.DONE
    assert len(owner.asked) == 1


async def test_a_namespace_that_goes_is_let_go_at_once(world: World, listening: InBand) -> None:
    """A socket would keep it alive: its devices would stay, and the other ends of its cables."""
    world.namespaces.delete(LINK.ns)
    await eventually_async(lambda: "n1" not in world.run(NODE, "ip", "-o", "link"))
    await eventually_async(lambda: not listening.open)


async def test_a_link_that_is_no_longer_wanted_is_closed(listening: InBand, tasks: Tasks) -> None:
    """Links that stay are not disturbed."""
    before = tasks.names()
    await listening.watch([LINK])
    assert tasks.names() == before
    assert listening.open == {LINK}
    await listening.watch([])
    assert (tasks.names(), listening.open, dict(listening.counts)) == (frozenset(), frozenset(), {})
