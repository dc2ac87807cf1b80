"""What the parts of an inline edge are called on its host, and what their frames are marked with.

Names of devices follow from the name of the wire, never from its place among the others, so that a wire that is added
leaves the rest alone.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

from appliance.model.facts import Namespace
from appliance.model.inline import Inline
from appliance.model.marks import DEVICE_PREFIX, INLINE_PREFIX, SIDE_SOUTH, inline_zone

Side = Literal["north", "south"]
SIDES: Final[tuple[Side, Side]] = ("north", "south")


def edge_namespace(edge: str) -> Namespace:
    """Return the namespace of an edge: its ports are there."""
    return Namespace(INLINE_PREFIX + edge)


def engine_namespace(name: str, edge: Inline, engine: str) -> Namespace:
    """Return the namespace in which an engine judges."""
    return edge_namespace(name) if edge.form == "inside" else Namespace(f"{INLINE_PREFIX}{name}-{engine}")


def bridge_device(wire: str) -> str:
    """Return the name of a wire's bridge."""
    return f"{DEVICE_PREFIX}b{_short(wire)}"


def leg_device(wire: str, side: Side) -> str:
    """Return the name of both ends of the pair that leads from a port to an engine that stands apart."""
    return f"{DEVICE_PREFIX}{side[0]}{_short(wire)}"


def mark(edge: Inline, wire: str, side: Side) -> int:
    """Return the mark of frames that come in on one side of a wire."""
    zone = inline_zone(edge.id, edge.engines[edge.bridges[wire].engine].id)
    return zone | SIDE_SOUTH if side == "south" else zone


def _short(wire: str) -> str:
    """Return what fits into a device's name and stands for the name of a wire."""
    return hashlib.blake2b(wire.encode(), digest_size=5).hexdigest()
