"""What a trace says; tests/packet/test_trace.py holds it to the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest

from appliance.control.compile import Known, compile_intent
from appliance.control.flow_desk import FlowDesk, Row
from appliance.control.flow_trace import trace
from appliance.control.instructions import Instructions
from appliance.control.reconcile import Reconciler
from appliance.kernel.conntrack_codec import CtEntry, CtTuple
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.errors import OperatorError
from appliance.model.facts import Instruction, Namespace
from appliance.model.flow_text import parse_flow
from appliance.model.marks import GENERATIONS, Action, Mark
from services.feature import Runtime
from tests.support.fake_node import OUTSIDE
from tests.support.intents import Tree, changed, intent, one_vpc

RED = Namespace("vpc-red")
NODES = {
    "ids": {"id": 3, "host": "h1", "interface": "sn3", "link": "10.9.0.0/31"},
    "strict": {"id": 5, "host": "h1", "interface": "sn5", "link": "10.9.0.4/31", "on-failure": "deny"},
}
BETWEEN = "tcp 172.16.1.11:1000 > 172.16.1.13:80"
OUT = "tcp 172.16.1.13:1000 > 198.51.100.1:80"
IN = "tcp 198.51.100.1:1000 > 203.0.113.80:80"
THROUGH = {"action": "redirect", "source": ["r1"], "destination": ["r3"]}


@dataclass
class Scene:
    """A desk before a kernel in memory."""

    desk: FlowDesk
    world: FakeWorld
    conntrack: FakeConntrack

    def trace(self, flow: str, device: str = "") -> Row:
        """Trace a flow of VPC red."""
        return trace(self.desk, "red", flow, device)

    def way(self, flow: str, device: str = "") -> Any:
        """Trace a flow that has one way."""
        (way,) = self.trace(flow, device)["ways"]
        return way

    def play(self, out: str, back: str, action: Action | None = None, *, engine: int = 2, age: int = 0) -> None:
        """Have a live flow, judged `age` generations ago."""
        generation = self.desk.judge.generations(RED)[engine] - age or GENERATIONS
        mark = 0 if action is None else Mark(generation, engine, action).word
        self.conntrack.add(
            RED, CtEntry(6, _tuple(out), _tuple(back), 1101, mark=mark, timeout=9, tcp_state="established")
        )


def _tuple(text: str) -> CtTuple:
    (one, sport), (other, dport) = (end.split(":") for end in text.split(" > "))
    return CtTuple(ip_address(one), ip_address(other), int(sport), int(dport))


def scene(*rules: Tree, runtime: Runtime | None = None) -> Scene:
    """Give VPC red on h1 with these rules (r1 and r3 here, r2 on h2); engine 2 is r1's, or that of both."""
    made = intent(changed(changed(one_vpc(), "vpcs.red.firewall.rules", list(rules)), "vpcs.red.service-nodes", NODES))
    conntrack, world = FakeConntrack(), FakeWorld(*OUTSIDE, "sn3", "sn5")
    kernel, known = fake_kernel(world, conntrack), Known(runtime or Runtime())
    Reconciler(kernel.ports).apply(compile_intent(made, "h1", known).facts)
    instructions = Instructions(kernel.ports["nft"], conntrack)
    return Scene(FlowDesk("h1", made, known.runtime, kernel, instructions), world, conntrack)


def test_a_trace_goes_from_arrival_to_result() -> None:
    """Every question that a person has on the way."""
    row = scene({"action": "allow", "protocol": "tcp", "ports": [80]}).trace(BETWEEN)
    rule = row["ways"][0]["ports"][0]["rule"]
    said = {"rule": rule, "position": 1, "tier": "application", "says": "allow tcp ports 80", "action": "allow"}
    assert row == {
        "vpc": "red",
        "flow": BETWEEN,
        "zone": 1101,
        "live": False,
        "state": None,
        "arrives": "ew-lan",
        "source": "172.16.1.11: guest r1 on h1",
        "instruction": None,
        "record": None,
        "ways": [
            {
                "destination": "172.16.1.13: guest r3 on h1",
                "translation": [],
                "ports": [
                    {"guest": "r1", "end": "source", "because": None} | said,
                    {"guest": "r3", "end": "destination", "because": None} | said,
                ],
                "action": "allow",
                "object": None,
                "engine": 2,
                "differs": None,
                "next-hop": "dev ew-lan",
                "result": "passes",
            }
        ],
        "result": "passes",
    }


