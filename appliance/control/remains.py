"""What an earlier daemon left in the kernel and the intent does not tell: routes, who serves each VIP, instructions.

What only BGP can tell anew is kept until the engines have told everything: forwarding must not change because a daemon starts. Called by the
daemon and by plans made where none runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from appliance.kernel.port import Port
from appliance.model.facts import HOST, Compose, Fact, Instruction, Netns, Route
from appliance.model.marks import PROTO_BGP

Ports = Mapping[str, Port[Any]]


def kept_members(ports: Ports) -> dict[IPv4Address, tuple[int, ...]]:
    """Return the node ids that serve each VIP, as the composing device has them."""
    found: dict[IPv4Address, tuple[int, ...]] = {}
    for fact in ports["compose"].read():
        if isinstance(fact, Compose):
            found |= dict(fact.members)
    return found


def with_kept_routes(ports: Ports, facts: Collection[Fact], known: Iterable[Route] = ()) -> tuple[Fact, ...]:
    """Add the BGP routes the kernel has, but where `known` says better, in namespaces that are to stay."""
    places = {HOST, *(fact.name for fact in facts if isinstance(fact, Netns))}
    routes = {
        fact.key: fact
        for fact in ports["routes"].read()
        if isinstance(fact, Route) and fact.proto == PROTO_BGP and fact.ns in places
    }
    routes |= {route.key: route for route in known}
    return (*facts, *routes.values())


def kept_instructions(ports: Ports, facts: Collection[Fact]) -> tuple[Instruction, ...]:
    """Return the instructions for flows that the kernel has, in namespaces that are to stay."""
    places = {fact.name for fact in facts if isinstance(fact, Netns)}
    return tuple(fact for fact in ports["nft"].read() if isinstance(fact, Instruction) and fact.ns in places)
