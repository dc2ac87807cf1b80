"""What a trace says about a flow on an inline edge; tests/packet/test_inline_trace.py holds it to the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from appliance.control.compile import compile_intent
from appliance.control.flow_desk import FlowDesk, Row
from appliance.control.flow_trace import trace
from appliance.control.instructions import Instructions
from appliance.control.reconcile import Reconciler
from appliance.kernel.conntrack_codec import CtEntry, CtTuple
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.errors import OperatorError
from appliance.model.facts import Namespace
from appliance.model.marks import GENERATIONS, Action, Mark, inline_zone
from services.feature import Runtime
from tests.support.fake_node import OUTSIDE
from tests.support.intents import changed, intent, pair

EDGE = {
    "id": 2,
    "host": "h1",
    "bridges": {
        "w1": {"north": "n1", "south": "s1", "engine": "one"},
        "w2": {"north": "n2", "south": "s2", "engine": "two"},
    },
    "engines": {
        "one": {"id": 7, "rules": [{"action": "reject", "protocol": "tcp", "ports": [22]}], "southward": "allow"},
        "two": {"id": 8},
    },
}
FLOW, SSH = "tcp 10.0.0.1:5 > 10.0.0.2:80", "tcp [fd00::1]:5 > [fd00::2]:22"


@dataclass
class Scene:
    """A desk before a kernel in memory."""

    desk: FlowDesk
    conntrack: FakeConntrack

    def trace(self, text: str, device: str = "") -> Row:
        """Trace a flow on engine one."""
        return trace(self.desk, "inline/edge/one", text, device)

    def play(self, action: Action, age: int) -> None:
        """Have FLOW live, judged so many generations ago."""
        generation = self.desk.judge.generations(Namespace("inl-edge"))[7] - age or GENERATIONS
        one, other = ip_address("10.0.0.1"), ip_address("10.0.0.2")
        mark = Mark(generation, 7, action).word
        there, back = CtTuple(one, other, 5, 80), CtTuple(other, one, 80, 5)
        self.conntrack.add(Namespace("inl-edge"), CtEntry(6, there, back, inline_zone(2, 7), mark=mark))


@pytest.fixture
def here() -> Scene:
    """Give an edge of two wires and two engines."""
    made, conntrack = intent(changed(pair(), "inline.edge", EDGE)), FakeConntrack()
    kernel = fake_kernel(FakeWorld(*OUTSIDE, "n1", "n2", "s1", "s2"), conntrack)
    Reconciler(kernel.ports).apply(compile_intent(made, "h1").facts)
    return Scene(FlowDesk("h1", made, Runtime(), kernel, Instructions(kernel.ports["nft"], conntrack)), conntrack)


def test_without_a_device_both_roads_are_told(here: Scene) -> None:
    """Nobody knows on which side the flow will begin."""
    row = here.trace(FLOW)
    assert [(way["destination"], way["result"]) for way in row["ways"]] == [
        ("toward north", "dropped by the default"),
        ("toward south", "passes"),
    ]
    assert row["result"] == "toward north: dropped by the default; toward south: passes"
    assert (row["arrives"], row["zone"], row["live"]) == ("either side", inline_zone(2, 7), False)
    both = here.trace(SSH)
    rule = both["ways"][0]["ports"][0]["rule"]
    assert both["result"] == f"dropped by rule {rule}, with an answer"


def test_a_device_tells_the_road_and_where_the_packet_leaves(here: Scene) -> None:
    """By the partner of its port."""
    row = here.trace(FLOW, "n1")
    (way,) = row["ways"]
    assert (way["destination"], way["next-hop"], row["result"]) == ("toward south", "s1", "passes")
    (way,) = here.trace(FLOW, "s1")["ways"]
    assert (way["destination"], way["next-hop"]) == ("toward north", "n1")
    with pytest.raises(OperatorError, match=r"engine one judges nothing that comes in by n2 .*--in: n1, s1"):
        here.trace(FLOW, "n2")


def test_an_instruction_decides_on_either_road(here: Scene) -> None:
    """What the rules say stands beside it."""
    here.desk.order("inline/edge/one", FLOW, "reset", "", 0)
    row = here.trace(FLOW)
    assert (row["instruction"], row["result"]) == ("reject", "dropped by the instruction, with an answer")
    assert [way["ports"][0]["action"] for way in row["ways"]] == ["deny", "allow"]


def test_record_and_rules_may_differ(here: Scene) -> None:
    """A stale record is judged again, a current one holds."""
    here.play(Action.DENY, age=1)
    (way,) = here.trace(FLOW, "n1")["ways"]
    assert way["differs"].endswith("the rules now say allow: stale, judged again at its next packet")
    assert way["result"] == "passes"
    here.play(Action.DENY, age=0)
    (way,) = here.trace(FLOW, "n1")["ways"]
    assert (way["action"], way["result"]) == ("deny", "dropped by its record, which is current")
    here.play(Action.ALLOW, age=0)
    assert here.trace(FLOW, "n1")["ways"][0]["differs"] is None
