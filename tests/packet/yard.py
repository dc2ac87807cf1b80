r"""A gateway between two routers, in namespaces: what packet tests of routes stand on.

    near (10.77.0.1) ---- eth1  gateway  eth2 ---- far (198.51.100.1)
          10.0.0.99      10.0.0.21    192.0.2.21     192.0.2.99

The gateway is HOST; the routers are machines of their own, and answer everything that reaches them.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from appliance.control.tasks import Tasks
from appliance.kernel.namespaces import Namespaces
from appliance.model.facts import HOST, Namespace
from appliance.model.marks import PROTO_BGP
from tests.support.fake_engine import best

if TYPE_CHECKING:
    from routing.engines.engine import Best
    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

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
#: Addresses that both have.
ANYWHERE, ANYWHERE6 = "203.0.113.99", "2001:db8:99::1"


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
        lines += [f"address add {address} dev lo" for address in (ANYWHERE, ANYWHERE6)]
        for line in lines:
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
        for address in (*beside.behind, ANYWHERE, ANYWHERE6):
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


@asynccontextmanager
async def yard_of(world: World, factory: Factory) -> AsyncIterator[Yard]:
    """Give a yard with answering neighbours; its sockets are closed in the end."""
    with ExitStack() as stack:
        made = Yard(world, factory, stack)
        stack.callback(made.machines.close)
        for beside in (NEAR, FAR):
            made.wire(beside)
            await made.serve(beside)
        try:
            yield made
        finally:
            for transport in made.transports:
                transport.close()
