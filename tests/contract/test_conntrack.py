"""Flow records: what is tracked is dumped, deleted exactly, counted and told."""

from __future__ import annotations

import asyncio
import itertools
import socket
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import pytest

from appliance.kernel import conntrack
from appliance.kernel.conntrack import Conntrack, CtEvent, KernelConntrack
from appliance.kernel.conntrack_codec import SEEN_REPLY, SRC_NAT, CtEntry, CtTuple, Icmp, entry_of, flow_of
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.model.facts import Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.contract.worlds import World

RED, BLUE = Namespace("red"), Namespace("blue")


def flow(l4proto: int, source: str, destination: str, sport: int = 0, dport: int = 0, **more: object) -> CtEntry:
    """Write a flow short: its reply is the inverse."""
    one, other = ip_address(source), ip_address(destination)
    return replace(
        CtEntry(l4proto, CtTuple(one, other, sport, dport), CtTuple(other, one, dport, sport), status=SEEN_REPLY),
        **more,  # type: ignore[arg-type]
    )


def ping(source: str, destination: str, number: int) -> CtEntry:
    """Write an ICMP or ICMPv6 echo."""
    one, other = ip_address(source), ip_address(destination)
    l4proto, request, reply = (1, 8, 0) if one.version == 4 else (58, 128, 129)
    return CtEntry(
        l4proto,
        CtTuple(one, other, icmp=Icmp(request, 0, number)),
        CtTuple(other, one, icmp=Icmp(reply, 0, number)),
        status=SEEN_REPLY,
    )


TCP4 = flow(6, "192.0.2.1", "198.51.100.1", 40000, 80, mark=0x10010, zone=1007, tcp_state="established")
TCP6 = flow(6, "2001:db8::1", "2001:db8::2", 40001, 443, tcp_state="established")
UDP4 = flow(17, "192.0.2.1", "198.51.100.1", 40000, 53, zone=1007, mark=0x20010)
UDP6 = flow(17, "2001:db8::1", "2001:db8::2", 40000, 53, mark=0x1)
FLOWS = {
    "tcp4": TCP4,
    "tcp6": TCP6,
    "udp4": UDP4,
    "udp6": UDP6,
    "icmp": ping("192.0.2.1", "198.51.100.1", 77),
    "icmp6": ping("2001:db8::1", "2001:db8::2", 78),
}


class Traffic(Protocol):
    """A node's flow records, and the packets that make them."""

    @property
    def tracker(self) -> Conntrack:
        """Return the port."""
        ...

    def play(self, ns: Namespace, entry: CtEntry) -> None:
        """Have the flow tracked."""
        ...


@dataclass
class FakeTraffic:
    """In memory."""

    tracker: FakeConntrack

    def play(self, ns: Namespace, entry: CtEntry) -> None:
        """Add it."""
        self.tracker.add(ns, entry)


@dataclass
class RealTraffic:
    """The tool of the conntrack project makes records as packets would."""

    tracker: KernelConntrack
    world: World

    def play(self, ns: Namespace, entry: CtEntry) -> None:
        """Insert it."""
        orig = entry.orig
        names = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
        command = ["conntrack", "-I", "-p", names[entry.l4proto], "-s", str(orig.source), "-d", str(orig.destination)]
        command += ["-t", "300", "-u", "SEEN_REPLY"]
        command += ["-w", str(entry.zone)] if entry.zone else []
        if orig.icmp:
            kind = names[entry.l4proto]
            command += [f"--{kind}-type", str(orig.icmp.type), f"--{kind}-code", "0", f"--{kind}-id", str(orig.icmp.id)]
        else:
            command += ["--sport", str(orig.sport), "--dport", str(orig.dport)]
        command += ["--state", "ESTABLISHED"] if entry.l4proto == 6 else []
        # Last: -u writes into the mark (conntrack-tools 1.4.7).
        self.world.run(ns, *command, "-m", str(entry.mark))


@pytest.fixture(params=["fake", "real"])
def traffic(request: pytest.FixtureRequest) -> Traffic:
    """Give a node in memory, then one in namespaces."""
    if request.param == "fake":
        return FakeTraffic(FakeConntrack())
    world: World = request.getfixturevalue("world")
    world.make(RED, BLUE)
    return RealTraffic(KernelConntrack(world.namespaces), world)


