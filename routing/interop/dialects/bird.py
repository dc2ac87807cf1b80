"""BIRD 2: one protocol for each member, everything as `rs client`.

A neighbour without policy cannot be written: BIRD refuses such a configuration, which is its way of keeping RFC 8212.
"""

from __future__ import annotations

from typing import Final

from routing.bgp.values import Family
from routing.interop.dialects.dialect import Dialect, Written, lines
from routing.interop.world import RESTART_TIME, Knob, Member, World

_CHANNEL: Final = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}


def write(world: World, _: str) -> Written:
    """Write bird.conf. `secondary` in a sorted table: who must not get the best route gets the next one."""
    head = [f"router id {world.router_id};", "log stderr all;", "ipv4 table t4 sorted;", "ipv6 table t6 sorted;"]
    text = lines(*head, "protocol device {}", *(_protocol(world, member) for member in world.members))
    return Written({"bird.conf": text}, "bird.conf")


def _protocol(world: World, member: Member) -> str:
    policy = f" import all; export {_export(member)};"
    table = "t4" if member.family is Family.IPV4 else "t6"
    return lines(
        f"protocol bgp m{member.number} {{",
        f" local {world.addresses[member.family]} as {world.asn}; neighbor {member.address} as {member.asn};",
        " direct; passive; rs client; interpret communities off; connect delay time 1; error wait time 1, 2;",
        f" graceful restart on; graceful restart time {RESTART_TIME}; enable extended messages;",
        *([" local role rs_server;"] if member.role else []),
        # MED stays: `rs client` alone takes it away on the way to another AS unless the filter has set it.
        f" {_CHANNEL[member.family]} {{ table {table}; secondary; next hop keep;{policy} }};",
        "}",
    )


def _export(member: Member) -> str:
    shun = f"if bgp_path.first = {member.shuns} then reject; " if member.shuns is not None else ""
    return f"filter {{ {shun}accept; }}"


DIALECT: Final = Dialect(
    "bird", write, frozenset({Knob.SHUN, Knob.ROLE}), "bird -f -c {config} -s {run}/control -P {run}/pid"
)
