"""GoBGP: every member a route-server client, in TOML.

It has no roles (RFC 9234): a member with one is written as any other, and what it offers says the rest. Nor has it a way to be without
policy that means nothing is accepted (RFC 8212).
"""

from __future__ import annotations

from typing import Final

from routing.bgp.values import Family
from routing.interop.dialects.dialect import Dialect, Written, lines
from routing.interop.world import RESTART_TIME, Knob, Member, World

_NAMES: Final = {Family.IPV4: "ipv4-unicast", Family.IPV6: "ipv6-unicast"}


def write(world: World, _: str) -> Written:
    """Write gobgpd.conf."""
    head = ["[global.config]", f"  as = {world.asn}", f'  router-id = "{world.router_id}"', "  port = 179"]
    addresses = ", ".join(f'"{address}"' for address in world.addresses.values())
    head.append(f"  local-address-list = [{addresses}]")
    neighbors = [line for member in world.members for line in _neighbor(member)]
    policies = [line for member in world.members for line in _shun(member)]
    return Written({"gobgpd.conf": lines(*head, *neighbors, *policies)}, "gobgpd.conf")


def _neighbor(member: Member) -> list[str]:
    policy = ["  [neighbors.apply-policy.config]", f'    export-policy-list = ["shun-{member.shuns}"]']
    return [
        "[[neighbors]]",
        "  [neighbors.config]",
        f'    neighbor-address = "{member.address}"',
        f"    peer-as = {member.asn}",
        "  [neighbors.timers.config]",
        "    idle-hold-time-after-reset = 1",
        "  [neighbors.transport.config]",
        "    passive-mode = true",
        "  [neighbors.route-server.config]",
        "    route-server-client = true",
        "  [neighbors.graceful-restart.config]",
        "    enabled = true",
        f"    restart-time = {RESTART_TIME}",
        "  [[neighbors.afi-safis]]",
        "    [neighbors.afi-safis.config]",
        f'      afi-safi-name = "{_NAMES[member.family]}"',
        "    [neighbors.afi-safis.mp-graceful-restart.config]",
        "      enabled = true",
        *(policy if member.shuns is not None else []),
    ]


def _shun(member: Member) -> list[str]:
    if member.shuns is None:
        return []
    name = f"shun-{member.shuns}"
    return [
        "[[defined-sets.bgp-defined-sets.as-path-sets]]",
        f'  as-path-set-name = "{name}"',
        f'  as-path-list = ["^{member.shuns}_"]',
        "[[policy-definitions]]",
        f'  name = "{name}"',
        "  [[policy-definitions.statements]]",
        "    [policy-definitions.statements.conditions.bgp-conditions.match-as-path-set]",
        f'      as-path-set = "{name}"',
        "    [policy-definitions.statements.actions]",
        '      route-disposition = "reject-route"',
    ]


DIALECT: Final = Dialect(
    "gobgp",
    write,
    frozenset({Knob.SHUN, Knob.ROLE}),
    "gobgpd -t toml -f {config} --api-hosts unix://{run}/api --pprof-disable --log-plain",
)
