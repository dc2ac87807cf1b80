"""The index follows the events of each namespace, and is led back to the kernel's table when events were lost."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import cast

import pytest

from appliance.control.flow_watch import FlowWatch, Scope
from appliance.control.tasks import Tasks
from appliance.kernel.conntrack import CtEvent, KernelConntrack
from appliance.kernel.conntrack_codec import CtEntry, entry_of, flow_of
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.namespaces import SO_RCVBUFFORCE
from appliance.kernel.netlink import NETLINK_NETFILTER
from appliance.model.errors import KernelError
from appliance.model.facts import Flow, FlowKey, Namespace
from services.flows.index import FlowIndex, pack
from tests.contract.worlds import World
from tests.support.waiting import eventually_async
from tests.unit.services.flows.examples import R2, SUBNET, UDP, ZONE, called, left, plain

RED, BLUE = Namespace("vpc-red"), Namespace("vpc-blue")
SCOPE = Scope(ZONE, (SUBNET,))


class Lossy(FakeConntrack):
    """Loses events when told to, has namespaces that go away, and counts how often it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.deaf, self.gone = False, set[Namespace]()
        self.ears: list[tuple[Namespace, asyncio.Queue[CtEvent | None]]] = []
        self.dumps: list[tuple[Namespace, int | None]] = []

    def _tell(self, ns: Namespace, event: CtEvent) -> None:
        if not self.deaf:
            self.say(ns, event)

    def say(self, ns: Namespace, event: CtEvent | None) -> None:
        """Say something to who listens; None: the namespace is gone."""
        for name, queue in self.ears:
            if name == ns:
                queue.put_nowait(event)

    async def events(self, ns: Namespace) -> AsyncIterator[CtEvent]:
        """Yield what is said, until the namespace is gone."""
        if ns in self.gone:
            raise KernelError("namespace", ns, 19)
        queue: asyncio.Queue[CtEvent | None] = asyncio.Queue()
        self.ears.append((ns, queue))
        try:
            yield CtEvent("listening")
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self.ears.remove((ns, queue))

    def dump(
        self, ns: Namespace, zone: int | None = None, mark: int | None = None, mask: int = 0xFFFF_FFFF
    ) -> Iterator[CtEntry]:
        """Yield what is there."""
        self.dumps.append((ns, zone))
        if ns in self.gone:
            raise KernelError("conntrack", ns, 19)
        yield from super().dump(ns, zone, mark, mask)


class Home:
    """A watch with its tasks, and the ends it told."""

    def __init__(self) -> None:
        self.tracker, self.tasks = Lossy(), Tasks()
        self.watch = FlowWatch(self.tracker, self.tasks)
        self.ended: list[tuple[Namespace, FlowKey]] = []
        self.watch.on_ended(lambda ns, key: self.ended.append((ns, key)))

    def begin(self, *flows: Flow, ns: Namespace = RED) -> None:
        """Play first packets."""
        for flow in flows:
            self.tracker.add(ns, entry_of(flow))

    def end(self, *flows: Flow, ns: Namespace = RED) -> None:
        """Play ends."""
        assert self.tracker.delete(ns, map(entry_of, flows)) == len(flows)

    def index(self, ns: Namespace = RED) -> FlowIndex:
        """Return the index of a namespace."""
        found = self.watch.index(ns)
        assert found is not None
        return found

    async def holds(self, *flows: Flow, ns: Namespace = RED) -> None:
        """Wait until the index is whole and holds exactly these."""
        await eventually_async(
            lambda: self.watch.whole(ns) and set(self.index(ns)) == set(flows), what=f"{ns} holds {len(flows)} flows"
        )


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    """Give one, and stop its tasks."""
    made = Home()
    yield made
    await made.tasks.stop()


async def test_what_was_there_and_what_comes_is_held(home: Home) -> None:
    """One reading, of the zone; then events only."""
    home.begin(called(1), left(2))
    await home.watch.watch({RED: SCOPE})
    await home.holds(called(1), left(2))
    home.begin(plain(3))
    home.end(called(1))
    await home.holds(left(2), plain(3))
    assert home.ended == [(RED, called(1).key)]
    assert home.tracker.dumps == [(RED, ZONE)]


