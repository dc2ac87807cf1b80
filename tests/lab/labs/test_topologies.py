"""The topology files of labs/ are containerlab's: by its schema, or by what we know of it.

EDGEWAY_CLAB_SCHEMA names a copy of the schema (`schemas/clab.schema.json` of its sources); without it a few facts stand in.
"""

from __future__ import annotations

import json
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from appliance.panel.lab import schema
from appliance.panel.lab.topology import parse
from tests.lab.driving import ROOT

SCHEMA = os.environ.get("EDGEWAY_CLAB_SCHEMA", "")
FILES = sorted((ROOT / "labs").glob("*/*.clab.yml"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)


def document(file: Path) -> Any:
    """Read a topology file as containerlab does, knowing nothing of it."""
    return YAML(typ="safe").load(file.read_text(encoding="utf-8"))


@each_file
def test_a_topology_of_ours_needs_nothing_that_differs(file: Path) -> None:
    """No warning: what makes no difference here would make one there."""
    topology = parse(file.read_text(encoding="utf-8"), str(file))
    assert topology.warnings == ()
    assert topology.name == file.parent.name == file.name.removesuffix(".clab.yml")


@each_file
def test_a_topology_of_ours_has_containerlabs_shape(file: Path) -> None:
    """Names, kinds, images, and links in the brief form."""
    found = document(file)
    assert set(found) == {"name", "topology"}
    body = found["topology"]
    assert set(body) <= schema.TOPOLOGY_KEYS
    places = [*body["nodes"].values(), *body.get("groups", {}).values(), *body.get("kinds", {}).values()]
    for node in places:
        assert set(node) <= set(schema.NODE_KEYS), node
        assert node.get("kind", "linux") in schema.KINDS
        for key in ("binds", "exec"):
            assert all(isinstance(item, str) for item in node.get(key, ())), node
            assert len(set(node.get(key, ()))) == len(node.get(key, ()))
    assert all(re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9-._]*", name) for name in body["nodes"])
    for link in body["links"]:
        assert set(link) <= {"endpoints", "mtu"}
        assert all(re.fullmatch(r"\S+:\S+", end) for end in link["endpoints"])


@each_file
@pytest.mark.skipif(not SCHEMA, reason="EDGEWAY_CLAB_SCHEMA names no schema of containerlab's")
def test_a_topology_of_ours_is_valid_by_containerlabs_schema(file: Path) -> None:
    """Its patterns name letters and digits in a way that Python's do not."""
    validator = import_module("jsonschema")
    text = Path(SCHEMA).read_text(encoding="utf-8")
    validator.validate(document(file), json.loads(re.sub(r"\[(?:\\\\p\{[NL]\})+\]", r"\\\\w", text)))
