"""The fake of routes: what the kernel does with hops whose devices come, go and stop carrying."""

from __future__ import annotations

from dataclasses import replace
from errno import ENETDOWN, ENODEV
from typing import TYPE_CHECKING

from appliance.kernel.fakes.world import FakePort
from appliance.kernel.nexthops import refused
from appliance.kernel.port import Failure
from appliance.model.facts import Hop, Namespace, Route

if TYPE_CHECKING:
    from appliance.model.errors import KernelError
    from appliance.state.diff import Plan


class FakeRoutes(FakePort[Route]):
    """Routes in memory; every fake of one world sees the same, as processes of one kernel do."""

    reason = "route"

    def read(self) -> frozenset[Route]:
        """Return ours; those that a device took with it are gone."""
        for key, route in list(self.world.routes.items()):
            hops = tuple(hop for hop in route.hops if self._error(route.ns, hop) is None)
            if not hops:
                del self.world.routes[key]
            elif hops != route.hops:
                self.world.routes[key] = replace(route, hops=hops)
        return frozenset(self.world.routes.values())

    def apply(self, plan: Plan[Route]) -> tuple[Failure, ...]:
        """Carry the plan out; a route is made with those of its hops that work."""
        self.read()
        failures = []
        for change in plan.changes:
            if change.new is None:
                self._drop(change.fact)
            elif (error := self._place(change.new)) is not None:
                failures.append(Failure(change.new, error))
        if plan:
            self.world.changed()
        return tuple(failures)

    def replace_hops(self, ns: Namespace, proto: int, old: tuple[Hop, ...], new: tuple[Hop, ...]) -> int:
        """Move every route of some hops to others."""
        for error in filter(None, (self._error(ns, hop) for hop in new)):
            raise error
        moved = [r for r in self.read() if r.ns == ns and r.proto == proto and r.hops == old]
        self.world.routes.update({route.key: replace(route, hops=new) for route in moved})
        return len(moved)

    def set_carrier(self, ns: Namespace, link: str, *, up: bool) -> None:
        """Have a device carry packets, or not: then its hops go, and do not come back with it."""
        if up:
            self.world.down.discard((ns, link))
        else:
            self.world.down.add((ns, link))
        self.read()
        self.world.changed()

    def _error(self, ns: Namespace, hop: Hop) -> KernelError | None:
        what = f"{ns} hop {hop.via or 'on link'} dev {hop.link}".strip()
        if not self.world.has_device(ns, hop.link):
            return refused(what, ENODEV)
        return refused(what, ENETDOWN) if (ns, hop.link) in self.world.down else None

    def _place(self, fact: Route) -> KernelError | None:
        errors = [self._error(fact.ns, hop) for hop in fact.hops]
        hops = tuple(hop for hop, error in zip(fact.hops, errors, strict=True) if error is None)
        if hops:
            self.world.routes[fact.key] = replace(fact, hops=hops)
        return next((error for error in errors if error is not None), None)

    def _put(self, fact: Route) -> None:
        error = self._place(fact)
        if error is not None:
            raise error

    def _drop(self, fact: Route) -> None:
        self.world.routes.pop(fact.key, None)
