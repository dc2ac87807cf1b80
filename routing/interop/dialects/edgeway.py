"""Our own engine, without the daemon: its process reads the desired state from a file (design note 0008)."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from routing.bgp.values import ExportPolicy, ImportPolicy, Mode, Neighbor, PrefixRule, Speaker
from routing.engines.speaker_text import lines
from routing.interop.dialects.dialect import Dialect, Written
from routing.interop.world import PORT, RESTART_TIME, Knob, Member, World

_EVERYTHING: Final = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32), PrefixRule(ip_network("::/0"), 0, 128))


def speaker(world: World) -> Speaker:
    """Return the route server of this world."""
    return Speaker(
        "dut",
        Mode.TRANSPARENT,
        world.asn,
        world.router_id,
        tuple(world.addresses.values()),
        PORT,
        tuple(_neighbor(world, member) for member in world.members),
    )


def _neighbor(world: World, member: Member) -> Neighbor:
    accept = () if member.no_policy else _EVERYTHING
    return Neighbor(
        member.name,
        member.asn,
        member.address,
        local_address=world.addresses[member.family],
        families=(member.family,),
        imports=ImportPolicy(accept, max_path_length=1000),
        exports=ExportPolicy(accept),
        passive=True,
        restart_time=RESTART_TIME,
        client=member.role,
    )


def write(world: World, _: str) -> Written:
    """Write speaker.json."""
    return Written({"speaker.json": b"\n".join(lines(speaker(world))).decode() + "\n"}, "speaker.json")


DIALECT: Final = Dialect(
    "edgeway", write, frozenset({Knob.NO_POLICY, Knob.ROLE}), "{python} -P -m routing.engines.native {run}"
)
