"""Health of backends and service nodes as an automaton: pure; `appliance.control.health` makes the checks.

What is checked starts as healthy so that a restarted daemon disturbs nothing; `fall` failures in a row take it down,
`rise` good checks bring it back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final

from appliance.model.intent import Health, Intent
from services.steering import service_links

#: How service nodes are checked: one that dies is known to be dead after less than three seconds.
NODE_HEALTH: Final = Health.model_validate({"interval": 1.0, "timeout": 0.5})


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What is checked: one port of one guest."""

    vpc: str
    guest: str
    address: IPv4Address
    port: int

    @property
    def key(self) -> tuple[str, str, int]:
        """How `services.feature.Runtime.down` names it."""
        return (self.vpc, self.guest, self.port)


@dataclass(frozen=True, slots=True, order=True)
class NodeTarget(Target):
    """A service node: `guest` is its name, it has no port, and answers echo requests on the device `link`."""

    link: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Health of one target: up or down, and how many checks in a row said otherwise."""

    up: bool = True
    streak: int = 0

    def observe(self, good: bool, health: Health) -> Verdict:  # noqa: FBT001 - the outcome of a check is a truth value
        """Return the verdict after one more check."""
        if good == self.up:
            return replace(self, streak=0)
        needed = health.rise if good else health.fall
        return Verdict(good) if self.streak + 1 >= needed else replace(self, streak=self.streak + 1)


def targets(intent: Intent, node: str, node_health: Health = NODE_HEALTH) -> dict[Target, Health]:
    """Return what a host must check: TCP backends of VIPs and service nodes that stand on it."""
    found: dict[Target, Health] = {}
    for vpc_name, vpc in sorted(intent.vpcs.items()):
        for vip in vpc.vips.values():
            for name in vip.backends:
                guest = vpc.guests[name]
                if vip.protocol == "tcp" and guest.host == node:
                    target = Target(vpc_name, name, guest.address, vip.target_port or vip.port)
                    found.setdefault(target, vip.health)
    for link in service_links(intent, node):
        found[NodeTarget(link.vpc, link.name, link.node, 0, link.device)] = node_health
    return found
