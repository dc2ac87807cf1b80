"""OpenBGPD: `transparent-as`, and every path evaluated for every member."""

from __future__ import annotations

from typing import Final

from routing.bgp.values import Family
from routing.interop.dialects.dialect import Dialect, Written, lines
from routing.interop.world import Knob, Member, World

_UNICAST: Final = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


def write(world: World, run: str) -> Written:
    """Write bgpd.conf."""
    head = [f"AS {world.asn}", f"router-id {world.router_id}", f'socket "{run}/control"', "fib-update no"]
    head += ["transparent-as yes", "rde evaluate all", "nexthop qualify via default"]
    listen = [f"listen on {address}" for address in world.addresses.values()]
    neighbors = [line for member in world.members for line in _neighbor(world, member)]
    ruled = [m for m in world.members if not m.no_policy]
    rules = ["allow from any", "allow to any"]
    rules += [f"deny from {m.address}" for m in world.members if m.no_policy]
    rules += [f"deny to {m.address}" for m in world.members if m.no_policy]
    rules += [f"deny to {m.address} peer-as {m.shuns}" for m in ruled if m.shuns is not None]
    return Written({"bgpd.conf": lines(*head, *listen, *neighbors, *rules)}, "bgpd.conf")


def _neighbor(world: World, member: Member) -> list[str]:
    others = [f" announce {_UNICAST[family]} none" for family in Family if family is not member.family]
    return [
        f"neighbor {member.address} {{",
        f" remote-as {member.asn}",
        f" local-address {world.addresses[member.family]}",
        f" announce {_UNICAST[member.family]} unicast",
        *others,
        " passive",
        " enforce neighbor-as no",
        " announce restart yes",
        *([" announce policy rs"] if member.role else []),
        "}",
    ]


DIALECT: Final = Dialect(
    "openbgpd",
    write,
    frozenset({Knob.SHUN, Knob.ROLE}),
    "/usr/sbin/bgpd -d -f {config}",
    directories=("/run/openbgpd",),
)