def plain(entry: CtEntry) -> CtEntry:
    """Leave out what changes by itself: the time left, and bits the kernel adds."""
    return replace(entry, timeout=0, status=entry.status & SEEN_REPLY)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_is_dumped_counted_and_deleted_exactly(traffic: Traffic, name: str) -> None:
    """Deleting one leaves every other; deleting it again is nothing."""
    for entry in FLOWS.values():
        traffic.play(RED, entry)
    tracker = traffic.tracker
    assert {plain(entry) for entry in tracker.dump(RED)} == set(FLOWS.values())
    assert tracker.count(RED) == len(FLOWS)
    assert tracker.delete(RED, [FLOWS[name]]) == 1
    assert tracker.delete(RED, [FLOWS[name]]) == 0
    assert {plain(entry) for entry in tracker.dump(RED)} == set(FLOWS.values()) - {FLOWS[name]}


def test_a_kernel_that_has_no_tracker_yet_has_no_flows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracker is a module that something has to need first; its counter comes with it."""
    world.make(RED)
    monkeypatch.setattr(conntrack, "_COUNT", Path("/proc/sys/net/netfilter/nf_conntrack_none"))
    assert KernelConntrack(world.namespaces).count(RED) == 0


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_is_found_by_its_exact_tuple(traffic: Traffic, name: str) -> None:
    """In its namespace and zone; the model's words for it lead there and back."""
    for entry in FLOWS.values():
        traffic.play(RED, entry)
    flow_ = flow_of(FLOWS[name])
    found = traffic.tracker.get(RED, flow_.key)
    assert found is not None
    assert plain(found) == FLOWS[name]
    assert flow_of(found) == flow_
    other_way = traffic.tracker.get(RED, replace(flow_.reply, zone=flow_.key.zone))
    assert other_way is not None
    assert plain(other_way) == FLOWS[name]
    assert traffic.tracker.get(RED, replace(flow_.key, zone=flow_.key.zone + 1)) is None
    assert traffic.tracker.get(RED, replace(flow_.key, source_port=1)) is None
    assert traffic.tracker.get(BLUE, flow_.key) is None


@pytest.mark.parametrize("name", FLOWS)
def test_bits_of_a_mark_are_set_and_the_others_stay(traffic: Traffic, name: str) -> None:
    """Of exactly this record; one that is gone is nothing, and is not made."""
    for entry in FLOWS.values():
        traffic.play(RED, entry)
    named = entry_of(flow_of(FLOWS[name]))
    assert traffic.tracker.set_mark(RED, [named], 0xABC0_0000, 0xFFF0_0000) == 1
    marked = replace(FLOWS[name], mark=FLOWS[name].mark & 0xF_FFFF | 0xABC0_0000)
    others = set(FLOWS.values()) - {FLOWS[name]}
    assert {plain(entry) for entry in traffic.tracker.dump(RED)} == others | {marked}
    assert traffic.tracker.delete(RED, [named]) == 1
    assert traffic.tracker.set_mark(RED, [named], 0) == 0
    assert {plain(entry) for entry in traffic.tracker.dump(RED)} == others


def test_the_time_that_is_left_is_set(traffic: Traffic) -> None:
    """Of exactly this record."""
    traffic.play(RED, TCP4)
    traffic.play(RED, UDP4)
    assert traffic.tracker.set_timeout(RED, [TCP4, TCP6], 7777) == 1
    left = {entry.l4proto: entry.timeout for entry in traffic.tracker.dump(RED)}
    assert 7700 < left[TCP4.l4proto] <= 7777
    assert left[UDP4.l4proto] < 7700


def test_a_dump_is_of_one_namespace(traffic: Traffic) -> None:
    """Though the kernel keeps all in one table."""
    traffic.play(RED, TCP4)
    traffic.play(BLUE, UDP6)
    assert {plain(entry) for entry in traffic.tracker.dump(BLUE)} == {UDP6}


def test_a_dump_can_be_narrowed_by_zone_and_mark(traffic: Traffic) -> None:
    """A mark is compared under a mask."""
    for entry in (TCP4, TCP6, UDP4, UDP6):
        traffic.play(RED, entry)
    dump = traffic.tracker.dump
    assert {plain(entry) for entry in dump(RED, zone=1007)} == {TCP4, UDP4}
    assert {plain(entry) for entry in dump(RED, zone=0)} == {TCP6, UDP6}
    assert {plain(entry) for entry in dump(RED, mark=0x10, mask=0xFFFF)} == {TCP4, UDP4}
    assert {plain(entry) for entry in dump(RED, mark=1)} == {UDP6}


def test_the_same_addresses_in_two_zones_are_two_flows(traffic: Traffic) -> None:
    """A delete that did not name the zone would miss, or hit the other."""
    other = replace(UDP4, zone=1008, mark=0)
    traffic.play(RED, UDP4)
    traffic.play(RED, other)
    assert traffic.tracker.delete(RED, [UDP4]) == 1
    assert {plain(entry) for entry in traffic.tracker.dump(RED)} == {other}


