"""FRR: bgpd, and zebra for what it knows of interfaces; every member a `route-server-client` of one table.

It helps neighbours that restart unless told otherwise; `bgp graceful-restart` would make it a restarter itself, which holds back its
first routes until everybody has spoken.
"""

from __future__ import annotations

from typing import Final

from routing.bgp.values import Family
from routing.interop.dialects.dialect import Dialect, Written, lines
from routing.interop.world import Knob, Member, World

_UNICAST: Final = {Family.IPV4: "ipv4 unicast", Family.IPV6: "ipv6 unicast"}
#: bgpd that finds no zebra tries again after ten seconds. What it learns stays out of the kernel (-n).
_START: Final = """\
cd "$(dirname "$0")"
run="$(pwd)"
set -- --vty_socket "$run" -z "$run/zserv.api" -P 0
/usr/lib/frr/zebra "$@" -f "$run/zebra.conf" -i "$run/zebra.pid" &
until test -S zserv.api; do sleep 0.05; done
exec /usr/lib/frr/bgpd "$@" -f "$run/bgpd.conf" -i "$run/bgpd.pid" -n -p 179
"""


def write(world: World, _: str) -> Written:
    """Write bgpd.conf."""
    # Policies first: one that comes after the neighbours that use it is a change, which asks everybody for everything again.
    policies = ["route-map all permit 10", "exit", *(line for m in world.members for line in _shun(m))]
    head = ["frr defaults traditional", "log stdout", "bgp route-map delay-timer 0", *policies]
    head += [f"router bgp {world.asn}", f" bgp router-id {world.router_id}"]
    head += [" no bgp default ipv4-unicast", " no bgp network import-check", " coalesce-time 10"]
    sessions = [line for member in world.members for line in _session(member)]
    families = [line for family in Family for line in _family(world, family)]
    text = lines(*head, *sessions, *families, "exit")
    return Written({"bgpd.conf": text, "zebra.conf": "", "start": _START}, "bgpd.conf")


def _session(member: Member) -> list[str]:
    peer = f" neighbor {member.address}"
    made = [f"{peer} remote-as {member.asn}", f"{peer} passive", f"{peer} advertisement-interval 0"]
    return [*made, f"{peer} timers connect 1", *([f"{peer} local-role rs-server"] if member.role else [])]


def _family(world: World, family: Family) -> list[str]:
    words = [line for member in world.members if member.family is family for line in _activated(member)]
    return [f" address-family {_UNICAST[family]}", *words, " exit-address-family"]


def _activated(member: Member) -> list[str]:
    peer = f"  neighbor {member.address}"
    policy = [f"{peer} route-map all in", f"{peer} route-map {_out(member)} out"]
    active = [f"{peer} activate", f"{peer} route-server-client", f"{peer} attribute-unchanged as-path next-hop med"]
    return [*active, *([] if member.no_policy else policy)]


def _out(member: Member) -> str:
    return "all" if member.shuns is None else f"but-{member.shuns}"


def _shun(member: Member) -> list[str]:
    if member.shuns is None:
        return []
    name = _out(member)
    listed = f"bgp as-path access-list {name} permit ^{member.shuns}_"
    return [
        listed,
        f"route-map {name} deny 10",
        f" match as-path {name}",
        "exit",
        f"route-map {name} permit 20",
        "exit",
    ]


DIALECT: Final = Dialect(
    "frr",
    write,
    frozenset(Knob),
    "sh {run}/start",
    user="frr",
)
