"""The port of `Netns` facts: namespaces we make under the names of the intent.

Before a namespace is deleted, devices that somebody else made go back to HOST: the kernel would send them to the
machine's first namespace, or destroy them. Called by the reconciler; the names themselves are kept by `namespaces`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.kernel.devices import devices
from appliance.kernel.exchanges import Netlink
from appliance.kernel.link_messages import delete, give_back
from appliance.kernel.netlink import NETLINK_ROUTE
from appliance.kernel.port import Failure
from appliance.kernel.watching import watch_directory
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace, Netns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from appliance.kernel.namespaces import Namespaces
    from appliance.state.diff import Plan


class NetnsPort:
    """Namespaces of this node."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Work on the names of `namespaces`."""
        self.namespaces = namespaces
        self._netlink = Netlink(namespaces, NETLINK_ROUTE, "namespace")

    def read(self) -> frozenset[Netns]:
        """Return the namespaces whose `lo` carries our alias."""
        return frozenset(Netns(name) for name in self.namespaces.names())

    def apply(self, plan: Plan[Netns]) -> tuple[Failure, ...]:
        """Delete and make."""
        failures = []
        for change in plan.changes:
            try:
                if change.operation == "delete":
                    self._delete(change.fact.name)
                else:
                    self.namespaces.create(change.fact.name)
            except KernelError as error:
                failures.append(Failure(change.fact, error))
        return tuple(failures)

    def watch(self) -> AsyncIterator[str]:
        """Yield when a name appears or goes."""
        return watch_directory(self.namespaces)

    def close(self) -> None:
        """Nothing of its own: descriptors belong to `Namespaces`."""

    def _delete(self, name: Namespace) -> None:
        """Give physical devices back, delete ours, then the namespace.

        The kernel takes a namespace down later, at its leisure; until then the other ends of its veths would stand.
        """
        if name not in self.namespaces.names():
            return
        for device in devices(self._netlink, name).values():
            what = f"{name}/{device.name}"
            if device.physical:
                self._netlink.one(name, give_back(self.namespaces, name, device).message, what)
            elif device.ours:
                self._netlink.batch(name, [delete(name, device).message])
        self.namespaces.delete(name)
