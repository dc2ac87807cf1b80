"""What becomes of real flows through an edge when backends go and come, and of those beside them: nothing.

    client (198.51.100.7) ---- c0              b1 ---- back1 (172.16.1.11)
                                   vpc-red
    twin   (198.51.100.7) ---- c1              b3 ---- back3 (172.16.1.13)

The rules are written by hand: what is tested is what is done to the records. The twin has the client's address and
ports, in another conntrack zone.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Thread

import pytest

from appliance.control.flow_watch import FlowWatch
from appliance.control.reconciliation import Reconciliation, Wanted, scopes
from appliance.control.tasks import Tasks
from appliance.kernel.conntrack import KernelConntrack
from appliance.kernel.conntrack_codec import CtEntry
from appliance.model.facts import Instruction, Namespace
from appliance.model.marks import Action
from appliance.state.store import MemoryStore
from services.feature import Runtime
from tests.contract.worlds import World
from tests.support.intents import changed, intent, one_vpc
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.kernel

RED, CLIENT, TWIN = Namespace("vpc-red"), Namespace("client"), Namespace("twin")
VIP, FAR = "203.0.113.80", "198.51.100.7"
BACKENDS = {"r1": "172.16.1.11", "r3": "172.16.1.13"}
ZONE, OTHER_ZONE = 1101, 1102
OTHERS = 1000
#: One rule file: flows of clients in `rejected` are answered, as the program of flow records would on an instruction.
RULES = """
table inet t {
  set rejected { type ipv4_addr . inet_service; }
  chain tracked { type filter hook prerouting priority raw; iifname "c1" ct zone set 1102 return; ct zone set 1101; }
  chain tracked_local { type filter hook output priority raw; ct zone set 1101; }
  chain judged {
    type filter hook prerouting priority -90;
    meta l4proto tcp ct original ip saddr . ct original proto-src @rejected reject with tcp reset
  }
  chain translated { type nat hook prerouting priority dstnat; jump services; }
  chain services {
    ip daddr 203.0.113.80 udp dport 99 dnat ip to 172.16.1.13:9999
  }
}
"""


class Edge:
    """The namespaces, the daemon's parts in them, and sockets."""

    def __init__(self, world: World, sockets: ExitStack) -> None:
        self.world, self.sockets, self.tasks = world, sockets, Tasks()
        self.tracker = KernelConntrack(world.namespaces)
        self.watch = FlowWatch(self.tracker, self.tasks)
        self.done = Reconciliation(self.tracker, self.watch, self.tasks, MemoryStore(), self.instruct)
        self.established: dict[str, str] = {}

    def build(self) -> None:
        """Make devices, addresses and rules."""
        self.world.make(RED, CLIENT, TWIN, "back1", "back3")
        self.wire("c0", CLIENT, f"{FAR}/24", "198.51.100.1/24", f"{VIP}/32 via 198.51.100.1")
        self.wire("c1", TWIN, f"{FAR}/24", None, f"{VIP}/32 via 198.51.100.1")
        for number, address in ((1, BACKENDS["r1"]), (3, BACKENDS["r3"])):
            back, link = f"back{number}", f"b{number}"
            self.wire(link, back, f"{address}/24", "172.16.1.1/32", "default via 172.16.1.1")
            self.ip(RED, f"route add {address}/32 dev {link}")
        # What nothing translates leaves on the side it came from, as from an edge with an uplink.
        self.ip(RED, "route add default via 198.51.100.7")
        values = {"ipv4.ip_forward": 1, "ipv4.conf.all.rp_filter": 0, "ipv4.conf.all.send_redirects": 0}
        tracking = {"netfilter.nf_conntrack_events": 1, "netfilter.nf_conntrack_udp_timeout": 600}
        for name, value in (values | tracking).items():
            self.world.run(RED, "sysctl", "-qw", f"net.{name}={value}")
        self.world.run(RED, "nft", RULES)

    def ip(self, ns: str, *lines: str) -> None:
        """Run several `ip` commands in a namespace."""
        for line in lines:
            self.world.run(ns, "ip", *line.split())

    def wire(self, link: str, other: str, there: str, here: str | None, route: str) -> None:
        """Join a namespace to the edge."""
        self.ip(RED, f"link add {link} type veth peer name e0 netns {self.world.path(Namespace(other))}")
        self.ip(RED, f"link set {link} up", *([f"address add {here} dev {link}"] if here else []))
        self.ip(other, f"address add {there} dev e0", "link set e0 up", f"route add {route}")

    def socket(self, ns: str, kind: socket.SocketKind, address: str, port: int = 0) -> socket.socket:
        """Make a socket in a namespace, closed after the test."""
        with self.world.namespaces.in_namespace(Namespace(ns)):
            made = self.sockets.enter_context(socket.socket(socket.AF_INET, kind))
        made.settimeout(5)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        return made

    def serve(self, *backends: str) -> None:
        """Write the translations to backends; the kernel is what moves first."""
        lines = ["flush chain inet t services", "add rule inet t services ip daddr 203.0.113.80 udp dport 99 dnat ip to 172.16.1.13:9999"]  # fmt: skip
        for name in backends[:1]:
            for protocol in ("tcp", "udp"):
                target = f"{BACKENDS[name]}:8080"
                lines.append(f"add rule inet t services ip daddr {VIP} {protocol} dport 80 dnat ip to {target}")
        self.world.run(RED, "nft", "; ".join(lines))

    async def move(self, *backends: str) -> None:
        """Move kernel and promises to these backends."""
        self.serve(*backends)
        await self.done.carry_out(self.wanted(*backends))

    def wanted(self, *backends: str) -> dict[str, Wanted]:
        """Return what is promised with these backends up."""
        dns = {"address": VIP, "protocol": "udp", "port": 80, "target-port": 8080, "backends": list(BACKENDS)}
        tree = changed(one_vpc(), "vpcs.red.vips.dns", dns)
        tree = changed(tree, "vpcs.red.established", self.established)
        down = frozenset(("red", name, 8080) for name in BACKENDS.keys() - set(backends))
        return self.done.wanted(intent(tree), "h1", Runtime(down=down))

    async def instruct(self, given: Sequence[Instruction]) -> None:
        """Put instructions where the rules look."""
        assert {instruction.action for instruction in given} == {Action.REJECT}
        elements = ", ".join(f"{one.flow.source} . {one.flow.source_port}" for one in given)
        self.world.run(RED, "nft", f"add element inet t rejected {{ {elements} }}")

    def records(self, port: int, protocol: int, zone: int = ZONE) -> list[CtEntry]:
        """Return the records of clients that call from a port."""
        found = self.tracker.dump(RED, zone=zone)
        return [entry for entry in found if entry.orig.sport == port and entry.l4proto == protocol]

    def answerers(self, port: int, protocol: int, zone: int = ZONE) -> list[str]:
        """Return who answers those flows."""
        return [str(entry.reply.source) for entry in self.records(port, protocol, zone)]

    async def seen(self, number: int) -> None:
        """Wait until the index holds so many flows."""
        await eventually_async(
            lambda: self.watch.whole(RED) and sum(1 for _ in self.watch.index(RED) or ()) == number,
            what=f"{number} flows are seen",
        )


