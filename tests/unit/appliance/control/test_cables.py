"""Wires of a node in memory: closed, opened, mirrored."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import structlog

from appliance.control.cables import Cables
from appliance.control.compile import Known, compile_intent
from appliance.control.reconcile import Reconciler
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.facts import Link, Namespace
from tests.support.intents import intent, pair

NS = Namespace("inl-dmz")
TREE = pair() | {
    "inline": {
        "dmz": {
            "id": 1,
            "host": "h1",
            "bridges": {"a": {"north": "eth5", "south": "eth6", "engine": "main"}},
            "engines": {"main": {"id": 1}},
        }
    }
}
INTENT = intent(TREE)


@dataclass
class Node:
    """What of the daemon has to do with wires."""

    world: FakeWorld = field(default_factory=lambda: FakeWorld("eth1", "eth2", "eth5", "eth6"))

    def __post_init__(self) -> None:
        """Start as a daemon does."""
        self.kernel = fake_kernel(self.world)
        self.reconciler = Reconciler(self.kernel.ports)
        self.cables = Cables(self.kernel.ports["links"])
        self.cables.take_up(INTENT, "h1")

    def converge(self) -> bool:
        """Compile and apply once; tell whether it must be done again."""
        known = Known(held=self.cables.held)
        outcome = self.reconciler.apply(compile_intent(INTENT, "h1", known).facts)
        return self.cables.opened(outcome.pending)

    def up(self) -> set[str]:
        """Return the ports of the wire that are raised."""
        return {
            link.name for link in self.world.links.values() if link.kind == "physical" and link.ns == NS and link.up
        }


@pytest.fixture
def node() -> Node:
    """Give a node that has converged once."""
    made = Node()
    assert made.up() == set()
    assert made.converge(), "closed at first: compile again"
    return made


def test_a_wire_is_raised_after_everything_else(node: Node) -> None:
    """The second round raises it; the third has nothing to do."""
    assert node.up() == set()
    assert not node.converge()
    assert node.up() == {"eth5", "eth6"}


def test_a_pulled_cable_lowers_the_other_side(node: Node) -> None:
    """And it is raised again; each is one event in the log."""
    node.converge()
    assert not node.cables.look()
    node.world.down.add((NS, "eth5"))
    with structlog.testing.capture_logs() as events:
        assert node.cables.look()
    assert [(event["event"], event["port"]) for event in events] == [("wire-side-lowered", "eth6")]
    node.converge()
    assert node.up() == {"eth5"}
    assert not node.cables.look(), "what we lowered is no cause"
    node.world.down.clear()
    assert node.cables.look()
    node.converge()
    assert node.up() == {"eth5", "eth6"}


def test_a_restarted_daemon_disturbs_no_wire(node: Node) -> None:
    """It finds them open, and knows which side is lowered because of the other."""
    node.converge()
    assert Node(node.world).cables.held == frozenset()
    link = node.world.links[NS, "eth6"]
    node.world.links[NS, "eth6"] = Link(link.ns, link.name, "physical", up=False)
    assert Node(node.world).cables.held == {(NS, "eth6")}


def test_a_node_without_wires_asks_nothing(node: Node) -> None:
    """Not even the carriers."""
    node.cables.take_up(intent(pair()), "h1")
    assert node.cables.held == frozenset()
    assert not node.cables.look()
