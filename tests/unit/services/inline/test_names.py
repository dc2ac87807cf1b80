"""Names and marks of inline edges."""

from __future__ import annotations

from appliance.model.marks import DEVICE_PREFIX, SIDE_SOUTH
from services.inline.names import SIDES, bridge_device, edge_namespace, engine_namespace, leg_device, mark
from tests.support.intents import intent
from tests.unit.services.inline.edges import two_wires

EDGE = intent(two_wires()).inline["dmz"]
APART = intent(two_wires(form="apart")).inline["dmz"]


def test_devices_have_names_that_fit_and_follow_from_the_wire_alone() -> None:
    """Fifteen octets at most, for the longest name of a wire too; no two wires share one."""
    wires = [f"w{number}" for number in range(500)] + ["w" * 31]
    names = [bridge_device(wire) for wire in wires] + [leg_device(wire, side) for wire in wires for side in SIDES]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 15 and name.startswith(DEVICE_PREFIX) for name in names)


def test_an_engine_stands_with_the_ports_or_apart() -> None:
    """In form `apart` each has a namespace of its own."""
    assert engine_namespace("dmz", EDGE, "main") == edge_namespace("dmz") == "inl-dmz"
    assert engine_namespace("dmz", APART, "main") == "inl-dmz-main"


def test_a_mark_tells_engine_and_side() -> None:
    """Wires of one engine have equal marks, those of another differ, and so do the sides."""
    assert mark(EDGE, "a", "north") == mark(EDGE, "b", "north") != mark(EDGE, "c", "north")
    assert mark(EDGE, "a", "south") == mark(EDGE, "a", "north") | SIDE_SOUTH
    assert mark(EDGE, "a", "north") & SIDE_SOUTH == 0
    assert mark(EDGE, "c", "south") & 0xFF == EDGE.engines["other"].id
