r"""A cable is pulled and put back: the kernel has deleted next hops and routes by then, and the daemon brings them back.

    near (10.77.0.1) ---- eth1  gateway  eth2 ---- far (198.51.100.1)
          10.0.0.99      10.0.0.21    192.0.2.21     192.0.2.99

Nobody gives an order: all that may help is what runs in production. BGP engines are in memory and say nothing meanwhile,
as where a cable is back before a session has ended.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, cast

import pytest

from appliance.control.daemon import Daemon
from appliance.control.tasks import Tasks
from appliance.kernel.kernel import Kernel
from appliance.kernel.namespaces import Namespaces
from appliance.kernel.routes import RoutesPort
from appliance.model.facts import HOST, Hop, Namespace, Route
from appliance.model.marks import PROTO_BGP
from appliance.state.diff import diff
from appliance.state.store import MemoryStore
from routing.engines.engine import Best, Synced
from tests.contract.roads import net
from tests.support.fake_engine import FakeRoom, best
from tests.support.intents import pair, to_yaml
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

PORT = 9000
#: Long enough for an answer on a machine that does something else.
PATIENCE = 10.0
FAMILIES = (4, 6)
#: Routes to each neighbour beside those to what is behind it.
MORE = 300


@dataclass(frozen=True)
class Neighbour:
    """A router beside the gateway: by family its address, the gateway's own, and what is behind it."""

    name: str
    device: str
    address: tuple[str, str]
    own: tuple[str, str]
    behind: tuple[str, str]
    more: str

    @property
    def destinations(self) -> set[str]:
        """What BGP leads to it, as `ip` writes it."""
        return {*self.behind, *(f"{self.more}.{n // 256}.{n % 256}" for n in range(MORE))}

    def paths(self) -> list[Best]:
        """Return best paths to it."""
        return [best(text, self.address[":" in text]) for text in sorted(self.destinations)]


NEAR = Neighbour(
    "near", "eth1", ("10.0.0.99", "fd00:fab::99"), ("10.0.0.21", "fd00:fab::21"), ("10.77.0.1", "fd00:77::1"), "100.64"
)
FAR = Neighbour(
    "far",
    "eth2",
    ("192.0.2.99", "2001:db8:ff::99"),
    ("192.0.2.21", "2001:db8:ff::21"),
    ("198.51.100.1", "2001:db8:1::1"),
    "100.65",
)
#: An address that both have.
ANYWHERE = "203.0.113.99"


class Echo(asyncio.DatagramProtocol):
    """Sends back what it gets, behind a name."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to ask."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Answer."""
        self._transport.sendto(self._name + b" " + data, addr)


@dataclass
class Flow:
    """Packets to and fro, one after the other; `by` counts who answers."""

    link: socket.socket
    answered: int = 0
    by: Counter[str] = field(default_factory=Counter)

    async def ask(self, patience: float = PATIENCE) -> str:
        """Send a packet and return who answers; nothing if nobody does."""
        loop, text = asyncio.get_running_loop(), str(self.answered)
        try:
            async with asyncio.timeout(patience):
                await loop.sock_sendall(self.link, text.encode())
                while True:
                    name, _, said = (await loop.sock_recv(self.link, 100)).decode().partition(" ")
                    if said == text:
                        self.answered += 1
                        self.by[name] += 1
                        return name
        except (TimeoutError, OSError):
            return ""

    async def go_on(self) -> None:
        """Ask until nobody answers."""
        while await self.ask():  # noqa: ASYNC110 - this is a pace: there is nothing to wait for
            await asyncio.sleep(0.001)


