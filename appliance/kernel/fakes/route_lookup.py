"""The fake of route look-ups: own addresses, steers by mark, then the longest of what stands in the world."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from appliance.kernel.route_lookup import Found, Query
from appliance.model.errors import KernelError
from appliance.model.facts import Hop, LinkAddress
from appliance.model.marks import STEER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.kernel.fakes.world import FakeWorld
    from appliance.model.facts import Namespace, Network


class FakeRouteLookup:
    """Looks into a world."""

    def __init__(self, world: FakeWorld) -> None:
        """Share it with the ports."""
        self.world = world

    def look_up(self, ns: Namespace, query: Query) -> Found:
        """Return what the kernel would say."""
        if not self.world.exists(ns) or (query.device and not self.world.has_device(ns, query.device)):
            raise KernelError("route", f"{ns}/{query.device}", errno.ENODEV)
        if query.destination.is_multicast:
            return Found("multicast")
        if query.destination in {address.interface.ip for address in self._addresses(ns)}:
            return Found("local")
        for steer in self.world.steers.values():
            if (steer.ns, STEER + steer.number) == (ns, query.mark):
                return Found("unicast", steer.hop) if self.world.has_device(ns, steer.hop.link) else Found("blackhole")
        routes = [(net, hop) for net, hop in self._routes(ns) if query.destination in net]
        if not routes:
            return Found("unreachable")
        return Found("unicast", max(routes, key=lambda route: route[0].prefixlen)[1])

    def _addresses(self, ns: Namespace) -> Iterator[LinkAddress]:
        """Yield the addresses of a namespace."""
        for entry in self.world.entries.values():
            if isinstance(entry, LinkAddress) and entry.ns == ns:
                yield entry

    def _routes(self, ns: Namespace) -> Iterator[tuple[Network, Hop]]:
        """Yield routes to what is on the links, then the others; of several hops the first."""
        yield from ((address.interface.network, Hop(address.link)) for address in self._addresses(ns))
        yield from ((r.destination, r.hops[0]) for r in self.world.routes.values() if r.ns == ns)
