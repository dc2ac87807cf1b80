"""Single flows reprogrammed while they run, with real packets: the acceptance of flow programming (design 0004, 0007)."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import ICMP, IP, UDP

from appliance.control.flows import Flows
from appliance.control.tasks import Tasks
from appliance.kernel.namespaces import SO_RCVBUFFORCE
from appliance.model.facts import FlowKey, Instruction, Namespace
from appliance.model.marks import Action, Mark
from appliance.state.store import MemoryStore
from services.feature import Runtime
from tests.packet.rows import exchange
from tests.packet.vpcs import RED, ZONE, Box, address, box, flow, vpc
from tests.support.namespaces import NAMED
from tests.support.service_node import ServiceNode
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.contract.worlds import World
    from tests.support.intents import Tree
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

UDP_PORT = 7000
#: Short: what is dropped in silence is waited for.
SILENCE = 0.3
#: Flows that speak at once.
AT_ONCE = 100
#: Guests r4 and r5 have a rule of their own, so flows to them are another engine.
OTHERS: Tree = {"action": "allow", "applies-to": ["r4", "r5"], "protocol": "udp"}
CLOSED = {"internal": "deny"}


@pytest.fixture
def edge(world: World, netns_factory: Factory) -> Iterator[Box]:
    """Give a host without an edge."""
    with box(world, netns_factory) as made:
        yield made


def start(edge: Box, *rules: Tree, guests: int = 2, **more: Tree) -> None:
    """Plug guests in and lead the edge to rules; records of datagrams live for as long as a test may take."""
    for number in range(1, guests + 1):
        edge.plug(f"r{number}")
    edge.apply(vpc(*rules, guests=guests, **more))
    for name in ("udp_timeout", "udp_timeout_stream"):
        edge.run("edge", "sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}=600")


def udp(source: str, port: int, to: str = "r2", to_port: int = UDP_PORT) -> FlowKey:
    """Name a flow of datagrams."""
    return flow(source, port, to, to_port, socket.IPPROTO_UDP)


class Ear:
    """A guest's socket for datagrams, which tells who was heard how often."""

    def __init__(self, edge: Box, name: str, port: int = UDP_PORT) -> None:
        self.name, self.socket = name, edge.udp(name, port)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        self.heard: Counter[tuple[str, int]] = Counter()

    def hear(self, number: int) -> Counter[tuple[str, int]]:
        """Take in so many datagrams, and whatever else is there; return how many came from whom."""
        self.heard.clear()
        self.socket.settimeout(10)
        while self.heard.total() < number:
            self.heard[self.socket.recvfrom(100)[1]] += 1
        self.socket.setblocking(False)
        while True:
            try:
                self.heard[self.socket.recvfrom(100)[1]] += 1
            except BlockingIOError:
                return self.heard


def speak(edge: Box, flows: Iterable[FlowKey], times: int = 1) -> None:
    """Send datagrams of many flows: a socket each would be too many."""
    by_source: dict[str, list[FlowKey]] = {}
    for one in flows:
        by_source.setdefault(f"r{int(str(one.source).split('.')[-1]) - 10}", []).append(one)
    for source, own in by_source.items():
        with edge.machines.in_namespace(Namespace(edge.names[source])):
            for one in own:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                    made.bind((str(one.source), one.source_port))
                    for _ in range(times):
                        made.sendto(b"%d" % one.source_port, (str(one.destination), one.destination_port))


def actions(edge: Box) -> Counter[Action]:
    """Return what the records of all flows say."""
    return Counter(Action(Mark.of(entry.mark).action) for entry in edge.kernel.conntrack.dump(RED, zone=ZONE))


def rows(edge: Box) -> set[Instruction]:
    """Return the instructions that the kernel has."""
    return {fact for fact in edge.kernel.ports["nft"].read() if isinstance(fact, Instruction)}


# -- what an instruction costs ----------------------------------------------------------------------------------------