@dataclass
class Yard:
    """The gateway in HOST, its neighbours on machines of their own, and sockets."""

    world: World
    factory: Factory
    stack: ExitStack
    machines: Namespaces = field(default_factory=Namespaces)
    transports: list[asyncio.DatagramTransport] = field(default_factory=list)

    def wire(self, beside: Neighbour) -> None:
        """Make a neighbour; its addresses are on a bridge, so that pulling the cable leaves them alone."""
        name = self.factory(beside.name)
        self.ip(f"link add {beside.device} type veth peer name plug netns {name}")
        lines = ["link add br0 type bridge", "link set plug master br0", "link set plug up", "link set br0 up"]
        for place, bits in ((0, 24), (1, 64)):
            lines.append(f"address add {beside.address[place]}/{bits} dev br0")
            lines.append(f"address add {beside.behind[place]} dev lo")
            lines.append(f"route add default via {beside.own[place]}")
        for line in (*lines, f"address add {ANYWHERE} dev lo"):
            self.ip(f"-n {name} {line}{' nodad' if line.startswith('address') else ''}")
        self.ip(f"link set {beside.device} up")

    def ip(self, line: str) -> str:
        """Run `ip` on the gateway as a foreigner would."""
        return self.world.run(HOST, "ip", *line.split())

    def cable(self, beside: Neighbour, *, up: bool) -> None:
        """Pull a cable, or put it back."""
        self.ip(f"-n {self.name(beside)} link set plug {'up' if up else 'down'}")

    def name(self, beside: Neighbour) -> Namespace:
        """Return the machine of a neighbour."""
        return Namespace(next(name for name in self.factory.made if name.endswith(f"-{beside.name}")))

    async def serve(self, beside: Neighbour) -> None:
        """Have a neighbour answer behind all its addresses."""
        for address in (*beside.behind, ANYWHERE):
            link = self.socket(beside, address)
            link.bind((address, PORT))
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(lambda: Echo(beside.name), sock=link)
            self.transports.append(transport)

    def flow(self, to: str, source: Neighbour | None = None) -> Flow:
        """Begin a flow: from behind a neighbour, or from the gateway itself."""
        link = self.socket(source, to)
        if source is not None:
            link.bind((source.behind[":" in to], 0))
        link.connect((to, PORT))
        return Flow(link)

    def socket(self, at: Neighbour | None, to: str) -> socket.socket:
        """Make a socket at a neighbour, or on the gateway; it is closed in the end."""
        inside = self.world.namespaces.in_namespace(HOST) if at is None else self.machines.in_namespace(self.name(at))
        with inside:
            made = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        return self.stack.enter_context(made)

    def routes(self, beside: Neighbour) -> set[str]:
        """Return the destinations that BGP has led to a neighbour."""
        lines = "".join(self.ip(f"-{version} route show proto {PROTO_BGP}") for version in FAMILIES).splitlines()
        return {line.split()[0] for line in lines} & beside.destinations

    def foreign(self) -> list[str]:
        """Return what others have made; that a carrier is lost is shown beside it, and left out."""
        lines = self.ip("route show proto static") + self.ip("nexthop show id 5")
        return [line.replace("linkdown", "").rstrip() for line in lines.splitlines()]


@pytest.fixture
async def yard(world: World, netns_factory: Factory) -> AsyncIterator[Yard]:
    """Give a yard with answering neighbours."""
    with ExitStack() as stack:
        made = Yard(world, netns_factory, stack)
        stack.callback(made.machines.close)
        for beside in (NEAR, FAR):
            made.wire(beside)
            await made.serve(beside)
        try:
            yield made
        finally:
            for transport in made.transports:
                transport.close()


@pytest.fixture
async def daemon(yard: Yard) -> AsyncIterator[Daemon]:
    """Give a running daemon of the gateway that knows paths to what is behind its neighbours."""
    with yard.world.namespaces.in_namespace(HOST):
        kernel = Kernel.real(yard.world.namespaces.directory)
    room, tasks = FakeRoom(), Tasks()
    made = Daemon("gw1", kernel, MemoryStore(), room)
    tasks.start("daemon", made.run)
    try:
        async with asyncio.timeout(60):
            outcome = await made.load(to_yaml(pair()), "intent.yaml")
        assert outcome.pending == ()
        room.engines["gobgp", "router"].push(*NEAR.paths(), *FAR.paths(), Synced())
        there = [(beside, beside.destinations) for beside in (NEAR, FAR)]
        await eventually_async(lambda: [(beside, yard.routes(beside)) for beside, _ in there] == there)
        await eventually_async(lambda: made.converged, what="the daemon has converged")
        yield made
    finally:
        await tasks.stop()
        kernel.close()


@asynccontextmanager
async def going_on(*flows: Flow) -> AsyncIterator[None]:
    """Keep flows going; none may have lost a packet in the end."""
    tasks = Tasks()
    for number, flow in enumerate(flows):
        tasks.start(f"flow {number}", flow.go_on)
    try:
        yield
        assert len(tasks.names()) == len(flows), "a packet was lost"
    finally:
        await tasks.stop()


