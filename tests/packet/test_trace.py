"""What `edgeway trace` says is what the kernel does: random flows through a real edge, asked about before and after."""

from __future__ import annotations

import random
import socket
import struct
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from appliance.control.flow_desk import FlowDesk, Row
from appliance.control.flow_trace import trace
from appliance.control.instructions import Instructions
from appliance.kernel.conntrack_codec import flow_of
from appliance.model.describe import flow as written
from appliance.model.facts import FlowKey
from appliance.model.flow_text import parse_flow
from appliance.model.marks import Action, Mark
from services.feature import Runtime
from tests.packet.rows import exchange
from tests.packet.vpcs import CLIENT, RED, ZONE, Box, address, box, vpc
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World
    from tests.support.intents import Tree
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

VIP, PUBLIC, SNAT, NOBODY, GATEWAY, SPOOFED = (
    "203.0.113.80",
    "203.0.113.13",
    "203.0.113.1",
    "172.16.1.77",
    "172.16.1.1",
    "172.16.1.99",
)
SOURCES = {"r1": "172.16.1.11", "r2": "172.16.1.12", "r3": "172.16.1.13", "client": CLIENT}
TARGETS = (*SOURCES.values(), *SOURCES.values(), VIP, VIP, PUBLIC, NOBODY, GATEWAY)
OPEN = dict.fromkeys(("inbound", "outbound", "internal"), "allow")
PORTS = (53, 80, 443, 8080)
#: Counters of packets that came to nothing.
REFUSALS = ("denied", "rejected", "spoofed")
ECHO = struct.Struct("!BBHHH")
FLOWS = 30


def tree(dice: random.Random) -> Tree:
    """Give a VPC that uses every service, with random rules."""
    made = vpc(
        *(_rule(dice) for _ in range(dice.randint(0, 12))),
        firewall={side: dice.choice(("allow", "deny")) for side in ("inbound", "outbound", "internal")},
        snat={"address": SNAT},
        vips={
            name: {"address": VIP, "port": 80, "target-port": 8080, "protocol": name, "backends": ["r1", "r3"]}
            for name in ("tcp", "udp")
        },
        groups={"some": ["r1", "r3"], "net": ["172.16.1.64/26", "r2"]},
        service_nodes={"ids": {"id": 3, "host": "h1", "interface": "sn3", "link": "10.9.0.0/31"}},
    )
    made["vpcs"]["red"]["guests"]["r3"]["public"] = PUBLIC
    return made


def _rule(dice: random.Random) -> Tree:
    inside = ["r1", "r2", "r3", "some", "net", "172.16.1.0/24"]
    anywhere = [*inside, "outside", "198.51.100.0/24", "0.0.0.0/0"]
    action = dice.choice(("allow", "allow", "deny", "deny", "reject", "redirect", "limit", "sample"))
    made: Tree = {"action": action, "tier": dice.choice(("emergency", "application"))}
    for side in ("source", "destination"):
        terms = inside if action == "redirect" else anywhere
        made[side] = dice.sample(terms, dice.randint(1, 2)) if action == "redirect" or dice.random() < 0.7 else []
    made["protocol"] = dice.choice(("any", "tcp", "udp", "icmp"))
    if made["protocol"] in {"tcp", "udp"}:
        made["ports"] = dice.sample(["53", "80", "400-500", "8080"], dice.randint(0, 3))
    made["applies-to"] = dice.choice(([], [], ["r1"], ["some"], ["r2", "r3"]))
    extra: Tree = {"redirect": {"to": "ids"}, "limit": {"rate": 1000}, "sample": {"rate": 1000}}
    return made | extra.get(action, {})