def test_of_a_thousand_flows_one_changes_and_each_that_speaks_is_looked_at_once(edge: Box) -> None:
    """Idle ones cost nothing until they speak; flows of another engine are never looked at."""
    start(edge, OTHERS, guests=5)
    mine = [udp(source, 20000 + n, to) for source, to, count in (("r1", "r2", 400), ("r3", "r2", 300), ("r2", "r1", 300)) for n in range(count)]  # fmt: skip
    others = [udp(source, 30000 + n, "r5") for source in ("r4", "r1") for n in range(50)]
    cut = mine[7]
    ears = {name: Ear(edge, name) for name in ("r1", "r2", "r5")}

    def said(flows: list[FlowKey], times: int = 1, *, silent: FlowKey | None = None) -> None:
        """Speak, no more at once than devices hold; all arrive as often as they were sent, but the silent one."""
        for begin in range(0, len(flows), AT_ONCE):
            now = flows[begin : begin + AT_ONCE]
            speak(edge, now, times)
            for name, ear in ears.items():
                heard = [one for one in now if str(one.destination) == address(name) and one != silent]
                assert ear.hear(times * len(heard)) == {(str(one.source), one.source_port): times for one in heard}

    said(mine + others)
    before = edge.counters()["rechecked"]
    assert (before, actions(edge)) == (0, Counter({Action.ALLOW: 1100}))
    assert edge.mark(mine[0]).engine == edge.mark(mine[-1]).engine != edge.mark(others[0]).engine
    edge.instruct(cut, Action.DENY)
    assert edge.counters()["rechecked"] == 0
    said(others, 2)
    assert edge.counters()["rechecked"] == 0
    said(mine[:300], 3, silent=cut)
    assert edge.counters()["rechecked"] == 300
    assert actions(edge) == Counter({Action.ALLOW: 1099, Action.DENY: 1})
    said(mine[300:])
    assert edge.counters()["rechecked"] == 1000
    said(mine + others, 2, silent=cut)
    assert edge.counters()["rechecked"] == 1000
    assert actions(edge) == Counter({Action.ALLOW: 1099, Action.DENY: 1})
    assert edge.mark(cut).action == Action.DENY


def test_without_an_instruction_no_flow_is_looked_at_again(edge: Box) -> None:
    """A thousand packets, there and back."""
    start(edge)
    flows, ear = [udp("r1", 20000 + n) for n in range(10)], Ear(edge, "r2")
    for _ in range(10):
        speak(edge, flows, 10)
        assert set(ear.hear(100).values()) == {10}
    one, other = edge.udp("r1", 5000), edge.udp("r2", 5001)
    for _ in range(50):
        one.sendto(b"there", (address("r2"), 5001))
        other.sendto(b"back", other.recvfrom(100)[1])
        assert one.recv(100) == b"back"
    assert edge.counters()["rechecked"] == 0


def test_an_instruction_for_a_flow_that_never_spoke_costs_the_others_nothing(edge: Box) -> None:
    """There is no record whose decision could be an old one."""
    start(edge)
    flows, ear = [udp("r1", 20000 + n) for n in range(10)], Ear(edge, "r2")
    speak(edge, flows)
    ear.hear(10)
    edge.instruct(udp("r1", 19999), Action.DENY)
    speak(edge, flows, 2)
    assert set(ear.hear(20).values()) == {2}
    assert edge.counters()["rechecked"] == 0


# -- what an instruction does -----------------------------------------------------------------------------------------


@pytest.fixture
def through(edge: Box) -> tuple[Box, ServiceNode]:
    """Give an edge whose rule leads connections from r1 to r2 port 8080 through a service node."""
    name = edge.machine("ids")
    for number in (1, 2):
        edge.plug(f"r{number}")
    edge.run("ids", "ip", "link", "add", "e0", "type", "veth", "peer", "name", "tap7", "netns", str(edge.world.host))
    node = ServiceNode(Path(NAMED, name), "e0", IPv4Address("10.9.0.1"), IPv4Address("10.9.0.0"))
    rule: Tree = {"action": "redirect", "to": "ids", "source": ["r1"], "destination": ["r2"]}
    nodes: Tree = {"ids": {"id": 5, "host": "h1", "interface": "tap7", "link": "10.9.0.0/31"}}
    edge.apply(vpc(rule | {"protocol": "tcp", "ports": [8080]}, guests=2, service_nodes=nodes))
    node.start()
    return edge, node


