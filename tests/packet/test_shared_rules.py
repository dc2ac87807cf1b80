"""Rules shared among guests, with real packets: the acceptance of shared rule tables (design 0004)."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from appliance.kernel.namespaces import SO_RCVBUFFORCE
from appliance.model.facts import NftSet
from tests.packet.rows import exchange
from tests.packet.vpcs import RED, Box, address, box, flow, vpc
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World
    from tests.support.intents import Tree
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

CLOSED = {"internal": "deny"}
#: Short: what is dropped in silence is waited for.
SILENCE = 0.3


@pytest.fixture
def edge(world: World, netns_factory: Factory) -> Iterator[Box]:
    """Give a host without an edge."""
    with box(world, netns_factory) as made:
        yield made


def rule(action: str, *guests: str, port: int | None = None, **more: Any) -> Tree:
    """Return a rule at the ports of some guests; all when none is named."""
    ports = {"protocol": "tcp", "ports": [port]} if port else {}
    return {"action": action, "applies-to": list(guests)} | ports | more


def start(edge: Box, *rules: Tree, guests: int = 4) -> None:
    """Plug guests in and lead the edge to these rules; every guest listens on 8080 and 9090."""
    for number in range(1, guests + 1):
        edge.plug(f"r{number}")
    edge.apply(vpc(*rules, guests=guests, firewall=CLOSED))
    for number in range(1, guests + 1):
        for port in (8080, 9090):
            edge.listen(f"r{number}", port)


def reached(edge: Box, guests: str = "123", ports: tuple[int, ...] = (8080, 9090)) -> set[tuple[str, int]]:
    """Return to which guests and ports r4 can connect."""
    found = set()
    for guest in (f"r{number}" for number in guests):
        for port in ports:
            one = edge.connect("r4", 0, (address(guest), port), SILENCE)
            if one is not None:
                found.add((guest, port))
                one.close()
    return found


def elements(edge: Box, name: str) -> frozenset[str]:
    """Return the elements of a set as the kernel has them."""
    facts = {getattr(fact, "name", ""): fact for fact in edge.kernel.ports["nft"].read() if fact.ns == RED}
    return facts[name].elements


def regions(edge: Box) -> frozenset[str]:
    """Return the elements of the first stage of the rule table."""
    (fact,) = (f for f in edge.kernel.ports["nft"].read() if isinstance(f, NftSet) and f.name.startswith("regions_4_"))
    return fact.elements


ALL = rule("allow", "r4")


def test_a_rule_is_stored_once_and_each_guest_gets_its_own_verdicts(edge: Box) -> None:
    """Two guests with one rule set, one with another: the kernel holds no more than for one guest of each."""
    start(edge, rule("allow", "r1", "r2", port=8080), rule("allow", "r3", port=9090), ALL)
    assert reached(edge) == {("r1", 8080), ("r2", 8080), ("r3", 9090)}
    shared = regions(edge)
    assert len({element.split(" : ")[1] for element in elements(edge, "ports")}) == 3
    edge.apply(vpc(rule("allow", "r1", port=8080), rule("allow", "r3", port=9090), ALL, guests=4, firewall=CLOSED))
    assert regions(edge) == shared


def test_a_shared_rule_that_changes_changes_for_all_who_have_it_in_one_step(edge: Box) -> None:
    """And for nobody else."""
    start(edge, rule("allow", "r1", "r2", port=8080), rule("allow", "r3", port=8080), ALL)
    assert reached(edge, ports=(8080,)) == {("r1", 8080), ("r2", 8080), ("r3", 8080)}
    edge.apply(vpc(rule("deny", "r1", "r2", port=8080), rule("allow", "r3", port=8080), ALL, guests=4, firewall=CLOSED))
    assert reached(edge, ports=(8080,)) == {("r3", 8080)}


class Stream:
    """Numbered datagrams from one guest to another, as fast as the wire takes them in small bursts."""

    def __init__(self, edge: Box, source: str, to: str, port: int) -> None:
        self.sent, self.got = 0, set[int]()
        self._out, self._in = edge.udp(source, port), edge.udp(to, port)
        self._in.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
        self._to = (address(to), port)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._stop.wait(0.0005):
            self._out.sendto(b"%d" % (self.sent + 1), self._to)
            self.sent += 1

    def _receive(self) -> None:
        self._in.settimeout(SILENCE)
        while True:
            try:
                self.got.add(int(self._in.recv(100)))
            except TimeoutError:
                if self._stop.is_set():
                    return

    def stop(self) -> None:
        """Stop sending, and take in what is on its way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_no_packet_passes_by_the_old_rule_once_the_commit_is_done_and_none_of_others_is_lost(edge: Box) -> None:
    """Established one-way UDP is judged again by its next packet, back and forth ten times."""
    udp: dict[str, Any] = {"protocol": "udp", "ports": [7000]}
    other = rule("allow", "r3", **udp)
    start(edge, rule("allow", "r1", **udp), other, ALL)
    cut, untouched = Stream(edge, "r4", "r1", 7000), Stream(edge, "r2", "r3", 7000)
    edge.apply(vpc(rule("allow", "r1", **udp), other, ALL, rule("allow", "r2"), guests=4, firewall=CLOSED))
    eventually(lambda: untouched.got, within=10, what="the other stream runs")
    first = min(untouched.got)
    windows = []
    for _ in range(10):
        edge.apply(vpc(rule("deny", "r1", **udp), other, ALL, rule("allow", "r2"), guests=4, firewall=CLOSED))
        begin = cut.sent + 2  # one may be between the count and the wire
        target = cut.sent + 20
        eventually(lambda target=target: cut.sent > target, within=10, what="packets are sent meanwhile")  # type: ignore[misc]
        windows.append((begin, cut.sent))
        edge.apply(vpc(rule("allow", "r1", **udp), other, ALL, rule("allow", "r2"), guests=4, firewall=CLOSED))
        seen = len(cut.got)
        eventually(lambda seen=seen: len(cut.got) > seen, within=10, what="packets pass again")  # type: ignore[misc]
    for stream in (cut, untouched):
        stream.stop()
    passed = {number for begin, end in windows for number in range(begin, end) if number in cut.got}
    assert passed == set()
    assert set(range(first, untouched.sent + 1)) <= untouched.got