@pytest.mark.parametrize(
    ("rules", "flow", "result"),
    [
        ((), OUT, "passes"),
        ((), BETWEEN, "passes"),
        (({"action": "deny"},), BETWEEN, "dropped by rule RULE at the port of r1"),
        (({"action": "reject", "applies-to": ["r3"]},), BETWEEN, "dropped by rule RULE at the port of r3, with an answer"),
        ((), "tcp 198.51.100.1:5 > 203.0.113.11:22", "dropped by the default of inbound traffic at the port of r1"),
        ((), "tcp 172.16.1.12:5 > 172.16.1.1:22", "passes: it is for the edge itself"),
        ((), "udp 172.16.1.99:5 > 172.16.1.13:22", "dropped by spoofed source: 172.16.1.99 is no guest of h1"),
        ((), "tcp 172.16.1.11:5 > [::1]:22", None),
        ((THROUGH | {"to": "ids"},), BETWEEN, "passes through service node ids"),
        (({"action": "limit", "rate": 5},), BETWEEN, "passes within the rule's limit"),
        (({"action": "sample", "rate": 5},), BETWEEN, "passes, some packets are copied"),
    ],
)  # fmt: skip
def test_the_last_word_is_what_becomes_of_it(rules: tuple[Tree, ...], flow: str, result: str | None) -> None:
    """And by whom it is dropped."""
    here = scene(*rules)
    if result is None:
        with pytest.raises(OperatorError, match="one address is IPv4"):
            here.trace(flow)
        return
    row = here.trace(flow)
    named = [port["rule"] for port in row["ways"][0]["ports"] if port["rule"]]
    assert row["result"] == result.replace("RULE", named[-1] if named else "")


def test_a_service_node_that_is_down_is_blamed() -> None:
    """Its own word for that case decides."""
    down = Runtime(nodes_down=frozenset({("red", "strict"), ("red", "ids")}))
    row = scene(THROUGH | {"to": "strict"}, runtime=down).trace(BETWEEN)
    assert row["result"].startswith("dropped by service node strict does not answer: on-failure deny (rule ")
    way = scene(THROUGH | {"to": "ids"}, runtime=down).way(BETWEEN)
    assert (way["action"], way["result"]) == ("allow", "passes")
    assert way["ports"][0]["because"] == "service node ids does not answer: on-failure allow"


def test_a_redirected_flow_goes_to_the_node_and_from_there_on() -> None:
    """What comes back from the node is not sent there again."""
    here = scene(THROUGH | {"to": "ids"})
    assert here.way(BETWEEN)["next-hop"] == "via 10.9.0.1 dev sn3"
    assert here.way(BETWEEN, "sn3")["next-hop"] == "dev ew-lan"
    here.world.links.pop((RED, "sn3"))
    assert here.way(BETWEEN)["result"] == "dropped by service node ids: no way to it (blackhole)"


def test_without_a_route_it_is_dropped() -> None:
    """Whatever the rules allow."""
    here = scene()
    here.world.routes.clear()
    assert here.way(OUT)["next-hop"] == "unreachable"
    assert here.trace(OUT)["result"] == "dropped by no route (unreachable)"


def test_translations_are_told_as_far_as_they_are_known() -> None:
    """Of a first packet to a VIP, every backend that it may get, with what becomes of it there."""
    row = scene({"action": "allow", "destination": ["r1"]}).trace(IN)
    assert [way["translation"] for way in row["ways"]] == [
        ["destination becomes 172.16.1.11:8080 (VIP web, backend r1)"],
        ["destination becomes 172.16.1.13:8080 (VIP web, backend r3)"],
    ]
    assert row["result"] == (
        "to 172.16.1.11:8080: passes; to 172.16.1.13:8080: dropped by the default of inbound traffic at the port of r3"
    )
    assert scene().way(OUT)["translation"] == ["source becomes 203.0.113.1, one of its ports 11264-12287"]
    assert scene().way(OUT.replace(".13:", ".11:"))["translation"] == [
        "source becomes 203.0.113.11: public address of r1"
    ]