def connection(edge: Box, port: int = 40000, to_port: int = 8080) -> tuple[socket.socket, socket.socket]:
    """Connect r1 to r2; return both ends."""
    with closing(edge.listen("r2", to_port)) as listener:
        one = edge.connect("r1", port, (address("r2"), to_port))
        assert one is not None
        other, _ = listener.accept()
    other.settimeout(10)
    return one, other


def test_a_connection_that_passes_by_its_service_node_goes_on_and_can_be_ended(
    through: tuple[Box, ServiceNode],
) -> None:
    """The node sees not one more packet, nobody is reset; then the flow falls silent, from either side."""
    edge, node = through
    one, other = connection(edge)
    exchange(one, other, b"through" * 1000)
    assert sum(node.packets().values()) > 4
    edge.instruct(flow("r1", 40000, "r2", 8080), Action.ALLOW)
    seen = node.packets()
    exchange(one, other, b"past" * 100_000)
    assert node.packets() == seen
    edge.instruct(flow("r1", 40000, "r2", 8080), None)
    exchange(one, other, b"through again")
    assert node.packets() != seen
    edge.instruct(flow("r1", 40000, "r2", 8080), Action.DENY)
    for speaker, hearer in ((one, other), (other, one)):
        hearer.settimeout(SILENCE)
        speaker.sendall(b"anybody?")
        with pytest.raises(TimeoutError):
            hearer.recv(100)
    edge.instruct(flow("r1", 40000, "r2", 8080), Action.ALLOW)
    for hearer in (one, other):
        hearer.settimeout(10)
        assert hearer.recv(100) == b"anybody?"
    assert edge.counters()["invalid"] == 0


def test_another_flow_through_the_node_stays_there(through: tuple[Box, ServiceNode]) -> None:
    """Only the one that was named passes by."""
    edge, node = through
    pairs = [connection(edge, port) for port in (40000, 40001)]
    edge.instruct(flow("r1", 40000, "r2", 8080), Action.ALLOW)
    before = Counter(node.packets())
    for one, other in pairs:
        exchange(one, other, b"hello")
    visits = Counter(node.packets()) - before
    assert {key.source_port for key in visits} == {40001, 8080}
    assert {key.destination_port for key in visits} == {40001, 8080}


@pytest.mark.parametrize("order", [(Action.DENY,), (Action.ALLOW, Action.DENY)], ids=["one", "two"])
def test_an_instruction_is_obeyed_by_the_first_packet(edge: Box, order: tuple[Action, ...]) -> None:
    """Of two, the last one counts."""
    start(edge)
    ear = Ear(edge, "r2")
    for action in order:
        edge.instruct(udp("r1", 20000), action)
    speak(edge, [udp("r1", 20000), udp("r1", 20001)])
    assert ear.hear(1) == {(address("r1"), 20001): 1}


def test_what_the_rules_deny_can_be_allowed_before_its_first_packet(edge: Box) -> None:
    """And is denied again when that is taken back."""
    start(edge, firewall=CLOSED)
    ear = Ear(edge, "r2")
    edge.instruct(udp("r1", 20000), Action.DENY)
    edge.instruct(udp("r1", 20000), Action.ALLOW)
    speak(edge, [udp("r1", 20001), udp("r1", 20000)])
    assert ear.hear(1) == {(address("r1"), 20000): 1}
    edge.instruct(udp("r1", 20000), None)
    edge.instruct(udp("r1", 20001), Action.ALLOW)
    speak(edge, [udp("r1", 20000), udp("r1", 20001)])
    assert ear.hear(1) == {(address("r1"), 20001): 1}