def test_a_dump_may_be_left_in_the_middle(traffic: Traffic) -> None:
    """What comes next is not confused by the rest of it."""
    for number in range(5):
        sport = 1000 + number
        traffic.play(RED, flow(17, "2001:db8::1", "2001:db8::2", sport, 53))
    for entry in traffic.tracker.dump(RED):
        assert traffic.tracker.delete(RED, [entry]) == 1
        break
    assert len(list(traffic.tracker.dump(RED))) == traffic.tracker.count(RED) == 4


async def test_beginnings_and_ends_are_told(traffic: Traffic) -> None:
    """In order, with the whole record."""
    async with (
        asyncio.timeout(5),
        aclosing(cast("AsyncGenerator[CtEvent, None]", traffic.tracker.events(RED))) as events,
    ):
        assert await anext(events) == CtEvent("listening")
        traffic.play(BLUE, TCP6)
        traffic.play(RED, TCP4)
        begun = await anext(events)
        traffic.tracker.delete(RED, [TCP4])
        ended = await anext(events)
    assert (begun.kind, ended.kind) == ("new", "destroy")
    assert begun.entry is not None
    assert plain(begun.entry) == TCP4
    assert ended.entry is not None
    assert (ended.entry.orig, ended.entry.zone) == (TCP4.orig, TCP4.zone)


def _track(world: World, rule: str = "ct state new accept") -> None:
    """Have the kernel track what goes over `lo` of RED."""
    script = (
        f"add table ip t; add chain ip t o {{ type filter hook output priority raw + 10 ; }}; add rule ip t o {rule}"
    )
    world.run(RED, "nft", script)


def _send(world: World, *ports: int) -> None:
    """Send a datagram to each port, from port 9."""
    with world.namespaces.in_namespace(RED):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.bind(("127.0.0.1", 9))
    with sender, suppress(ConnectionRefusedError):
        for port in ports:
            sender.sendto(b"x", ("127.0.0.1", port))


def test_translated_flows_have_a_reply_that_is_no_inverse(world: World) -> None:
    """And a live TCP connection has a state."""
    world.make(RED)
    world.run(
        RED,
        "nft",
        "add table ip t; add chain ip t p { type nat hook postrouting priority 100 ; }; add rule ip t p tcp dport 7777 snat to 127.0.0.9",
    )
    with world.namespaces.in_namespace(RED):
        listener = socket.create_server(("127.0.0.1", 7777))
        client = socket.create_connection(("127.0.0.1", 7777))
    (entry,) = (entry for entry in KernelConntrack(world.namespaces).dump(RED) if entry.orig.dport == 7777)
    assert entry.reply.destination == ip_address("127.0.0.9")
    assert entry.status & SRC_NAT
    assert entry.tcp_state == "established"
    assert entry.timeout > 0
    client.close()
    listener.close()


def test_a_zone_of_one_direction_is_told_and_deleted(world: World) -> None:
    """`ct original zone` puts the zone into the tuple."""
    world.make(RED)
    _track(world, "udp dport 5000 ct original zone set 7")
    world.run(
        RED, "nft", "add chain ip t f { type filter hook output priority 0 ; }; add rule ip t f ct state new accept"
    )
    with world.namespaces.in_namespace(RED):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 5000))
    _send(world, 5000)
    tracker = KernelConntrack(world.namespaces)
    receiver.close()
    (entry,) = (entry for entry in tracker.dump(RED) if entry.zone)
    assert (entry.zone, entry.zone_direction) == (7, "original")
    assert tracker.delete(RED, [entry]) == 1
    assert not [entry for entry in tracker.dump(RED) if entry.zone]


async def test_lost_events_are_told_and_the_stream_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says ENOBUFS once the socket's buffer is full."""
    monkeypatch.setattr("appliance.kernel.namespaces.RECEIVE_BUFFER", 4096)
    world.make(RED)
    _track(world)
    async with (
        asyncio.timeout(5),
        aclosing(cast("AsyncGenerator[CtEvent, None]", KernelConntrack(world.namespaces).events(RED))) as events,
    ):
        assert await anext(events) == CtEvent("listening")
        _send(world, *range(1000, 1100))
        assert CtEvent("overrun") in [await anext(events) for _ in range(3)]
        for marker in itertools.count(2000):
            _send(world, marker)
            event = await anext(events)
            if event.entry is not None and event.entry.orig.dport >= 2000:
                assert event.kind == "new"
                break


async def test_the_stream_ends_with_its_namespace(world: World) -> None:
    """A socket would keep it alive."""
    world.make(RED)
    async with (
        asyncio.timeout(5),
        aclosing(cast("AsyncGenerator[CtEvent, None]", KernelConntrack(world.namespaces).events(RED))) as events,
    ):
        assert await anext(events) == CtEvent("listening")
        world.namespaces.delete(RED)
        assert [event async for event in events] == []