def test_a_live_flow_tells_its_own_translation() -> None:
    """Whatever the intent says by now."""
    here = scene({"action": "allow"})
    here.play("198.51.100.1:1000 > 203.0.113.80:80", "172.16.1.13:8080 > 198.51.100.1:1000", Action.ALLOW)
    way = here.way(IN)
    assert way["translation"] == ["destination becomes 172.16.1.13:8080 (VIP web, backend r3)"]
    here.play("198.51.100.1:1001 > 203.0.113.80:80", "172.16.1.77:9999 > 198.51.100.1:1001", Action.ALLOW)
    way = here.way(IN.replace("1000", "1001"))
    assert way["translation"] == ["destination becomes 172.16.1.77:9999 (as its record has it)"]
    here.play("172.16.1.13:1000 > 198.51.100.1:80", "198.51.100.1:80 > 203.0.113.1:11264", Action.ALLOW)
    row = here.trace("tcp 198.51.100.1:80 > 203.0.113.1:11264")
    assert (row["flow"], row["live"], row["state"]) == (OUT, True, "established")
    assert row["ways"][0]["translation"] == ["source becomes 203.0.113.1:11264"]


def test_an_instruction_decides_and_the_rules_are_still_shown() -> None:
    """A person wants to know what happens when it is cleared."""
    here = scene({"action": "allow"})
    here.desk.order("red", BETWEEN, "deny", "", 0)
    row = here.trace(BETWEEN)
    assert (row["instruction"], row["result"]) == ("deny", "dropped by the instruction")
    assert [port["action"] for port in row["ways"][0]["ports"]] == ["allow", "allow"]
    here.desk.order("red", BETWEEN, "redirect", "ids", 0)
    row = here.trace(BETWEEN)
    assert (row["instruction"], row["result"]) == ("redirect to ids", "passes through service node ids")
    key = parse_flow(BETWEEN, 1101)
    here.desk.instructions.give((Instruction(RED, key, Action.ALLOW, 3),), 0)
    row = here.trace(BETWEEN)
    assert (row["instruction"], row["ways"][0]["object"]) == ("allow by service node ids", None)


def test_a_stale_record_is_told_with_both_decisions() -> None:
    """Its next packet is judged by the rules."""
    here = scene({"action": "deny"})
    here.play("172.16.1.11:1000 > 172.16.1.13:80", "172.16.1.13:80 > 172.16.1.11:1000", Action.ALLOW, age=1)
    row = here.trace(BETWEEN)
    assert row["record"]["judged"] == "stale"
    assert row["ways"][0]["differs"] == (
        "the record says allow, the rules now say deny: stale, judged again at its next packet"
    )
    assert row["result"].startswith("dropped by rule ")


def test_a_current_record_that_says_something_else_holds() -> None:
    """For as long as the commit is on its way that makes it stale."""
    here = scene({"action": "deny"})
    here.play("172.16.1.11:1000 > 172.16.1.13:80", "172.16.1.13:80 > 172.16.1.11:1000", Action.ALLOW)
    way = here.way(BETWEEN)
    assert (way["action"], way["result"]) == ("allow", "passes")
    assert way["differs"].endswith("the rules now say deny: a commit is on its way")
    here.play("172.16.1.11:1001 > 172.16.1.13:80", "172.16.1.13:80 > 172.16.1.11:1001", Action.REJECT)
    assert here.way(BETWEEN.replace("1000", "1001"))["result"] == (
        "dropped by its record, which is current, with an answer"
    )


def test_a_record_that_was_never_judged_says_so() -> None:
    """As of a flow that is for the edge itself."""
    here = scene()
    here.play("172.16.1.11:1000 > 172.16.1.1:80", "172.16.1.1:80 > 172.16.1.11:1000")
    row = here.trace("tcp 172.16.1.11:1000 > 172.16.1.1:80")
    assert (row["record"]["judged"], row["ways"][0]["differs"]) == ("never", None)
    assert row["result"] == "passes: it is for the edge itself"


@pytest.mark.parametrize(
    ("device", "arrives"),
    [("tap11", "ew-lan"), ("ew-lan", "ew-lan"), ("ew-up", "ew-up"), ("ew-v101", "ew-up"), ("ew-vx", "ew-vx")],
)
def test_a_device_may_be_given(device: str, arrives: str) -> None:
    """By the name that it has on either end."""
    assert scene().trace(OUT, device)["arrives"] == arrives


def test_a_device_that_leads_to_nobody_is_refused_with_those_that_do() -> None:
    """A guest's port on another host is none of ours."""
    with pytest.raises(OperatorError, match=r"tap12 leads to nobody of this VPC here.*tap11, tap13, sn3, sn5, ew-lan"):
        scene().trace(OUT, "tap12")
    assert scene().trace(OUT, "ew-up")["result"].startswith("dropped by spoofed source: 172.16.1.13 is of the VPC")