@pytest.fixture
async def edge(world: World) -> AsyncIterator[Edge]:
    """Build it and follow its flows."""
    with ExitStack() as sockets:
        made = Edge(world, sockets)
        made.build()
        try:
            made.serve("r1", "r3")
            await made.done.carry_out(made.wanted("r1", "r3"))
            tree = one_vpc()
            await made.watch.watch(scopes(intent(tree), "h1"))
            await made.seen(0)
            yield made
        finally:
            await made.tasks.stop()


@contextmanager
def echoing(edge: Edge, *names: str) -> Iterator[None]:
    """Have backends answer datagrams with their names."""

    def answer(made: socket.socket, name: str) -> None:
        while True:
            data, caller = made.recvfrom(2000)
            if caller[0] == BACKENDS[name]:
                return
            made.sendto(name.encode() + b" " + data, caller)

    threads = []
    for name in names:
        made = edge.socket(f"back{name[1:]}", socket.SOCK_DGRAM, BACKENDS[name], 8080)
        made.settimeout(None)
        threads.append((Thread(target=answer, args=(made, name)), made))
    for thread, _ in threads:
        thread.start()
    try:
        yield
    finally:
        for thread, made in threads:  # a datagram to itself ends it
            made.sendto(b"", made.getsockname())
            thread.join(10)


def ask(client: socket.socket, text: str, patience: float = 5.0) -> str:
    """Send a datagram to the VIP and return the answer, empty if none comes."""
    client.settimeout(patience)
    client.sendto(text.encode(), (VIP, 80))
    try:
        return client.recv(2000).decode()
    except TimeoutError:
        return ""


