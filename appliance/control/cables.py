"""Carriers of the wires of inline edges: read from the kernel, judged by `services.inline.mirror`, held by the compile.

Called by `appliance.control.daemon`: `take_up` before it compiles, `opened` after the kernel was moved, `look` when the
links port reports something and at every tick. The latter two tell whether to compile again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, cast

import structlog

from appliance.kernel.port import Failure, Port
from appliance.model.facts import Namespace
from appliance.model.intent import Intent
from services.inline.compile import Held
from services.inline.mirror import Mirror, cables_of

log = structlog.get_logger()


class Carrying(Protocol):
    """A links port: the real one and its fake."""

    def carriers(self, namespaces: Iterable[Namespace]) -> Mapping[tuple[Namespace, str], bool]:
        """Tell of every device in some namespaces whether it is connected."""
        ...


class Cables:
    """The wires of one node."""

    def __init__(self, links: Port[Any]) -> None:
        """`links` is the port of Link facts."""
        self._links = links
        self._mirror = Mirror()

    @property
    def held(self) -> Held:
        """The ports to hold down, as `Known.held`."""
        return self._mirror.held

    def take_up(self, intent: Intent, node: str) -> None:
        """Know the wires of an intent from now on; what is new to this process is as the kernel has it."""
        new = set(cables_of(intent, node)) - self._mirror.wires.keys()
        self._mirror = self._mirror.over(intent, node, self._links.read() if new else ())

    def opened(self, pending: Collection[Failure]) -> bool:
        """Open the wires whose engine stands after a reconcile."""
        return self._become(self._mirror.judged(failure.fact for failure in pending))

    def look(self) -> bool:
        """Look at the carriers."""
        namespaces = self._mirror.namespaces
        if not namespaces:
            return False
        carriers = cast("Carrying", self._links).carriers(namespaces)
        return self._become(self._mirror.see(carriers, time.monotonic()))

    def _become(self, after: Mirror) -> bool:
        """Tell whether other ports are held than before."""
        before, self._mirror = self._mirror.held, after
        for ns, port in after.held - before:
            log.warning("wire-side-lowered", namespace=ns, port=port)
        for ns, port in before - after.held:
            log.info("wire-side-raised", namespace=ns, port=port)
        return after.held != before
