from __future__ import annotations

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab.links import machine_commands, node_commands
from appliance.panel.lab.topology import parse
from appliance.panel.lab.values import Topology

NODES = "{a: {kind: linux}, b: {kind: linux}, sw: {kind: bridge}, sw2: {kind: bridge}}"
PIDS = {"a": 11, "b": 12, "sw": 13, "sw2": 14}


def lab(*links: str) -> Topology:
    """Parse a lab with these links."""
    return parse(f"name: x\ntopology:\n  nodes: {NODES}\n  links:\n" + "".join(f"    - {link}\n" for link in links))


def refused(*links: str) -> str:
    """Return what is said of a lab with these links."""
    with pytest.raises(OperatorError) as caught:
        lab(*links)
    return str(caught.value)


def test_a_pair_is_made_in_the_namespaces_it_belongs_to() -> None:
    """Nothing of it is ever seen on the machine; the other end is raised from inside."""
    topology = lab("{endpoints: ['a:eth1', 'b:eth7'], mtu: 1500}")
    assert machine_commands(topology, PIDS)[-1] == (
        "link add name eth1 netns 11 mtu 1500 up type veth peer name eth7 netns 12 mtu 1500"
    )
    nodes = {node.name: node_commands(topology, node) for node in topology.nodes}
    assert nodes == {"a": [], "b": ["link set dev eth7 up"], "sw": [], "sw2": []}


def test_bridges_are_made_first_and_their_ports_plugged_in() -> None:
    """A bridge between bridges has a port at either end."""
    topology = lab("{endpoints: ['a:eth1', 'sw:p1']}", "{endpoints: ['sw:p2', 'sw2:q1']}")
    assert machine_commands(topology, PIDS)[0] == "link add name sw netns 13 up type bridge"
    bridges = {node.name: node_commands(topology, node) for node in topology.bridges()}
    assert bridges == {
        "sw": ["link set dev p1 master sw up", "link set dev p2 master sw up"],
        "sw2": ["link set dev q1 master sw2 up"],
    }


def test_a_mac_address_is_given_at_birth() -> None:
    """So that nothing ever sees another."""
    ends = "{node: a, interface: eth1, mac: '02:00:00:00:00:01'}, {node: b, interface: eth1}"
    commands = machine_commands(lab(f"{{type: veth, endpoints: [{ends}]}}"), PIDS)
    assert "eth1 address 02:00:00:00:00:01 netns 11" in commands[-1]


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("{endpoints: ['a:eth1', 'a:eth1']}", "is taken"),
        ("{endpoints: ['sw:p1', 'sw2:p1']}", "is taken"),
        ("{endpoints: ['a:eth1', 'sw:sw2']}", "is taken"),
        ("{endpoints: ['a:eth1', 'host:eth1']}", "nothing is connected to the machine"),
        ("{endpoints: ['a:eth1', 'c:eth1']}", "no node 'c'"),
        ("{endpoints: ['a:an-interface-too-long', 'b:eth1']}", "cannot name an interface"),
        ("{endpoints: ['a:lo', 'b:eth1']}", "cannot name an interface"),
        ("{endpoints: ['a', 'b:eth1']}", "cannot name an interface"),
        ("{endpoints: ['a:eth1', 'b:eth1'], mtu: 70000}", "is no MTU"),
        ("{endpoints: ['a:eth1', 'b:eth1'], mtu: many}", "is no MTU"),
        ("{endpoints: ['a:eth1', 'b:eth1'], bandwidth: 1}", "`bandwidth` is not supported"),
        ("{type: dummy, endpoint: {node: c, interface: eth1}}", "no node 'c'"),
        ("{type: dummy, endpoints: ['a:e1', 'b:e1']}", "`endpoints` is not supported"),
        ("{type: vxlan, endpoint: {node: a, interface: eth1}}", "link type 'vxlan'"),
        ("{type: veth, endpoints: ['a:eth1', 'b:eth1']}", "a mapping of"),
        ("{endpoints: [{node: a, interface: eth1}, 'b:eth1']}", "must be `node:interface`"),
        ("{type: veth, endpoints: [{node: a, interface: e1, mac: x}, {node: b, interface: e1}]}", "is no MAC"),
        ("{type: veth, endpoints: [{node: a, interface: e1, x: 1}, {node: b, interface: e1}]}", "`x` is not supported"),
    ],
)
def test_a_link_that_cannot_be_made_is_refused(link: str, says: str) -> None:
    """With its place, before anything is started."""
    said = refused(link)
    assert says in said
    assert "-:5:" in said


def test_what_makes_no_difference_to_a_link_is_said() -> None:
    """They go to templates of containerlab, which are not rendered here."""
    topology = lab("{endpoints: ['a:eth1', 'b:eth1'], vars: {cost: 5}, ipv4: [10.0.0.1/24]}")
    assert [warning.message for warning in topology.warnings] == [
        "`vars` makes no difference",
        "`ipv4` makes no difference",
    ]


def test_a_link_to_nowhere_is_a_pair_within_its_node() -> None:
    """The device is up and has a carrier, as containerlab's dummy has."""
    topology = lab("{type: dummy, endpoint: {node: a, interface: eth1}, mtu: 1500}")
    assert machine_commands(topology, PIDS)[-1] == (
        "link add name eth1 netns 11 mtu 1500 up type veth peer name eth1.far netns 11 mtu 1500"
    )
    assert node_commands(topology, topology.nodes[0]) == ["link set dev eth1.far up"]


def test_a_stitched_link_is_a_pair() -> None:
    """Every frame passes a pair."""
    ends = "[{node: a, interface: eth1}, {node: b, interface: eth1}]"
    assert len(lab(f"{{type: veth-stitch, endpoints: {ends}}}").links) == 1
