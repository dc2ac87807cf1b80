"""What does not fit together in an inline edge: each problem alone, at its path."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.intents import Tree, changed, found, pair


def two_edges() -> Tree:
    """Return an intent with an edge on each host."""
    tree = pair()
    tree["inline"] = {
        name: {
            "id": number,
            "host": host,
            "form": "apart",
            "bridges": {"a": {"north": "eth5", "south": "eth6", "engine": "main"}},
            "engines": {"main": {"id": 1}, "other": {"id": 2}},
        }
        for number, (name, host) in enumerate((("dmz", "h1"), ("lab", "h2")), 1)
    }
    return tree


MIXED = [{"action": "allow", "source": ["10.0.0.0/8"], "destination": ["fd00::/8"]}]
PORTS = [{"action": "allow", "protocol": "icmp", "ports": [80]}]


@pytest.mark.parametrize(
    ("path", "value", "at", "words"),
    [
        ("id", 3, "", None),
        ("id", 2, "inline.lab.id", "id of an inline edge 2 is taken by inline.dmz.id"),
        ("host", "gw1", "", "gw1 is not a host"),
        ("host", "h9", "", "h9 is not a host"),
        ("bridges.a.engine", "third", "", "third is no engine of the edge"),
        ("bridges.a.engine", "other", "", None),
        ("bridges.a.south", "eth5", "", "device h1:eth5 is taken by inline.dmz.bridges.a.north"),
        ("bridges.a.south", "eth1", "", "device h1:eth1 is taken by nodes.h1.fabric.interface"),
        ("engines.other.id", 1, "", "id of an engine 1 is taken by inline.dmz.engines.main.id"),
        ("engines.main.rules", MIXED, "inline.dmz.engines.main.rules.0", "mixes IPv4 and IPv6"),
        ("engines.main.rules", PORTS, "inline.dmz.engines.main.rules.0.ports", "protocol icmp has no ports"),
    ],
)
def test_what_does_not_fit_in_an_edge_is_found_at_its_path(path: str, value: Any, at: str, words: str | None) -> None:
    """Or fits, where no words are expected."""
    seen = found(changed(two_edges(), f"inline.dmz.{path}", value))
    if words is None:
        assert seen == {}
    else:
        assert words in seen.get(at or f"inline.dmz.{path}", f"nothing found there but {seen}")


def test_two_namespaces_cannot_have_one_name() -> None:
    """Engine `main` of edge `dmz` stands where an edge `dmz-main` would, on one host."""
    tree = two_edges()
    tree["inline"]["dmz-main"] = tree["inline"].pop("lab")
    assert found(tree) == {}
    tree["inline"]["dmz-main"]["host"] = "h1"
    tree["inline"]["dmz-main"]["bridges"] = {"a": {"north": "eth7", "south": "eth8", "engine": "main"}}
    assert list(found(tree)) == ["inline.dmz-main"]
    tree["inline"]["dmz"]["form"] = "inside"
    assert found(tree) == {}


def test_devices_of_two_hosts_may_have_one_name() -> None:
    """A device is a host's."""
    assert found(two_edges()) == {}