def test_of_two_instructions_for_a_live_flow_the_last_one_wins(edge: Box) -> None:
    """Whether it spoke in between or not."""
    start(edge)
    ear, own = Ear(edge, "r2"), udp("r1", 20000)
    speak(edge, [own])
    ear.hear(1)
    for first, last in ((Action.DENY, Action.ALLOW), (Action.ALLOW, Action.DENY)):
        edge.instruct(own, first)
        edge.instruct(own, last)
        speak(edge, [own, udp("r1", 20001)])
        heard = ear.hear(1 + (last is Action.ALLOW))
        assert ((address("r1"), 20000) in heard) == (last is Action.ALLOW)
    assert edge.mark(own).action == Action.DENY


@pytest.mark.parametrize("first", ["caller", "called"])
def test_both_directions_of_a_flow_obey(edge: Box, first: str) -> None:
    """Whoever speaks first afterwards."""
    start(edge)
    one, other = edge.udp("r1", 5000), edge.udp("r2", 5001)
    ends = ((one, other, ("r2", 5001)), (other, one, ("r1", 5000)))

    def arrive(text: bytes) -> list[bool]:
        """Tell of either direction whether it arrives."""
        told = []
        for speaker, hearer, (name, port) in ends if first == "caller" else reversed(ends):
            speaker.sendto(text, (address(name), port))
            hearer.settimeout(SILENCE)
            try:
                told.append(hearer.recv(100) == text)
            except TimeoutError:
                told.append(False)
        return told

    one.sendto(b"first", (address("r2"), 5001))
    assert other.recv(100) == b"first"
    assert arrive(b"before") == [True, True]
    own = udp("r1", 5000, "r2", 5001)
    edge.instruct(own, Action.DENY)
    assert arrive(b"denied") == [False, False]
    edge.instruct(own, Action.ALLOW)
    assert arrive(b"allowed") == [True, True]
    edge.instruct(own, Action.DENY)
    edge.instruct(own, None)
    assert arrive(b"judged") == [True, True]


@pytest.mark.parametrize("speaks", ["caller", "called"])
def test_a_rejected_connection_is_reset_on_both_sides(edge: Box, speaks: str) -> None:
    """Each learns when it speaks next."""
    start(edge)
    one, other = connection(edge)
    exchange(one, other, b"hello")
    edge.instruct(flow("r1", 40000, "r2", 8080), Action.REJECT)
    for speaker in (one, other) if speaks == "caller" else (other, one):
        speaker.sendall(b"still there?")
        with pytest.raises(ConnectionResetError):
            speaker.recv(100)


def test_a_rejected_flow_is_refused_from_the_start(edge: Box) -> None:
    """Connections are reset, datagrams answered by an error."""
    start(edge)
    edge.listen("r2", 8080)
    edge.udp("r2", UDP_PORT)
    edge.instruct(flow("r1", 40000, "r2", 8080), Action.REJECT)
    edge.instruct(udp("r1", 20000), Action.REJECT)
    made = edge.socket("r1", socket.AF_INET, socket.SOCK_STREAM)
    made.bind((address("r1"), 40000))
    with pytest.raises(ConnectionRefusedError):
        made.connect((address("r2"), 8080))
    sender = edge.udp("r1", 20000)
    sender.connect((address("r2"), UDP_PORT))
    sender.send(b"hello")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says which
        sender.recv(100)
    assert caught.value.errno == errno.EHOSTUNREACH


# -- errors about a flow ----------------------------------------------------------------------------------------------

ERRORS = {"port unreachable": ICMP(type=3, code=3), "too big": ICMP(type=3, code=4, nexthopmtu=1300)}


