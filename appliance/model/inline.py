"""Sections of the intent for inline edges: transparent wires between two rows of routers, with shared stateful engines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.model.fields import AnyNet, Device, Name, PortText, Section
from appliance.model.marks import INLINE_ENGINES, INLINE_IDS


class InlineRule(Section):
    """One rule of an inline engine; the first that matches decides, replies of allowed flows always pass."""

    action: Literal["allow", "deny", "reject"] = Field(description="deny drops in silence, reject answers")
    toward: Literal["any", "north", "south"] = Field("any", description="the side that the flow's first packet goes to")
    source: tuple[AnyNet, ...] = Field((), description="prefixes; anything when empty")
    destination: tuple[AnyNet, ...] = Field((), description="as source")
    protocol: Literal["any", "tcp", "udp", "icmp"] = Field("any", description="icmp is ICMPv6 too")
    ports: tuple[PortText, ...] = Field((), description="destination ports or ranges `8000-8099`; tcp and udp only")


class InlineEngine(Section):
    """A policy with a connection tracker of its own; several bridges may share it."""

    id: Annotated[int, Field(ge=1, le=INLINE_ENGINES, strict=True)] = Field(
        description="unique number in the edge, 1..254"
    )
    rules: tuple[InlineRule, ...] = Field((), description="in order; the first that matches decides")
    northward: Literal["allow", "deny"] = Field("deny", description="flows towards north, when no rule matched")
    southward: Literal["allow", "deny"] = Field("deny", description="flows towards south, when no rule matched")


class Bridge(Section):
    """A wire: what comes in on one side leaves by the other, if its engine lets it."""

    north: Device = Field(description="device on the north side; it may appear later")
    south: Device = Field(description="device on the south side; it may appear later")
    engine: Name = Field(description="engine that its packets are judged by")


class Inline(Section):
    """A transparent edge on one host."""

    id: Annotated[int, Field(ge=1, le=INLINE_IDS, strict=True)] = Field(description="unique number, 1..15")
    host: Name = Field(description="node that has all its devices")
    form: Literal["inside", "apart"] = Field(
        "inside", description="engines in the bridges' own namespace, or each in a namespace of its own"
    )
    bridges: Annotated[dict[Name, Bridge], Field(min_length=1)] = Field(description="wires by name")
    engines: Annotated[dict[Name, InlineEngine], Field(min_length=1)] = Field(description="engines by name")
    mirror: bool = Field(True, description="a side that loses its carrier takes the other side down")  # noqa: FBT003