async def test_a_udp_service_that_is_scaled_to_zero_and_back_is_reached_again(edge: Edge) -> None:
    """By a client that keeps its port and never stops calling; without the deletions it would call in vain for ever."""
    client = edge.socket(CLIENT, socket.SOCK_DGRAM, FAR, 5555)
    with echoing(edge, "r1", "r3"):
        assert ask(client, "one") == "r1 one"
        await edge.seen(1)
        edge.serve("r3")
        assert ask(client, "two") == "r1 two"  # the record outlives the rule
        await edge.done.carry_out(edge.wanted("r3"))
        assert ask(client, "three") == "r3 three"
        await edge.seen(1)
        await edge.move()
        assert not edge.records(5555, 17)
        assert ask(client, "anybody?", 0.2) == ""
        assert edge.answerers(5555, 17) == [VIP]  # called in vain, and remembered
        edge.serve("r1")
        assert ask(client, "still?", 0.2) == ""
        await edge.seen(1)
        await edge.done.carry_out(edge.wanted("r1"))
        assert ask(client, "four") == "r1 four"
    assert [(row.change.kind, row.choice, row.result) for row in edge.done.audit] == [
        ("backend-gone", "re-judge", "deleted"),
        ("backend-gone", "re-judge", "deleted"),
        ("vip-served", "re-judge", "deleted"),
    ]


@pytest.mark.parametrize("word", ["keep", "re-judge", "reset"])
async def test_a_connection_whose_backend_is_gone_ends_as_the_operator_chose(edge: Edge, word: str) -> None:
    """Kept it goes on; else the client learns at its next packet and the next connection has another backend."""
    edge.established = {"backend-gone": word}
    servers = {name: edge.socket(f"back{name[1:]}", socket.SOCK_STREAM, BACKENDS[name], 8080) for name in BACKENDS}
    for server in servers.values():
        server.listen()
    client = edge.socket(CLIENT, socket.SOCK_STREAM, FAR, 6001)
    client.connect((VIP, 80))
    held = edge.sockets.enter_context(servers["r1"].accept()[0])
    held.settimeout(5)
    await edge.seen(1)
    await edge.move("r3")
    if word == "keep":
        client.sendall(b"more")
        assert held.recv(10) == b"more"
        return
    if word == "re-judge":
        assert edge.answerers(6001, 6) == []
    client.sendall(b"more")
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    if word == "reset":
        held.sendall(b"hello?")  # the other side learns too
        with pytest.raises(ConnectionResetError):
            held.recv(10)
        assert edge.answerers(6001, 6) == [BACKENDS["r1"]]  # until its time is over
    fresh = edge.socket(CLIENT, socket.SOCK_STREAM, FAR, 6002)
    fresh.connect((VIP, 80))
    edge.sockets.enter_context(servers["r3"].accept()[0])
    assert edge.answerers(6002, 6) == [BACKENDS["r3"]]


async def test_the_same_tuple_in_another_zone_is_another_flow(edge: Edge) -> None:
    """Deleted is the one that the index names, with its zone."""
    for ns in (CLIENT, TWIN):
        edge.socket(ns, socket.SOCK_DGRAM, FAR, 5556).sendto(b"x", (VIP, 80))
    one, twin = (edge.records(5556, 17, zone) for zone in (ZONE, OTHER_ZONE))
    assert [replace(entry, zone=0, timeout=0) for entry in one] == [replace(e, zone=0, timeout=0) for e in twin]
    await edge.seen(1)
    await edge.move("r3")
    assert edge.answerers(5556, 17) == []
    assert edge.answerers(5556, 17, OTHER_ZONE) == [BACKENDS["r1"]]


async def test_a_thousand_other_flows_are_as_they_were(edge: Edge) -> None:
    """Of another service of the same address, of the same client; each with a mark that would not come back."""
    client = edge.socket(CLIENT, socket.SOCK_DGRAM, FAR, 5557)
    for number in range(OTHERS):
        with edge.world.namespaces.in_namespace(CLIENT), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((FAR, 20000 + number))
            other.sendto(b"x", (VIP, 99))
    client.sendto(b"x", (VIP, 80))
    others = [entry for entry in edge.tracker.dump(RED, zone=ZONE) if entry.orig.dport == 99]
    assert edge.tracker.set_mark(RED, others, 0x7777) == OTHERS
    before = {replace(e, timeout=0) for e in edge.tracker.dump(RED) if e.orig.dport == 99}
    await edge.seen(OTHERS + 1)
    (told,) = edge.done.predict(edge.wanted("r3"))
    assert (told.change.kind, told.protocol, told.choice, told.flows) == ("backend-gone", 17, "re-judge", 1)
    await edge.move("r3")
    assert edge.records(5557, 17) == []
    assert {replace(e, timeout=0) for e in edge.tracker.dump(RED) if e.orig.dport == 99} == before
    assert {entry.mark for entry in before} == {0x7777}
    assert [(row.flow.key.source_port, row.result) for row in edge.done.audit] == [(5557, "deleted")]
