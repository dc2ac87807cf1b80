"""Thousands of commits beside flows that they do not concern, and what a reload lets through while it happens.

EDGEWAY_COMMITS says how many commits; `make soak` makes ten thousand.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import threading
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest

from appliance.model.facts import NftTable
from appliance.model.marks import Mark
from tests.packet.flow_model import LET_THROUGH, Crowd, Model, read
from tests.packet.probes import UDP, Probes, Talk
from tests.packet.rows import exchange
from tests.packet.vpcs import RED, Box, address, box, flow, vpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.model.facts import FlowKey
    from tests.contract.worlds import World
    from tests.support.intents import Tree
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

COMMITS = int(os.environ.get("EDGEWAY_COMMITS", "300"))
RELOADS: Final = 20
IDLE: Final = 50
CLOSED: Final = {"internal": "deny"}
_SO_RCVBUFFORCE: Final = 33
_NUMBER: Final = struct.Struct("!Q")
_ESTABLISHED: Final = 1


@pytest.fixture
def edge(world: World, netns_factory: Factory) -> Iterator[Box]:
    """Give a host without an edge."""
    with box(world, netns_factory) as made:
        yield made


def rule(action: str, port: int | str, *guests: str, protocol: str = "udp", **more: object) -> Tree:
    """Return a rule at the ports of some guests."""
    return {"action": action, "protocol": protocol, "ports": [port], "applies-to": list(guests), **more}


def apply(edge: Box, *rules: Tree, **more: object) -> None:
    """Commit these rules."""
    edge.apply(read(vpc(LET_THROUGH, *rules, guests=6, firewall=CLOSED, **more)))


# -- commits that concern others --------------------------------------------------------------------------------------


def policy(dice: random.Random, number: int) -> tuple[list[Tree], Tree]:
    """Return rules and groups of which none can match what r1 and r2 say to each other, except two that never change."""
    others = ["r4", "r5", "r6", "some", "outside", "172.16.1.64/26"]
    made = [
        rule("allow", 7000, "r1", "r2"),
        rule("allow", 7001, "r1", "r2", protocol="tcp"),
        rule("allow", 6000, "r3", destination=["r4"]),
        rule(("allow", "deny")[number % 2], 6000, "r4", source=["r3"]),
        rule("allow", 1, "r5", destination=["r6"]),
        rule("allow", 2, "r6", destination=["r5"]),
    ]
    # Not one over the other: the compile may then need another stage, and another table, which has everybody judged again.
    for low in range(8000, 8000 + 1000 * dice.randint(0, 6), 1000):
        span, protocol = f"{low}-{low + dice.randint(0, 999)}", dice.choice(("tcp", "udp"))
        sides = {"source": dice.sample(others, 2), "destination": dice.sample(others, dice.randint(1, 2))}
        action = dice.choice(("allow", "deny", "reject"))
        made.append(rule(action, span, *dice.sample(("r4", "r5", "r6"), 2), protocol=protocol, **sides))
    return made, {"some": dice.sample(["r4", "r5", "r6", "198.51.100.0/25"], 2)}


class Streams:
    """Numbered datagrams, and a connection that carries the same numbers, from r1 to r2, about a thousand a second."""

    def __init__(self, edge: Box) -> None:
        self.sent, self.came, self.missing = 0, 0, set[int]()
        self._octets, self.wrong = b"", 0
        self._out, self._in = edge.udp("r1", 7000), edge.udp("r2", 7000)
        # What waits here until we are given the processor must find room.
        self._in.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
        listener = edge.listen("r2", 7001)
        self.connections = [_pair(edge, listener, 30_000 + number) for number in range(IDLE + 1)]
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let them flow; afterwards what was on its way has come."""
        threads = [threading.Thread(target=each) for each in (self._send, self._receive)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _send(self) -> None:
        to = (address("r2"), 7000)
        while not self._stop.wait(0.001):
            number = _NUMBER.pack(self.sent)
            self._out.sendto(number, to)
            self.connections[0][0].sendall(number)
            self.sent += 1

    def _receive(self) -> None:
        stream = self.connections[0][1]
        while True:
            ready, _, _ = select.select([self._in, stream], [], [], 2 if self._stop.is_set() else 0.1)
            if not ready and self._stop.is_set():
                return
            if self._in in ready:
                self._came(_NUMBER.unpack(self._in.recv(100))[0])
            if stream in ready:
                self._octets += stream.recv(1 << 16)
                self._read()

    def _came(self, number: int) -> None:
        """Take a datagram in; those that it overtook are missing until they come."""
        self.missing.update(range(self.came, number))
        self.missing.discard(number)
        self.came = max(self.came, number + 1)

    def _read(self) -> None:
        """Compare what the connection brought with what must be next."""
        whole = len(self._octets) // _NUMBER.size
        for (number,) in _NUMBER.iter_unpack(self._octets[: whole * _NUMBER.size]):
            self.wrong += number != self.carried
            self.carried += 1
        self._octets = self._octets[whole * _NUMBER.size :]

    carried = 0

    @property
    def lost(self) -> int:
        """How many datagrams did not come."""
        return len(self.missing) + self.sent - self.came


def _pair(edge: Box, listener: socket.socket, port: int) -> tuple[socket.socket, socket.socket]:
    one = edge.connect("r1", port, (address("r2"), 7001), 20)
    assert one is not None
    other = listener.accept()[0]
    other.settimeout(10)
    return one, other


def _tell_drops_from_delays(edge: Box) -> None:
    """Have TCP send nothing again before ten seconds: what it then sends again was dropped, and not just late."""
    for name in ("r1", "r2"):
        edge.run(name, "sysctl", "-qw", "net.ipv4.tcp_early_retrans=0")
        way = f"172.16.1.0/24 dev eth0 proto kernel scope link src {address(name)} rto_min 10s"
        edge.run(name, "ip", "route", "replace", *way.split())


def _retransmissions(connection: socket.socket) -> tuple[int, int]:
    """Return the state and how often something was sent again (struct tcp_info)."""
    found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return found[0], int(struct.unpack_from("=I", found, 100)[0])


def _table(edge: Box) -> str:
    return next(fact.body for fact in edge.facts if isinstance(fact, NftTable))


class Victim:
    """A flow from r3 to r4 whose rule is turned round by each commit, so that it is known that they are real."""

    def __init__(self, edge: Box) -> None:
        self._talk = Talk.of("r3", 6001, "r4", 6000, UDP)
        self._probes = Probes(edge, "r3", "r4")

    def ask(self, *, passes: bool) -> None:
        """Send a datagram; with its sentinel it makes two packets."""
        number = self._probes.send(self._talk, "there")
        if passes:
            self._probes.arrival("r4", number)
        assert (number in self._probes.seen["r4"]) == passes
        self._probes.seen["r4"].clear()


@pytest.mark.timeout(max(300, COMMITS))
def test_commits_that_concern_others_disturb_no_flow(edge: Box, record_property: Callable[[str, object], None]) -> None:
    """No datagram is lost, no segment sent again, no connection reset, no record judged again, and no commit is without effect."""
    for number in range(1, 7):
        edge.plug(f"r{number}")
    _tell_drops_from_delays(edge)
    dice = random.Random(1)
    commit(edge, dice, 0)
    victim, streams, table = Victim(edge), Streams(edge), _table(edge)
    victim.ask(passes=True)
    flows = [flow("r1", 7000, "r2", 7000, UDP), *(flow("r1", 30_000 + n, "r2", 7001) for n in range(IDLE + 1))]
    with streams.running():
        exchange(*streams.connections[1], b"first")
        while not streams.came:
            streams._stop.wait(0.01)
        marks, rechecked = _marks(edge, flows), edge.counters()["rechecked"]
        begin = time.monotonic()
        for number in range(1, COMMITS + 1):
            commit(edge, dice, number)
            victim.ask(passes=number % 2 == 0)
        took = time.monotonic() - begin
        after = _marks(edge, flows), edge.counters()["rechecked"] - rechecked
    for pair in streams.connections:
        exchange(*pair, b"still there")
    again = [_retransmissions(end) for pair in streams.connections for end in pair]
    record_property(
        "measured",
        f"{COMMITS} commits in {took:.1f} s: {COMMITS / took:.1f} a second; {streams.sent} datagrams sent, "
        f"{streams.lost} lost; {streams.carried} messages over TCP, {sum(times for _, times in again)} sent again; "
        f"0 of {len(streams.connections)} connections reset; {after[1]} packets judged again",
    )
    assert _table(edge) == table
    assert (streams.lost, streams.wrong, streams.carried) == (0, 0, streams.sent)
    assert set(again) == {(_ESTABLISHED, 0)}
    # Of the victim and of its sentinel one packet a commit, and nothing else.
    assert after == (marks, 2 * COMMITS)


def structures() -> list[list[Tree]]:
    """Return policies that make other tables: more groups than there is room for, a rate, another stage of look-ups."""
    own = [rule("allow", 7000, "r1", "r2"), rule("allow", 7001, "r1", "r2", protocol="tcp")]
    groups = [rule("deny", 1000 + number, f"r{number}") for number in range(3, 7)]
    rate = [rule("limit", 2000, "r5", rate=100)]
    sources = [rule("deny", "1-65535", "r6", source=[f"10.{number}.0.0/16"]) for number in range(1, 81)]
    ports = [rule("deny", f"{number * 100}-{number * 100 + 50}", "r6") for number in range(100, 180)]
    return [own, own + groups, own + rate, own + sources + ports, sources + ports + own + rate + groups]


def test_commits_that_make_another_table_disturb_no_flow(
    edge: Box, record_property: Callable[[str, object], None]
) -> None:
    """Its flows are judged again, and that is all: nothing is lost while rules and all that they lead to are exchanged."""
    for number in range(1, 7):
        edge.plug(f"r{number}")
    _tell_drops_from_delays(edge)
    policies, tables = structures(), set[str]()
    apply(edge, *policies[0])
    streams, times = Streams(edge), 4
    with streams.running():
        exchange(*streams.connections[1], b"first")
        for rules in policies * times:
            before = streams.sent
            apply(edge, *rules)
            tables.add(_table(edge))
            while streams.sent < before + 20:
                streams._stop.wait(0.01)
    for pair in streams.connections:
        exchange(*pair, b"still there")
    again = {_retransmissions(end) for pair in streams.connections for end in pair}
    record_property("measured", f"{len(policies) * times} other tables; {streams.sent} datagrams, {streams.lost} lost")
    assert len(tables) == len(policies)
    assert (streams.lost, streams.wrong, streams.carried) == (0, 0, streams.sent)
    assert again == {(_ESTABLISHED, 0)}


def commit(edge: Box, dice: random.Random, number: int) -> None:
    """Commit another policy."""
    rules, groups = policy(dice, number)
    apply(edge, *rules, groups=groups)


def _marks(edge: Box, flows: list[FlowKey]) -> list[Mark]:
    return [edge.mark(each) for each in flows]


# -- what happens at the moment of a commit ---------------------------------------------------------------------------


class Reconnecting:
    """A client that takes a new source port for every datagram, as fast as it can."""

    def __init__(self, probes: Probes) -> None:
        self._out, self._stop = probes.machines["r1"].out, threading.Event()
        #: The number of the datagram that is being sent; those of the probes are far below.
        self.now = 1 << 32

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        for number in count(self.now + 1):
            if self._stop.is_set():
                return
            packet, to = Talk.of("r1", 1024 + number % 60_000, "r2", 443, UDP).packet("there", number)
            self.now = number
            self._out.sendto(packet, (to, 0))

    def go_on(self) -> None:
        """Return when some more have been sent."""
        target = self.now + 30
        while self.now < target:
            self._stop.wait(0.001)


def test_no_flow_that_begins_after_a_reload_is_let_in_by_the_policy_before(
    edge: Box, record_property: Callable[[str, object], None]
) -> None:
    """A client that changes its source port all the time finds no gap, in one reload after the other."""
    for number in range(1, 7):
        edge.plug(f"r{number}")
    apply(edge, rule("allow", 443, "r1", "r2"))
    probes = Probes(edge, "r1", "r2")
    warm = Talk.of("r1", 9, "r2", 9, UDP)
    probes.send(warm, "there")
    client, closed = Reconnecting(probes), list[tuple[int, int]]()
    with client.running():
        for number in range(RELOADS):
            client.go_on()
            apply(edge, rule("deny", 443, "r1", "r2"), rule("allow", 80 + number, "r5"))
            begin = client.now
            client.go_on()
            closed.append((begin, client.now))
            apply(edge, rule("allow", 443, "r1", "r2"))
            probes.settle()
    probes.send(warm, "there")
    seen = {number for number in probes.seen["r2"] if number > 1 << 32}
    let_in = [number for begin, end in closed for number in range(begin + 1, end) if number in seen]
    record_property("measured", f"{RELOADS} reloads, {client.now - (1 << 32)} flows begun, {len(seen)} let in")
    assert let_in == []
    assert seen


def test_no_live_flow_is_stamped_with_the_decision_before_a_reload(edge: Box) -> None:
    """Though fifty of them are judged again while many elements change: the kernel shows those of intervals last."""
    for number in range(1, 7):
        edge.plug(f"r{number}")
    talks = [Talk.of("r1", 20_000 + n, "r2", 5000 + n, UDP) for n in range(50)]
    crowd = Crowd(Probes(edge, "r1", "r2"), pause=0)
    live = 0

    def reload(number: int) -> Model:
        turned = rule(("allow", "deny")[number % 2], "5000-6000", "r1", "r2")
        fill = (
            rule("deny", f"{1 + 9 * n + number % 8}-{9 + 9 * n}", "r5", source=[f"10.{n}.0.0/16"]) for n in range(40)
        )
        made = vpc(LET_THROUGH, turned, *fill, guests=6, firewall=CLOSED)
        edge.apply(read(made))
        return Model(made["vpcs"]["red"])

    reload(0)
    crowd.talks = [(talk, "there") for talk in talks]
    with crowd.running():
        for number in range(1, RELOADS + 1):
            model, sent = reload(number), crowd.sent
            generations = edge.kernel.ports["nft"].generations(RED)  # type: ignore[attr-defined]
            while crowd.sent < sent + len(talks):
                time.sleep(0)
            for talk in talks:
                mark = edge.mark(talk.key)
                if mark.generation == generations[mark.engine]:
                    live += 1
                    assert mark.action == model.verdict(talk)[0]
    assert live > RELOADS