async def test_flows_of_another_zone_are_not_held_but_their_ends_are_told(home: Home) -> None:
    """Whoever keeps something for a flow wants to know."""
    await home.watch.watch({RED: SCOPE})
    await home.holds()
    flow = called(1)
    other = Flow(replace(flow.key, zone=9), replace(flow.reply, zone=9))
    home.begin(other, flow)
    home.end(other)
    await home.holds(flow)
    assert home.ended == [(RED, other.key)]


async def test_after_a_loss_only_that_namespace_is_read(home: Home) -> None:
    """And what ended unheard is told."""
    home.begin(called(1), called(2))
    home.begin(called(3), ns=BLUE)
    await home.watch.watch({RED: SCOPE, BLUE: SCOPE})
    await home.holds(called(1), called(2))
    await home.holds(called(3), ns=BLUE)
    home.tracker.deaf = True
    home.end(called(1))
    home.begin(left(5))
    home.tracker.deaf = False
    home.tracker.dumps.clear()
    home.tracker.say(RED, CtEvent("overrun"))
    await home.holds(called(2), left(5))
    assert home.tracker.dumps == [(RED, ZONE)]
    assert home.ended == [(RED, called(1).key)]


async def test_the_index_is_not_whole_while_it_may_miss_something(home: Home) -> None:
    """Before the first reading, and between a loss and the next."""
    await home.watch.watch({RED: SCOPE})
    assert not home.watch.whole(RED)
    await home.holds()
    home.tracker.gone.add(RED)  # the table cannot be read
    home.tracker.say(RED, CtEvent("overrun"))
    await eventually_async(lambda: len(home.tracker.dumps) == 2, what="it tries to read")
    assert not home.watch.whole(RED)
    home.tracker.gone.clear()
    await home.holds()


async def test_events_during_a_reading_are_truer_than_the_reading(home: Home) -> None:
    """What ended is not brought back, what began is not lost, though the table was read before."""
    many = [called(port, protocol=UDP) for port in range(1, 2000)]
    home.begin(*many)
    await home.watch.watch({RED: SCOPE})
    await eventually_async(lambda: home.watch.index(RED) is not None and len(home.index()) > 300, what="it reads")
    assert not home.watch.whole(RED)
    again = called(1999, R2, protocol=UDP)
    home.end(many[0], many[-1])
    home.begin(left(7), again)
    await home.holds(*many[1:-1], left(7), again)


async def test_losses_while_reading_are_read_again(home: Home) -> None:
    """Until nothing was lost meanwhile."""
    home.begin(*(called(port) for port in range(1, 1000)))
    await home.watch.watch({RED: SCOPE})
    await eventually_async(lambda: len(home.index()) > 0, what="it reads")
    home.tracker.say(RED, CtEvent("overrun"))
    await eventually_async(lambda: len(home.tracker.dumps) == 2, what="it is read again")
    await home.holds(*(called(port) for port in range(1, 1000)))


async def test_a_namespace_that_goes_takes_its_flows_along_and_may_come_back(home: Home) -> None:
    """It is listened to again then."""
    home.begin(called(1))
    await home.watch.watch({RED: SCOPE})
    await home.holds(called(1))
    home.tracker.gone.add(RED)
    home.tracker.say(RED, None)
    await eventually_async(lambda: not len(home.index()), what="its flows are gone")
    assert not home.watch.whole(RED)
    home.tracker.gone.clear()
    await home.holds(called(1))


async def test_a_namespace_that_is_not_wanted_is_not_heard(home: Home) -> None:
    """Another subnet is another index; what stays goes on undisturbed."""
    await home.watch.watch({RED: SCOPE, BLUE: SCOPE})
    await home.holds()
    await home.holds(ns=BLUE)
    kept = home.index(BLUE)
    await home.watch.watch({RED: Scope(None), BLUE: SCOPE})
    await home.holds()
    await home.watch.watch({BLUE: SCOPE})
    assert home.watch.index(RED) is None
    assert not home.watch.whole(RED)
    assert home.index(BLUE) is kept
    assert home.tasks.names() == {"flows vpc-blue"}
    assert [ns for ns, _ in home.tracker.ears] == [BLUE]