def test_a_rule_stays_until_the_last_guest_lets_it_go(edge: Box) -> None:
    """The kernel's own list tells."""

    def stands() -> bool:
        return any("8080" in element for element in regions(edge))

    nine = rule("allow", "r1", "r2", "r3", port=9090)
    start(edge, rule("allow", "r1", "r2", port=8080), nine, ALL)
    assert stands()
    edge.apply(vpc(rule("allow", "r2", port=8080), nine, ALL, guests=4, firewall=CLOSED))
    assert stands()
    assert reached(edge, ports=(8080,)) == {("r2", 8080)}
    edge.apply(vpc(nine, ALL, guests=4, firewall=CLOSED))
    assert not stands()
    assert reached(edge, ports=(8080,)) == set()


def test_two_guests_with_the_same_two_rules_in_opposite_order_get_opposite_verdicts(edge: Box) -> None:
    """The order is the guest's, the rules are shared."""
    allow, deny = rule("allow", "r1", port=8080), rule("deny", "r1", "r2", protocol="tcp")
    start(edge, allow, deny, rule("allow", "r2", port=8080), ALL)
    assert reached(edge, "12") == {("r1", 8080)}


def test_what_no_rule_speaks_of_falls_to_the_default_and_is_counted(edge: Box) -> None:
    """An empty index is an index; an address that is no guest's is counted as well."""
    start(edge, rule("allow", "r1", port=8080), ALL)
    before = edge.counters()["unmatched"]
    assert reached(edge, "2", (8080,)) == set()
    assert edge.counters()["unmatched"] > before
    edge.apply(vpc(rule("allow", "r1", port=8080), ALL, guests=4, firewall={"internal": "allow"}))
    assert reached(edge, "2", (8080,)) == {("r2", 8080)}
    strange = edge.socket("r1", socket.AF_INET, socket.SOCK_DGRAM)
    edge.run("r1", "ip", "address", "add", "172.16.1.99/24", "dev", "eth0")
    strange.bind(("172.16.1.99", 5))
    strange.sendto(b"who am I", (address("r2"), 5))
    eventually(lambda: edge.counters()["spoofed"] > 0, within=5, what="the lie is counted")


def test_a_tcp_flow_that_was_allowed_is_cut_by_the_commit_that_denies_it(edge: Box) -> None:
    """And goes on when it is allowed again: its record was never touched."""
    start(edge, rule("allow", "r1", "r2", port=8081), guests=2)
    listener = edge.listen("r2", 8081)
    one = edge.connect("r1", 40000, (address("r2"), 8081))
    assert one is not None
    other, _ = listener.accept()
    exchange(one, other, b"first")
    before = edge.mark(flow("r1", 40000, "r2", 8081))
    edge.apply(vpc(rule("deny", "r1", "r2", port=8081), guests=2, firewall=CLOSED))
    one.sendall(b"second")
    other.settimeout(SILENCE)
    with pytest.raises(TimeoutError):
        other.recv(100)
    after = edge.mark(flow("r1", 40000, "r2", 8081))
    assert (before.action, after.action) == (1, 2)
    assert after.engine == before.engine
    edge.apply(vpc(rule("allow", "r1", "r2", port=8081), guests=2, firewall=CLOSED))
    other.settimeout(10)
    assert other.recv(100) == b"second"


def test_a_rejected_flow_hears_of_it_in_both_directions(edge: Box) -> None:
    """TCP is reset, whoever speaks next."""
    start(edge, rule("allow", "r1", "r2", port=8081), guests=2)
    listener = edge.listen("r2", 8081)
    pairs = []
    for port in (40001, 40002):
        one = edge.connect("r1", port, (address("r2"), 8081))
        assert one is not None
        pairs.append((one, listener.accept()[0]))
        exchange(*pairs[-1], b"hello")
    edge.apply(vpc(rule("reject", "r1", "r2", port=8081), guests=2, firewall=CLOSED))
    for speaker in (pairs[0][0], pairs[1][1]):
        speaker.sendall(b"still there?")
        with pytest.raises(ConnectionResetError):
            speaker.recv(100)


def test_a_group_that_gets_a_member_lets_it_in_without_a_rule_changing(edge: Box) -> None:
    """The rule names the group."""
    rules = (rule("allow", "r1", port=8080, source=["friends"]), ALL)
    for number in range(1, 5):
        edge.plug(f"r{number}")
    edge.apply(vpc(*rules, guests=4, firewall=CLOSED, groups={"friends": ["r2"]}))
    edge.listen("r1", 8080)
    assert reached(edge, "1", (8080,)) == set()
    edge.apply(vpc(*rules, guests=4, firewall=CLOSED, groups={"friends": ["r2", "r4"]}))
    assert reached(edge, "1", (8080,)) == {("r1", 8080)}
