"""The whole daemon of one host on the real kernel: what live flows notice of commits, deaths and restarts.

BGP engines are in memory, so the client reaches public addresses by a route made by hand; all else is what runs in
production: kernel ports, health checks, flow records, instructions of service nodes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from appliance.control.daemon import Daemon
from appliance.control.tasks import Tasks
from appliance.kernel.kernel import Kernel
from appliance.kernel.nft import NftPort
from appliance.model.facts import HOST, FlowKey, Instruction
from appliance.model.marks import Action
from appliance.state.store import MemoryStore
from routing.engines.engine import Synced
from services.flows.inband import Order, Status
from services.place import Place
from tests.packet.vpcs import RED, Box, address, box, flow, vpc
from tests.support.fake_engine import FakeRoom
from tests.support.intents import Tree, intent, to_yaml
from tests.support.namespaces import NAMED
from tests.support.service_node import ServiceNode
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

VIP, SERVED = "203.0.113.80", 8080
#: Short: what is dropped in silence is waited for.
SILENCE = 0.5
#: Long enough for an answer on a machine that does something else.
PATIENCE = 10.0


class Echo(asyncio.DatagramProtocol):
    """Sends back what it gets, behind a name."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to ask."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        self._transport.sendto(self._name + b" " + data, addr)


class Server:
    """A guest's service: says its name and what it heard, over TCP and UDP."""

    def __init__(self, edge: Box, name: str) -> None:
        self.name, self._edge = name, edge
        self._connections: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, sock=self._edge.listen(self.name, SERVED))
        heard = self._edge.udp(self.name, SERVED)
        heard.setblocking(False)
        loop = asyncio.get_running_loop()
        self._datagrams, _ = await loop.create_datagram_endpoint(lambda: Echo(self.name), sock=heard)

    def stop(self) -> None:
        """Take no more callers; those that are connected are still served."""
        self._server.close()
        self._datagrams.close()

    def close(self) -> None:
        """End all."""
        self.stop()
        for connection in self._connections:
            connection.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(writer)
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(self.name.encode() + b" " + data)
                await writer.drain()
        writer.close()


class Caller:
    """A connected socket of a guest or the client."""

    def __init__(self, edge: Box, name: str, port: int, to: tuple[str, int], kind: int = socket.SOCK_STREAM) -> None:
        self._socket, self._to = edge.socket(name, socket.AF_INET, kind), to
        self._socket.bind((address(name), port))
        self._socket.setblocking(False)

    async def call(self) -> Caller:
        """Connect."""
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(self._socket, self._to), PATIENCE)
        return self

    async def ask(self, text: str, patience: float = PATIENCE) -> str:
        """Send something and return the answer; nothing if none comes."""
        await asyncio.get_running_loop().sock_sendall(self._socket, text.encode())
        return await self.hear(patience)

    async def hear(self, patience: float = PATIENCE) -> str:
        """Return what comes; nothing if nothing does."""
        try:
            return (
                await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, 1 << 16), patience)
            ).decode()
        except TimeoutError:
            return ""