@dataclass
class Traced:
    """An edge with a desk before it."""

    box: Box
    desk: FlowDesk

    def change(self, made: Tree) -> None:
        """Lead the edge, and the desk, to another intent."""
        self.box.apply(made)
        assert self.box.intent is not None
        self.desk.intent = self.box.intent

    def row(self, key: FlowKey) -> Row:
        """Trace a flow."""
        return self.said(written(key))

    def said(self, text: str) -> Row:
        """Trace what is written."""
        return trace(self.desk, "red", text)

    def send(self, name: str, key: FlowKey) -> socket.socket:
        """Send a packet of a flow from a machine, now."""
        target = (str(key.destination), key.destination_port)
        if key.protocol == socket.IPPROTO_ICMP:
            made = self.box.socket(name, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            made.bind((str(key.source), 0))
            checksum = ~(key.destination_port + key.source_port) & 0xFFFF
            made.sendto(ECHO.pack(8, 0, checksum, key.source_port, 0), (target[0], 0))
            return made
        kind = socket.SOCK_STREAM if key.protocol == socket.IPPROTO_TCP else socket.SOCK_DGRAM
        made = self.box.socket(name, socket.AF_INET, kind)
        made.bind((str(key.source), key.source_port))
        if kind is socket.SOCK_DGRAM:
            made.sendto(b"x", target)
        else:
            made.setblocking(False)
            made.connect_ex(target)
        return made

    def outcome(self, name: str, key: FlowKey) -> str:
        """Send a first packet and say what the kernel did: the counter that rose, or `passes`."""
        before = self.box.counters()
        with self.send(name, key):
            return eventually(lambda: self._happened(key, before), what=f"{written(key)} is judged")

    def _happened(self, key: FlowKey, before: dict[str, int]) -> str:
        # What goes out may come back as another flow and be refused: the record is what tells.
        if self.box.record(key) is not None:
            return "passes"
        now = self.box.counters()
        return next((counter for counter in REFUSALS if now[counter] > before[counter]), "")


@pytest.fixture
def traced(world: World, netns_factory: Factory) -> Iterator[Traced]:
    """Give an edge with three guests, one of which also sends with an address that is not its own."""
    with box(world, netns_factory) as made:
        for name in ("r1", "r2", "r3"):
            made.plug(name, *((f"ip address add {SPOOFED}/32 dev lo",) if name == "r1" else ()))
        made.run("host", "ip", "link", "add", "sn3", "type", "veth", "peer", "name", "sn3-far")
        made.apply(tree(random.Random(0)))
        made.run("host", "ip", "route", "replace", PUBLIC, "via", "100.64.0.203")
        for name in SOURCES:
            for port in PORTS:
                made.listen(name, port)
        assert made.intent is not None
        instructions = Instructions(made.kernel.ports["nft"], made.kernel.conntrack)
        yield Traced(made, FlowDesk("h1", made.intent, Runtime(), made.kernel, instructions))


def flows(dice: random.Random) -> Iterator[tuple[str, FlowKey]]:
    """Yield random flows, each of its own source port, and who sends them."""
    for number in range(FLOWS):
        name = dice.choice(tuple(SOURCES))
        source = SPOOFED if name == "r1" and dice.random() < 0.2 else SOURCES[name]
        target = dice.choice([target for target in TARGETS if target != SOURCES[name]])
        if name == "client" and target in {*SOURCES.values(), NOBODY, GATEWAY}:
            target = dice.choice((VIP, PUBLIC))
        protocol = dice.choice((socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP))
        # Where nobody listens, the reset takes the record away: nothing to compare with.
        protocol = socket.IPPROTO_UDP if target == GATEWAY else protocol
        port = 8 << 8 if protocol == socket.IPPROTO_ICMP else dice.choice(PORTS)
        yield name, FlowKey(IPv4Address(source), 20_000 + number, IPv4Address(target), port, protocol, ZONE)


def way_of(row: Row, traced: Traced, key: FlowKey) -> Row:
    """Return the way that the kernel chose, of those that were possible."""
    entry = traced.box.record(key)
    assert entry is not None
    (way,) = [way for way in row["ways"] if way["destination"].startswith(f"{flow_of(entry).reply.source}:")]
    return dict(way)


def expected(row: Row, said: str) -> bool:
    """Tell whether what the kernel did is a result that the trace allows."""
    possible = {way["result"] for way in row["ways"]}
    return any(
        {
            "spoofed": "spoofed source" in result,
            "rejected": result.startswith("dropped by") and result.endswith("with an answer"),
            "denied": result.startswith("dropped by") and "spoofed" not in result and "answer" not in result,
            "passes": result.startswith("passes"),
        }[said]
        for result in possible
    )


def check_mark(traced: Traced, key: FlowKey, way: Row) -> None:
    """Hold the record's mark to what was said."""
    mark = traced.box.mark(key)
    if way["action"] is None:
        assert mark == Mark(0, 0, 0), way
        return
    assert Action(mark.action).name.lower() == way["action"], way
    assert mark.engine == way["engine"], way
    assert mark.generation == traced.desk.judge.generations(RED)[mark.engine], way


@pytest.mark.parametrize("seed", range(1, 5))
def test_the_kernel_does_what_was_said_before_the_first_packet(traced: Traced, seed: int) -> None:
    """And the record of a flow that passes has the mark and the translation that were said."""
    dice = random.Random(seed)
    traced.change(tree(dice))
    results = set()
    for name, key in flows(dice):
        if dice.random() < 0.2:
            word = dice.choice(("deny", "reset", "allow"))
            traced.desk.order("red", written(key), word, "", 0)
        before = traced.row(key)
        assert before["live"] is False
        said = traced.outcome(name, key)
        results.add(said)
        assert expected(before, said), (said, before)
        if said == "passes":
            way = way_of(before, traced, key)
            check_mark(traced, key, way)
            after = traced.row(key)
            (live,) = after["ways"]
            same = ("action", "object", "engine", "ports", "differs", "result")
            assert {name: live[name] for name in same} == {name: way[name] for name in same}
    assert len(results) > 1


@pytest.mark.parametrize("seed", range(1, 3))
def test_a_live_flow_is_judged_again_as_was_said(traced: Traced, seed: int) -> None:
    """After a change of rules the trace tells that the record is stale, and what its next packet will do."""
    dice = random.Random(seed)
    made = tree(dice)
    made["vpcs"]["red"]["firewall"] = OPEN
    traced.change(made)
    live = []
    for name, key in flows(dice):
        if key.protocol == socket.IPPROTO_UDP and str(key.source) != SPOOFED:
            assert traced.outcome(name, key) == "passes"
            live.append((name, key))
    traced.change(tree(dice))
    stale = 0
    for name, key in live:
        before = traced.row(key)
        (way,) = before["ways"]
        stale += before["record"]["judged"] == "stale"
        assert before["record"]["judged"] == "stale" or way["differs"] is None
        with traced.send(name, key):
            eventually(partial(_settled, traced, key, way), what="the flow is judged again")
        check_mark(traced, key, way)
    assert stale


def _settled(traced: Traced, key: FlowKey, way: Row) -> bool:
    mark = traced.box.mark(key)
    return way["action"] is None or mark.generation == traced.desk.judge.generations(RED).get(mark.engine)


def test_what_is_written_in_a_trace_leads_back_to_the_flow(traced: Traced) -> None:
    """However it was translated."""
    made = tree(random.Random(1))
    made["vpcs"]["red"]["firewall"] = OPEN
    traced.change(made)
    key = FlowKey(IPv4Address(address("r2")), 30_000, IPv4Address(CLIENT), 53, socket.IPPROTO_UDP, ZONE)
    assert traced.outcome("r2", key) == "passes"
    entry = traced.box.record(key)
    assert entry is not None
    row: Any = trace(traced.desk, "red", written(flow_of(entry).reply))
    assert (row["flow"], row["live"]) == (written(key), True)
    assert parse_flow(row["flow"], ZONE) == key
    (way,) = row["ways"]
    assert way["translation"] == [f"source becomes {entry.reply.destination}:{entry.reply.dport}"]
    assert way["next-hop"] == "via 100.64.0.202 dev ew-up"


def test_a_live_connection_is_denied_from_either_end_and_goes_on_when_cleared(traced: Traced) -> None:
    """The answer comes when it is in force: the next packet obeys."""
    made = tree(random.Random(1))
    made["vpcs"]["red"]["firewall"] = OPEN
    traced.change(made)
    server = traced.box.listen("r3", 7777)
    client = traced.box.connect("r1", 40_000, (SOURCES["r3"], 7777))
    assert client is not None
    there, _ = server.accept()
    there.settimeout(10)
    exchange(client, there, b"before")
    text = f"tcp {SOURCES['r1']}:40000 > {SOURCES['r3']}:7777"
    answer = traced.desk.order("red", f"tcp {SOURCES['r3']}:7777 > {SOURCES['r1']}:40000", "deny", "", 0)
    assert (answer["flow"], answer["live"], answer["in-force"]) == (text, True, True)
    assert (answer["record"]["judged"], answer["record"]["action"]) == ("current", "allow")
    assert answer["generation-after"] == answer["generation-before"] + 1
    (way,) = traced.said(text)["ways"]
    assert way["differs"].startswith("the record says allow, the rules now say deny: stale")
    before = traced.box.counters()["denied"]
    client.sendall(b"x")
    eventually(lambda: traced.box.counters()["denied"] > before, what="the segment is dropped")
    assert traced.said(text)["record"]["action"] == "deny"
    assert traced.desk.clear("red", text)["cleared"] == 1
    assert there.recv(1) == b"x"
    exchange(client, there, b"after")
    assert traced.said(text)["result"] == "passes"


@pytest.mark.parametrize(
    "text", ["47 172.16.1.11 > 172.16.1.13", "icmp 172.16.1.11:5 > 172.16.1.13:3328", "89 10.0.0.1 > 224.0.0.5"]
)
def test_flows_of_any_protocol_can_be_asked_about(traced: Traced, text: str) -> None:
    """Conntrack may not know such tuples: then they are not live."""
    assert traced.said(text)["live"] is False
