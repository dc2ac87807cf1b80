from __future__ import annotations

from appliance.panel.lab.values import Endpoint, Link, Node, Place, Topology

HERE = Place("topology", 1, 1)


def test_a_link_is_written_as_in_the_file() -> None:
    """Progress lines and errors use the brief form."""
    assert str(Link(Endpoint("a", "eth1"), Endpoint("b", "eth2"), HERE)) == "a:eth1 -- b:eth2"


def test_bridges_are_found_among_the_nodes() -> None:
    """They are the nodes whose kind says so."""
    nodes = (Node("a", "linux", HERE), Node("br", "bridge", HERE))
    assert [node.name for node in Topology("lab", nodes).bridges()] == ["br"]
