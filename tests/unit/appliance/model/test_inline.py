"""Inline edges as an operator writes them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from appliance.model.inline import Inline, InlineRule
from appliance.model.marks import INLINE_ENGINES, INLINE_IDS, ZONE_INLINE, inline_zone

WIRE = {"north": "eth5", "south": "eth6", "engine": "main"}
EDGE: dict[str, Any] = {"id": 1, "host": "h1", "bridges": {"a": WIRE}, "engines": {"main": {"id": 1}}}


def test_what_is_not_said_is_closed_mirrored_and_inside() -> None:
    """The least that can be written denies everything."""
    edge = Inline.model_validate(EDGE)
    engine = edge.engines["main"]
    assert (edge.form, edge.mirror) == ("inside", True)
    assert (engine.rules, engine.northward, engine.southward) == ((), "deny", "deny")
    rule = InlineRule.model_validate({"action": "allow"})
    assert (rule.toward, rule.source, rule.destination, rule.protocol, rule.ports) == ("any", (), (), "any", ())


@pytest.mark.parametrize(
    "change",
    [
        {"id": 0},
        {"id": INLINE_IDS + 1},
        {"id": "1"},
        {"form": "beside"},
        {"bridges": {}},
        {"engines": {}},
        {"bridges": {"a": WIRE | {"north": "ew-b1"}}},
        {"bridges": {"a": WIRE | {"north": "lo"}}},
        {"bridges": {"A": WIRE}},
        {"engines": {"main": {"id": 0}}},
        {"engines": {"main": {"id": INLINE_ENGINES + 1}}},
        {"engines": {"main": {"id": 1, "rules": [{"action": "redirect"}]}}},
        {"engines": {"main": {"id": 1, "rules": [{"action": "allow", "toward": "east"}]}}},
        {"engines": {"main": {"id": 1, "northward": "reject"}}},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(change: dict[str, Any]) -> None:
    """By the form of the section alone."""
    with pytest.raises(ValidationError):
        Inline.model_validate(EDGE | change)


def test_every_engine_of_every_edge_has_a_zone_that_tells_it() -> None:
    """The low octet of a zone is the engine: a frame's mark needs no map to find it."""
    zones = {
        inline_zone(edge, engine): (edge, engine)
        for edge in range(1, INLINE_IDS + 1)
        for engine in range(1, INLINE_ENGINES + 1)
    }
    assert len(zones) == INLINE_IDS * INLINE_ENGINES
    assert all(ZONE_INLINE < zone <= 0xFFFF and zone & 0xFF == engine for zone, (_, engine) in zones.items())
