"""The port of `Route` facts: table main of the node's namespace and of every one we made.

Ours are the routes of PROTO_BOX and PROTO_BGP; no other protocol and no other table is touched. Each namespace has a
`RouteTable`; hops are next-hop objects (`nexthops`), so that `replace_hops` moves all routes of a tuple of hops by one
message. That needs net.ipv4.nexthop_compat_mode=0, which is set in each namespace that is applied to: the default tells
every route to the listeners.

A route whose hop has no device, or one that is down or has no carrier, is a failure that can be tried again; with
several hops it is made with those that work, and is a failure all the same, so that it is completed later.

The kernel deletes hops, and routes without hops, silently when a device goes down; they do not come back with it.
`watch` tells when devices go and come, and when others change our routes or next hops, so that the caller reads again.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import NETLINK_ROUTE
from appliance.kernel.port import Failure
from appliance.kernel.routecolumns import RouteChange
from appliance.kernel.routetable import RouteTable
from appliance.kernel.routewatch import watch_routes
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Hop, Namespace, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from appliance.kernel.namespaces import Identity, Namespaces
    from appliance.state.diff import Plan

_COMPATIBLE: Final = Path("/proc/sys/net/ipv4/nexthop_compat_mode")


class RoutesPort:
    """Routes of a node."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Know nothing; the kernel is read when needed."""
        self.namespaces = namespaces
        self._netlink = Netlink(namespaces, NETLINK_ROUTE, "route")
        self._tables: dict[Namespace, tuple[Identity, RouteTable]] = {}
        self._prepared: set[Identity] = set()

    def read(self) -> frozenset[Route]:
        """Return our routes; one that carries our protocol number and is not as we make it has no hops."""
        spaces = (HOST, *sorted(self.namespaces.names()))
        self._tables = {ns: known for ns, known in self._tables.items() if ns in spaces}
        return frozenset([fact for ns in spaces if self.namespaces.exists(ns) for fact in self._table(ns).read()])

    def apply(self, plan: Plan[Route]) -> tuple[Failure, ...]:
        """Carry the plan out, a packed batch for each thousand routes."""
        spaces = {(change.new or change.fact).ns for change in plan.changes}
        if len(spaces) == 1:
            return tuple(self._apply_one(spaces.pop(), plan.changes))
        by_ns: dict[Namespace, list[RouteChange]] = {ns: [] for ns in spaces}
        for change in plan.changes:
            by_ns[change.fact.ns].append(change)
        return tuple([failure for ns, changes in by_ns.items() for failure in self._apply_one(ns, changes)])

    def replace_hops(self, ns: Namespace, proto: int, old: tuple[Hop, ...], new: tuple[Hop, ...]) -> int:
        """Move every route that has the hops `old` to `new`; return how many. KernelError if a hop cannot be made.

        The group of next-hop objects that stood for `old` stands for `new` from then on, under the same id. There may
        already be a group for `new`: then two ids mean the same hops, and the unused one goes when it has no routes.
        """
        return self._prepare(ns).replace(proto, old, new)

    def watch(self) -> AsyncIterator[str]:
        """Yield when devices start or stop to carry, and when somebody else changes our routes or next hops."""
        return watch_routes(self.namespaces)

    def close(self) -> None:
        """Nothing of its own: sockets belong to `Namespaces`."""

    def _apply_one(self, ns: Namespace, changes: Sequence[RouteChange]) -> list[Failure]:
        """Apply the changes of one namespace; in one that is gone, everything is deleted already."""
        try:
            return self._prepare(ns).apply(changes)
        except KernelError as error:
            return [Failure(change.fact, error) for change in changes if change.new is not None]

    def _table(self, ns: Namespace) -> RouteTable:
        """Return what is known of a namespace; of another one of the same name, nothing is."""
        identity = self.namespaces.identity(ns)
        known = self._tables.get(ns)
        if known is None or known[0] != identity:
            known = self._tables[ns] = (identity, RouteTable(self._netlink, ns))
        return known[1]

    def _prepare(self, ns: Namespace) -> RouteTable:
        """Return the table of a namespace in which replacing a next hop does not touch its routes."""
        table = self._table(ns)
        identity = self.namespaces.identity(ns)
        if identity not in self._prepared:
            with self.namespaces.in_namespace(ns), suppress(OSError):  # only speed is lost without
                _COMPATIBLE.write_text("0")
            self._prepared.add(identity)
        return table