class Counting(KernelConntrack):
    """Counts the events by kind, and the readings."""

    def __init__(self, world: World) -> None:
        super().__init__(world.namespaces)
        self.kinds, self.readings = Counter[str](), 0

    async def events(self, ns: Namespace) -> AsyncIterator[CtEvent]:
        """Pass on what happens."""
        async with aclosing(cast("AsyncGenerator[CtEvent, None]", super().events(ns))) as events:
            async for event in events:
                self.kinds[event.kind] += 1
                yield event

    def dump(
        self, ns: Namespace, zone: int | None = None, mark: int | None = None, mask: int = 0xFFFF_FFFF
    ) -> Iterator[CtEntry]:
        """Pass on what is there."""
        self.readings += 1
        yield from super().dump(ns, zone, mark, mask)


def track(world: World) -> None:
    """Have the kernel track in zone 1101 what goes over `lo` of RED, for long enough."""
    world.make(RED)
    world.run(RED, "sysctl", "-qw", "net.netfilter.nf_conntrack_events=1", "net.netfilter.nf_conntrack_udp_timeout=600")
    world.run(
        RED,
        "nft",
        "table inet t { chain o { type filter hook output priority raw; ct zone set 1101; }; "
        "chain i { type filter hook prerouting priority raw; ct zone set 1101; }; "
        "chain f { type filter hook output priority 0; ct state new accept; }; }",
    )


def send(world: World, ports: range) -> None:
    """Send a datagram to each port."""
    with world.namespaces.in_namespace(RED):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.bind(("127.0.0.1", 9))
        for port in ports:
            with suppress(ConnectionRefusedError):
                sender.sendto(b"x", ("127.0.0.1", port))


@pytest.fixture
async def real(world: World) -> AsyncIterator[tuple[Counting, FlowWatch]]:
    """Follow a namespace of the real kernel whose events overrun a small buffer."""
    track(world)
    tasks, tracker, made = Tasks(), Counting(world), world.namespaces.new_netlink_socket

    def small(protocol: int, name: Namespace) -> socket.socket:
        link = made(protocol, name)
        link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 14)
        return link

    world.namespaces.netlink_socket(NETLINK_NETFILTER, RED)  # of the usual size, for requests
    world.namespaces.new_netlink_socket = small  # type: ignore[method-assign]
    yield tracker, FlowWatch(tracker, tasks)
    await tasks.stop()


@pytest.mark.kernel
async def test_after_real_losses_the_index_is_what_the_kernel_has(
    world: World, real: tuple[Counting, FlowWatch]
) -> None:
    """New flows in a burst, ends in a burst, and events that go on."""
    tracker, watch = real

    async def same(least: int) -> None:
        def equal() -> bool:
            index = watch.index(RED)
            there = {pack(flow_of(entry)) for entry in KernelConntrack.dump(tracker, RED, zone=ZONE)}
            return watch.whole(RED) and index is not None and {pack(f) for f in index} == there and len(there) >= least

        await eventually_async(equal, what="the index is the table")

    await watch.watch({RED: Scope(ZONE)})
    await same(0)
    assert tracker.kinds == {"listening": 1}
    send(world, range(10000, 10010))
    await same(10)
    assert tracker.readings == 1
    send(world, range(10000, 16000))
    await same(6000)
    assert tracker.kinds["overrun"] >= 1
    assert tracker.readings >= 2
    lost = tracker.kinds["overrun"]
    entries = [entry for entry in KernelConntrack.dump(tracker, RED) if entry.orig.dport < 15500]
    assert tracker.delete(RED, entries) == 5500
    send(world, range(20000, 20005))
    await same(505)
    assert tracker.kinds["overrun"] > lost
    index = watch.index(RED)
    assert index is not None
    assert len(index) == 505
