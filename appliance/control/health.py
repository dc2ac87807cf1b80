"""Checks backends and service nodes from inside their VPC, each interval; the automaton is `services.health`.

A backend must accept a TCP connection, a service node answer an echo request on its own link.

Called by `appliance.control.daemon`, which is told when the set of targets that are down changes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import structlog

from appliance.control.ping import ping
from appliance.control.tasks import Tasks
from appliance.kernel.namespaces import Namespaces
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace
from appliance.model.intent import Health
from appliance.model.marks import vpc_namespace
from services.health import NodeTarget, Target, Verdict

log = structlog.get_logger()

#: struct linger: on, 0 seconds (socket(7)).
_AT_ONCE: Final = struct.pack("ii", 1, 0)

Probe = Callable[[Namespaces, Target, float], Awaitable[bool]]


async def check(namespaces: Namespaces, target: Target, patience: float) -> bool:
    """Tell whether the target accepts a connection, or answers, within `patience` seconds."""
    ns = Namespace(vpc_namespace(target.vpc))
    if isinstance(target, NodeTarget):
        return await ping(namespaces, ns, target.link, target.address, patience)
    try:
        with namespaces.in_namespace(ns):
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except (KernelError, OSError):
        return False
    with connection:
        try:
            # Not wait_for: before Python 3.12 it forgets that it was cancelled if what it waits for ends at that moment.
            async with asyncio.timeout(patience):
                await asyncio.get_running_loop().sock_connect(connection, (str(target.address), target.port))
            # Ended by RST: a connection that lingers would stay in conntrack for two minutes after every check.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        except OSError:
            return False
    return True


class Checker:
    """Keeps one checking task per target; tells when the set of targets that are down changes."""

    def __init__(self, namespaces: Namespaces, tasks: Tasks, changed: Callable[[], None], probe: Probe = check) -> None:
        """`changed` is called after `down` changed; `probe` makes one check."""
        self._namespaces, self._tasks, self._changed, self._probe = namespaces, tasks, changed, probe
        self._verdicts: dict[Target, Verdict] = {}
        self._wanted: dict[Target, Health] = {}

    @property
    def down(self) -> frozenset[tuple[str, str, int]]:
        """The backends that are down, as `Runtime.down` names them."""
        return frozenset(target.key for target in self._down() if not isinstance(target, NodeTarget))

    @property
    def nodes_down(self) -> frozenset[tuple[str, str]]:
        """The service nodes that do not answer, as `Runtime.nodes_down` names them."""
        return frozenset((target.vpc, target.guest) for target in self._down() if isinstance(target, NodeTarget))

    def _down(self) -> Iterator[Target]:
        return (target for target, verdict in self._verdicts.items() if not verdict.up)

    async def watch(self, wanted: Mapping[Target, Health]) -> None:
        """Check exactly these targets from now on; verdicts and checks of those that stay go on undisturbed."""
        old, self._wanted = self._wanted, dict(wanted)
        for target in old.keys() - wanted.keys():
            self._verdicts.pop(target, None)
        for target in wanted:
            self._verdicts.setdefault(target, Verdict())
        other = [self._name(target) for target, health in old.items() if wanted.get(target) != health]
        if other:
            await self._tasks.stop(*other)
        for target in self._wanted:
            self._tasks.start(self._name(target), lambda t=target: self._loop(t))  # type: ignore[misc]

    @staticmethod
    def _name(target: Target) -> str:
        return f"health {target.vpc}/{target.guest} {target.address}:{target.port}"

    async def _loop(self, target: Target) -> None:
        while (health := self._wanted.get(target)) is not None:
            good = await self._probe(self._namespaces, target, health.timeout)
            before = self._verdicts.get(target)
            if before is None:
                return
            after = self._verdicts[target] = before.observe(good, health)
            if after.up != before.up:
                event = "service-node-health" if isinstance(target, NodeTarget) else "backend-health"
                log.info(event, vpc=target.vpc, guest=target.guest, port=target.port, up=after.up)
                self._changed()
            await asyncio.sleep(health.interval)