class Node:
    """Host h1: what outlives its daemon is made once."""

    def __init__(self, edge: Box) -> None:
        self.edge, self.store, self.room, self.tasks = edge, MemoryStore(), FakeRoom(), Tasks()
        self.servers: dict[str, Server] = {}
        self.wire()
        self.make()

    def wire(self) -> None:
        """Have the devices that others made, and a client."""
        self.edge.run("host", "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "fabric")
        for line in ("link set eth1 up", "link set fabric up"):
            self.edge.run("host", "ip", *line.split())
        self.edge._wire(())

    def make(self) -> None:
        """Make a daemon that knows what store, kernel and engines know."""
        with self.edge.world.namespaces.in_namespace(HOST):
            self.kernel = Kernel.real(self.edge.world.namespaces.directory)
        self.daemon = Daemon("h1", self.kernel, self.store, self.room)
        self.tasks.start("daemon", self.daemon.run)

    async def end(self) -> None:
        """End the daemon; the kernel stays as it is."""
        await self.tasks.stop("daemon")
        self.kernel.close()

    async def load(self, tree: Tree) -> None:
        """Commit an intent; the kernel takes all of it."""
        async with asyncio.timeout(60):
            outcome = await self.daemon.load(to_yaml(tree), "intent.yaml")
        assert outcome.pending == ()
        uplink = Place.of(intent(tree), "h1", "red").uplink_address
        self.edge.run("host", "ip", "route", "replace", f"{VIP}/32", "via", str(uplink))
        self.room.engines["gobgp", "router"].push(Synced())
        await eventually_async(lambda: self.daemon.converged, what="the daemon has converged")
        await eventually_async(lambda: self.daemon.flows.watch.whole(RED), what="the flows are known")

    async def serve(self, *names: str) -> None:
        """Have guests that serve."""
        for name in names:
            self.edge.plug(name)
            self.servers[name] = Server(self.edge, name)
            await self.servers[name].start()

    async def call(self, name: str, port: int, to: tuple[str, int], kind: int = socket.SOCK_STREAM) -> Caller:
        """Connect a guest or the client."""
        return await Caller(self.edge, name, port, to, kind).call()

    def generations(self) -> Mapping[int, int]:
        """Return the generation of each engine, as somebody sees it who looks for the first time."""
        return cast("NftPort", self.edge.kernel.ports["nft"]).generations(RED)

    def policies(self) -> Mapping[int, str]:
        """Return what the flows of each engine are judged by."""
        return cast("NftPort", self.edge.kernel.ports["nft"]).policies(RED)

    def rows(self) -> dict[FlowKey, Action]:
        """Return the instructions that the kernel has."""
        return {f.flow: f.action for f in self.edge.kernel.ports["nft"].read() if isinstance(f, Instruction)}


@pytest.fixture
async def node(world: World, netns_factory: Factory) -> AsyncIterator[Node]:
    """Give one with a running daemon and no intent."""
    with box(world, netns_factory) as edge:
        made = Node(edge)
        try:
            yield made
        finally:
            for server in made.servers.values():
                server.close()
            await made.tasks.stop()
            made.kernel.close()


def rule(action: str, **more: object) -> Tree:
    """Return a rule for what r1 sends to r2."""
    return {"action": action, "source": ["r1"], "destination": ["r2"], "protocol": "tcp", **more}


CALL = ("172.16.1.12", SERVED)


async def test_a_commit_cuts_a_live_connection_and_the_next_one_lets_it_go_on(node: Node) -> None:
    """No reset, no new connection: the same octets arrive in the end. Another flow does not notice."""
    await node.serve("r2")
    node.edge.plug("r1")
    await node.load(vpc(guests=2))
    cut = await node.call("r1", 40000, CALL)
    other = await node.call("r1", 40001, CALL, socket.SOCK_DGRAM)
    assert await cut.ask("one") == "r2 one"
    assert await other.ask("one") == "r2 one"
    await node.load(vpc(rule("deny"), guests=2))
    assert await cut.ask("two", SILENCE) == ""
    assert await other.ask("two") == "r2 two"
    await node.load(vpc(guests=2))
    assert await cut.hear() == "r2 two"
    assert await cut.ask("three") == "r2 three"
    assert node.daemon.reconciliation.audit == type(node.daemon.reconciliation.audit)()


@pytest.mark.parametrize("what", ["a rule", "the program", "a stranger"])
async def test_instructions_outlive_what_changes_around_them(node: Node, what: str) -> None:
    """A commit that changes elements, one that makes the table anew, and somebody who removes it."""
    await node.serve("r2")
    node.edge.plug("r1")
    await node.load(vpc(guests=2))
    cut, other = [await node.call("r1", port, CALL, socket.SOCK_DGRAM) for port in (40000, 40001)]
    assert (await cut.ask("one"), await other.ask("one")) == ("r2 one", "r2 one")
    own = flow("r1", 40000, "r2", SERVED, socket.IPPROTO_UDP)
    node.daemon.instructions.give([Instruction(RED, own, Action.DENY)], 0)
    assert await cut.ask("two", SILENCE) == ""
    if what == "a stranger":
        node.edge.run("edge", "nft", "delete", "table", "inet", "edgeway")
        await eventually_async(lambda: node.rows() == {own: Action.DENY}, what="the table is made again")
    else:
        more = {"limit": {"rate": 1000}} if what == "the program" else {"deny": {}}
        await node.load(vpc(*(rule(action, ports=[22], **rest) for action, rest in more.items()), guests=2))
    assert await cut.ask("three", SILENCE) == ""
    assert await other.ask("three") == "r2 three"
    assert node.rows() == {own: Action.DENY}


def served(**more: Tree) -> Tree:
    """Return an intent with a TCP and a UDP VIP before r1 and r2."""
    health = {"interval": 0.2, "timeout": 2.0, "fall": 2, "rise": 1}
    vip: Tree = {"address": VIP, "target-port": SERVED, "backends": ["r1", "r2"], "health": health}
    vips = {"web": {**vip, "port": 80, "protocol": "tcp"}, "dns": {**vip, "port": 53, "protocol": "udp"}}
    allow = [{"action": "allow", "source": ["outside"], "protocol": name, "ports": [SERVED]} for name in ("tcp", "udp")]
    return vpc(*allow, guests=2, vips=vips, **more)


async def test_flows_of_a_backend_that_dies_are_handled_as_the_table_says(node: Node) -> None:
    """TCP is reset, the next datagram has another backend; those of other backends go on; and it can be read."""
    await node.serve("r1", "r2")
    await node.load(served())
    callers = [await node.call("client", 41000 + n, (VIP, 80)) for n in range(16)]
    askers = [await node.call("client", 42000 + n, (VIP, 53), socket.SOCK_DGRAM) for n in range(16)]
    named = {one: (await one.ask("hello")).split()[0] for one in (*callers, *askers)}
    lost = [one for one, name in named.items() if name == "r1"]
    assert {one in callers for one in lost} == {True, False}, "no port came to r1: choose others"
    node.servers["r1"].stop()
    await eventually_async(lambda: len(node.daemon.reconciliation.audit) == len(lost), what="its flows are handled")
    for one, name in named.items():
        if name == "r2" or one in askers:
            assert await one.ask("still there?") == "r2 still there?"
        else:
            with pytest.raises(ConnectionResetError):
                await one.ask("still there?")
    told = Counter(
        (row.change.kind, row.flow.key.protocol, row.choice, row.result) for row in node.daemon.reconciliation.audit
    )
    assert told == {
        ("backend-gone", socket.IPPROTO_TCP, "reset", "instructed"): sum(one in callers for one in lost),
        ("backend-gone", socket.IPPROTO_UDP, "re-judge", "deleted"): sum(one in askers for one in lost),
    }
    assert set(node.rows().values()) == {Action.REJECT}
    fresh = await node.call("client", 43000, (VIP, 80))
    assert await fresh.ask("hello") == "r2 hello"
    await node.servers["r1"].start()
    await eventually_async(lambda: not node.daemon.checker.down, what="the backend is well again")


# -- service nodes ----------------------------------------------------------------------------------------------------


def through(on_failure: str = "allow") -> Tree:
    """Return an intent in which connections from r1 to r2 go through a service node."""
    ids = {"id": 5, "host": "h1", "interface": "tap7", "link": "10.9.0.0/31", "on-failure": on_failure}
    return vpc(rule("redirect", to="ids"), guests=2, service_nodes={"ids": ids})


@pytest.fixture
async def ids(node: Node) -> ServiceNode:
    """Give a service node, and guests r1 and r2."""
    name, host = node.edge.machine("ids"), str(node.edge.world.host)
    node.edge.run("ids", "ip", "link", "add", "e0", "type", "veth", "peer", "name", "tap7", "netns", host)
    made = ServiceNode(Path(NAMED, name), "e0", IPv4Address("10.9.0.1"), IPv4Address("10.9.0.0"))
    await node.serve("r2")
    node.edge.plug("r1")
    return made


async def passes(node: Node, ids: ServiceNode, caller: Caller, *, through: bool) -> None:
    """Have a connection go on, through the service node or past it."""
    before = ids.packets()
    assert await caller.ask("hello") == "r2 hello"
    assert (ids.packets() != before) == through


@pytest.mark.parametrize("on_failure", ["allow", "deny"])
async def test_a_service_node_that_dies_is_done_without_until_it_comes_back(
    node: Node, ids: ServiceNode, on_failure: str
) -> None:
    """As the intent says; nobody gives an order, and the connection lives through it."""
    ids.start()
    await node.load(through(on_failure))
    caller = await node.call("r1", 40000, CALL)
    await passes(node, ids, caller, through=True)
    before = node.policies()
    ids.run("ip", "address", "flush", "dev", "e0")
    await eventually_async(lambda: node.policies() != before, what="the rules follow its death")
    assert node.daemon.checker.nodes_down == {("red", "ids")}
    if on_failure == "allow":
        await passes(node, ids, caller, through=False)
    else:
        assert await caller.ask("anybody?", SILENCE) == ""
    ids.run("ip", "address", "add", "10.9.0.1/31", "dev", "e0")
    ids.run("ip", "route", "replace", "default", "via", "10.9.0.0")
    await eventually_async(lambda: node.policies() == before, what="the rules follow its return")
    if on_failure == "deny":
        assert await caller.hear() == "r2 anybody?"
    await passes(node, ids, caller, through=True)


async def test_a_service_node_orders_what_becomes_of_its_flow(node: Node, ids: ServiceNode) -> None:
    """Over its own link, and it is so when the answer is there."""
    ids.start()
    await node.load(through())
    caller, other = await node.call("r1", 40000, CALL), await node.call("r1", 40001, CALL)
    own = flow("r1", 40000, "r2", SERVED)
    seen = FlowKey(own.source, own.source_port, own.destination, own.destination_port, own.protocol)
    await eventually_async(lambda: node.daemon.flows.inband.open, what="somebody listens")

    async def order(what: Order) -> Status:
        """Ask again when no answer comes, as a node does: that changes nothing."""
        for _ in range(3):
            with suppress(TimeoutError):
                (answer,) = await asyncio.to_thread(ids.instruct, what, seen)
                return answer.status
        pytest.fail("no answer")

    await passes(node, ids, caller, through=True)
    assert await order(Order.ALLOW) is Status.DONE
    await passes(node, ids, caller, through=False)
    await passes(node, ids, other, through=True)
    assert await order(Order.CLEAR) is Status.DONE
    await passes(node, ids, caller, through=True)
    assert await order(Order.DENY) is Status.DONE
    assert await caller.ask("anybody?", SILENCE) == ""
    assert node.rows() == {own: Action.DENY}
    assert await order(Order.REJECT) is Status.DONE
    with pytest.raises(ConnectionResetError):
        await caller.ask("anybody?")
    await passes(node, ids, other, through=True)


# -- the daemon itself ------------------------------------------------------------------------------------------------


async def test_flows_do_not_notice_that_the_daemon_is_another_one(node: Node, ids: ServiceNode) -> None:
    """No engine is bumped, no flow judged again; instructions stay in force and end with their flows."""
    ids.start()
    await node.load(through())
    caller, past, cut = [await node.call("r1", port, CALL) for port in (40000, 40001, 40002)]
    for one in (caller, past, cut):
        await passes(node, ids, one, through=True)
    flows = {port: flow("r1", port, "r2", SERVED) for port in (40001, 40002)}
    actions = {40001: Action.ALLOW, 40002: Action.DENY}
    node.daemon.instructions.give([Instruction(RED, flows[port], action) for port, action in actions.items()], 0)
    await passes(node, ids, past, through=False)
    await passes(node, ids, caller, through=True)
    assert await cut.ask("anybody?", SILENCE) == ""
    before = node.generations(), node.edge.counters()["rechecked"], node.rows()
    await node.end()
    await passes(node, ids, caller, through=True)
    node.make()
    await node.load(through())
    await passes(node, ids, caller, through=True)
    await passes(node, ids, past, through=False)
    assert await cut.hear(SILENCE) == ""
    assert (node.generations(), node.edge.counters()["rechecked"], node.rows()) == before
    assert set(node.daemon.instructions.of(RED)) == set(flows.values())
    entry = node.edge.record(flows[40001])
    assert entry is not None
    node.edge.kernel.conntrack.delete(RED, [entry])
    await eventually_async(lambda: set(node.rows()) == {flows[40002]}, what="the instruction ends with its flow")
    await passes(node, ids, past, through=True)


async def test_what_changed_while_no_daemon_ran_is_judged_by_the_next_one(node: Node, ids: ServiceNode) -> None:
    """The policy that stands in the kernel is not the one that is wanted: that is enough."""
    ids.start()
    await node.load(through())
    caller = await node.call("r1", 40000, CALL)
    await passes(node, ids, caller, through=True)
    await node.end()
    node.make()
    await node.load(vpc(rule("deny"), guests=2))
    assert await caller.ask("anybody?", SILENCE) == ""
