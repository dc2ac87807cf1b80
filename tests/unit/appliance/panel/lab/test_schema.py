"""The tables of keys: each has one fate, and none of containerlab's is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from appliance.panel.lab import schema
from appliance.panel.lab.nodes import SPECIAL


def test_a_key_has_one_fate() -> None:
    """No key is both honoured and refused, or warned of."""
    honoured, warned, refused = set(schema.NODE_KEYS), set(schema.WARNED_NODE_KEYS), set(schema.REFUSED_NODE_KEYS)
    assert not honoured & warned
    assert not honoured & refused
    assert not warned & refused
    assert not set(schema.WARNED_TOP_KEYS) & schema.TOP_KEYS
    assert not set(schema.WARNED_LINK_KEYS) & schema.LINK_KEYS


def test_every_shape_is_one_that_the_parser_knows() -> None:
    """A key with another shape would be read as nothing."""
    assert set(schema.NODE_KEYS.values()) == {"text", "texts", "table", *SPECIAL}


SCHEMA = os.environ.get("EDGEWAY_CLAB_SCHEMA", "")


@pytest.mark.skipif(not SCHEMA, reason="EDGEWAY_CLAB_SCHEMA names no schema of containerlab's")
def test_every_key_of_containerlab_has_a_fate() -> None:
    """A file of the day after tomorrow may hold keys that we have not heard of: then this says which."""
    given = json.loads(Path(SCHEMA).read_text(encoding="utf-8"))
    definitions, topology = given["definitions"], given["properties"]["topology"]["properties"]
    known = set(schema.NODE_KEYS) | set(schema.WARNED_NODE_KEYS) | schema.REFUSED_NODE_KEYS
    assert set(definitions["node-config"]["properties"]) == known
    assert set(given["properties"]) == schema.TOP_KEYS | set(schema.WARNED_TOP_KEYS)
    assert set(topology) == schema.TOPOLOGY_KEYS
    assert set(schema.KINDS) <= set(topology["kinds"]["properties"])
    brief = set(definitions["link-config-short"]["properties"])
    assert brief <= schema.LINK_KEYS | set(schema.WARNED_LINK_KEYS)
    types = {body["properties"]["type"]["const"] for name, body in definitions.items() if name.startswith("link-type-")}
    assert types == {*schema.PAIR_TYPES, schema.DUMMY_TYPE, *schema.OUTWARD_TYPES}
    assert set(definitions["link-endpoint"]["properties"]) <= schema.ENDPOINT_KEYS | set(schema.WARNED_LINK_KEYS)