async def test_what_a_lost_carrier_took_comes_back_with_it(yard: Yard, daemon: Daemon) -> None:
    """Routes by the hundred, in both families; those of the other cable carry every packet all the while."""
    for line in (
        "route add 192.0.2.0/25 via 192.0.2.77 proto static",
        "route add 10.9.0.0/16 via 10.0.0.77 proto static",
    ):
        yard.ip(line)
    yard.ip("nexthop add id 5 via 10.0.0.77 dev eth1 protocol static")
    others = yard.foreign()
    assert len(others) == 3
    through = [yard.flow(address, NEAR) for address in FAR.behind]
    assert [await flow.ask() for flow in through] == ["far", "far"]
    kept = [yard.flow(address) for address in NEAR.behind]
    async with going_on(*kept):
        yard.cable(FAR, up=False)
        await eventually_async(lambda: not yard.routes(FAR), what="the kernel takes the routes")
        await eventually_async(lambda: daemon.outcome.pending, what="the daemon has noticed")
        answered = [flow.answered for flow in kept]
        await eventually_async(lambda: all(f.answered > n + 50 for f, n in zip(kept, answered, strict=True)))
        assert yard.routes(NEAR) == NEAR.destinations
        yard.cable(FAR, up=True)
        await eventually_async(lambda: yard.routes(FAR) == FAR.destinations, what="the routes are back")
        for flow in through:
            await eventually_async(lambda flow=flow: flow.ask(1), what="packets go through again")  # type: ignore[misc]
        await eventually_async(lambda: daemon.converged, what="the daemon has converged")
    assert yard.routes(NEAR) == NEAR.destinations
    assert yard.foreign() == others


async def test_a_cable_that_is_out_for_a_moment_only(yard: Yard, daemon: Daemon) -> None:
    """Whatever the kernel makes of it, again and again: in the end all routes are there."""
    for _ in range(10):
        for up in (False, True):
            yard.cable(FAR, up=up)
    await eventually_async(
        lambda: yard.routes(FAR) == FAR.destinations and daemon.converged, what="the routes are there"
    )
    assert [await yard.flow(address).ask() for address in FAR.behind] == ["far", "far"]


# -- two ways ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def two_ways(yard: Yard) -> AsyncIterator[Yard]:
    """Give a yard whose gateway has two ways to one address, and does on a reason what the daemon does."""
    ways = [Hop(beside.device, IPv4Address(beside.address[0])) for beside in (NEAR, FAR)]
    wanted = Route(HOST, net(f"{ANYWHERE}/32"), tuple(ways), PROTO_BGP)
    for beside in (NEAR, FAR):
        yard.ip(f"address add {beside.own[0]}/24 dev {beside.device}")
    yard.world.run(HOST, "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")
    port, tasks = RoutesPort(yard.world.namespaces), Tasks()

    async def follow() -> None:
        async for _ in port.watch():
            port.apply(diff(port.read(), [wanted]))

    tasks.start("follow", follow)
    try:
        yield yard
    finally:
        await tasks.stop()


async def test_a_group_of_two_ways_shrinks_and_grows_with_their_carriers(two_ways: Yard) -> None:
    """A flow that has the other way keeps it and loses nothing; what had the lost one finds the other."""

    async def answer(*names: str) -> bool:
        """Tell whether flows are answered by all of these, and nobody else."""
        return {await two_ways.flow(ANYWHERE).ask(1) for _ in range(16)} == set(names)

    await eventually_async(lambda: answer("near", "far"), what="there are two ways")
    for stays, goes in ((NEAR, FAR), (FAR, NEAR)):
        flows = [two_ways.flow(ANYWHERE) for _ in range(16)]
        kept = [flow for flow in flows if await flow.ask() == stays.name]
        assert kept
        async with going_on(*kept):
            two_ways.cable(goes, up=False)
            await eventually_async(lambda name=stays.name: answer(name), what="there is one way")  # type: ignore[misc]
            two_ways.cable(goes, up=True)
            await eventually_async(lambda: answer("near", "far"), what="there are two ways again")
        assert all(flow.by.keys() == {stays.name} for flow in kept)