class Errors:
    """Errors about the flow from r1 port 5000 to r2 port 5001, and what r1 hears of them."""

    def __init__(self, edge: Box) -> None:
        self._r1, self._r2 = (edge.socket(name, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) for name in ("r1", "r2"))  # fmt: skip
        self._number = 0

    def arrives(self, error: ICMP) -> bool:
        """Have r2 send one; tell whether r1 hears it before what r2 says behind it."""
        self._number += 1
        about = IP(src=address("r1"), dst=address("r2")) / UDP(sport=5000, dport=5001)
        echo = ICMP(type=8, id=4793, seq=self._number)
        for message in (bytes(error / bytes(about)), bytes(echo)):
            self._r2.sendto(message, (address("r1"), 0))
        seen = False
        while True:
            heard = ICMP(self._r1.recv(1000)[20:])
            seen |= (heard.type, heard.code) == (error.type, error.code)
            if (heard.type, heard.id, heard.seq) == (8, 4793, self._number):
                return seen


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_about_a_flow_pass_as_the_flow_does(edge: Box, kind: str) -> None:
    """As the first to speak after an instruction too, and after the flow was judged."""
    start(edge)
    errors, one, ear = Errors(edge), edge.udp("r1", 5000), Ear(edge, "r2", 5001)
    own = udp("r1", 5000, "r2", 5001)
    one.sendto(b"hello", (address("r2"), 5001))
    ear.hear(1)
    assert errors.arrives(ERRORS[kind])
    for action in (Action.DENY, Action.ALLOW, Action.DENY, None):
        edge.instruct(own, action)
        expected = action is not Action.DENY
        assert errors.arrives(ERRORS[kind]) == expected
        assert edge.mark(own).action == (action or Action.ALLOW)
        assert errors.arrives(ERRORS[kind]) == expected


def test_errors_about_a_flow_that_only_an_instruction_allows_pass(edge: Box) -> None:
    """They have no rule of their own, and need none."""
    icmp: Tree = {"action": "allow", "protocol": "icmp"}
    start(edge, icmp, firewall=CLOSED)
    errors, one, ear = Errors(edge), edge.udp("r1", 5000), Ear(edge, "r2", 5001)
    own = udp("r1", 5000, "r2", 5001)
    edge.instruct(own, Action.ALLOW)
    one.sendto(b"hello", (address("r2"), 5001))
    ear.hear(1)
    assert errors.arrives(ERRORS["port unreachable"])
    edge.instruct(own, None)
    assert not errors.arrives(ERRORS["port unreachable"])


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "silent"])
async def test_an_instruction_ends_with_its_flow(edge: Box, how: str) -> None:
    """However the record ends. Another one stays; the next flow with these ports is judged by the rules."""
    start(edge)
    ear, (own, other) = Ear(edge, "r2"), (udp("r1", 20000), udp("r1", 20001))
    speak(edge, [own, other])
    ear.hear(2)
    tasks = Tasks()
    flows = Flows(edge.kernel, MemoryStore(), tasks)
    assert edge.intent is not None
    try:
        flows.begin(0)
        await flows.follow(edge.intent, "h1", Runtime())
        await eventually_async(lambda: flows.watch.whole(RED), what="the table is read")
        flows.instructions.give([Instruction(RED, one, Action.DENY) for one in (own, other)], 0)
        speak(edge, [own, other, udp("r1", 20002)])
        assert ear.hear(1) == {(address("r1"), 20002): 1}
        entry = edge.record(own)
        assert entry is not None
        if how == "deleted":
            assert edge.kernel.conntrack.delete(RED, [entry]) == 1
        else:
            assert edge.kernel.conntrack.set_timeout(RED, [entry], 1) == 1
            await eventually_async(lambda: edge.record(own) is None, what="the record ends by itself")
        await eventually_async(lambda: {row.flow for row in rows(edge)} == {other}, what="the row is gone")
        speak(edge, [own, other])
        assert ear.hear(1) == {(address("r1"), 20000): 1}
    finally:
        await tasks.stop()


def test_three_hundred_instructions_for_a_flow_are_each_obeyed_by_its_next_packet(edge: Box) -> None:
    """Never a packet by an old decision; and it is looked at no more often than it was instructed."""
    start(edge)
    one, other, own = edge.udp("r1", 20000), edge.udp("r2", UDP_PORT), udp("r1", 20000)
    one.sendto(b"0", (address("r2"), UDP_PORT))
    assert other.recv(100) == b"0"
    for number in range(1, 301):
        edge.instruct(own, Action.DENY if number % 2 else Action.ALLOW)
        one.sendto(b"%d" % number, (address("r2"), UDP_PORT))
        if number % 2 == 0:
            assert other.recv(100) == b"%d" % number  # and nothing that was denied before it
    assert edge.counters()["rechecked"] == 300
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        other.recv(100)
