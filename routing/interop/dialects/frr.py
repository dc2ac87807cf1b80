"""FRR: bgpd alone, without zebra, every member a `route-server-client` of one table.

It helps neighbours that restart unless told otherwise; `bgp graceful-restart` would make it a restarter itself, which holds back its
first routes until everybody has spoken.
"""

from __future__ import annotations

from typing import Final

from routing.bgp.values import Family
from routing.interop.dialects.dialect import Dialect, Written, lines
from routing.interop.world import Knob, Member, World

_UNICAST: Final = {Family.IPV4: "ipv4 unicast", Family.IPV6: "ipv6 unicast"}


def write(world: World, _: str) -> Written:
    """Write bgpd.conf. Next hops of a shared network need no look-up: without zebra there is nobody to ask."""
    head = ["frr defaults traditional", "log stdout", f"router bgp {world.asn}", f" bgp router-id {world.router_id}"]
    head += [" no bgp default ipv4-unicast", " no bgp network import-check", " coalesce-time 10"]
    sessions = [line for member in world.members for line in _session(member)]
    families = [line for family in Family for line in _family(world, family)]
    policies = ["route-map all permit 10", "exit", *(line for m in world.members for line in _shun(m))]
    return Written({"bgpd.conf": lines(*head, *sessions, *families, "exit", *policies)}, "bgpd.conf")


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
    return [listed, f"route-map {name} deny 10", f" match as-path {name}", "exit", f"route-map {name} permit 20", "exit"]


DIALECT: Final = Dialect(
    "frr",
    write,
    frozenset(Knob),
    "/usr/lib/frr/bgpd -f {config} -i {run}/pid --vty_socket {run} -P 0 -n -Z -p 179",
    user="frr",
)
