"""Intents with inline edges for the tests of this directory."""

from __future__ import annotations

from typing import Any

from tests.support.intents import Tree, pair

WEB: Tree = {"action": "allow", "toward": "south", "protocol": "tcp", "ports": [443, "8000-8099"]}


def two_wires(**more: Any) -> Tree:
    """Return an edge on h1: wires a and b share engine main, wire c has engine other."""
    tree = pair()
    tree["inline"] = {
        "dmz": {
            "id": 1,
            "host": "h1",
            "bridges": {
                name: {"north": f"eth{number}", "south": f"eth{number + 1}", "engine": engine}
                for name, number, engine in (("a", 5, "main"), ("b", 7, "main"), ("c", 9, "other"))
            },
            "engines": {"main": {"id": 1, "rules": [WEB], "northward": "allow"}, "other": {"id": 7}},
            **more,
        }
    }
    return tree
