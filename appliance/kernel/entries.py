"""What the ports of things on devices have in common: addresses, neighbours, forwarding entries.

Each is a dump decoded to facts and a message per change; changes of one namespace go in one packed batch. A thing whose
device or namespace is not there is a failure that may pass when it is wanted, and success when it is to go.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from errno import EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from appliance.kernel.devices import Device, devices
from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import NETLINK_ROUTE, Message
from appliance.kernel.port import Failure
from appliance.kernel.watching import watch_route
from appliance.model.errors import KernelError
from appliance.model.facts import FdbEntry, LinkAddress, Namespace, Neighbour

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from appliance.kernel.namespaces import Namespaces
    from appliance.state.diff import Change, Plan

F = TypeVar("F", LinkAddress, Neighbour, FdbEntry)

#: What the kernel says when there is nothing to delete.
ABSENT: Final = frozenset({ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL})


class EntryPort(ABC, Generic[F]):
    """Facts that live on a device, over rtnetlink."""

    subsystem: ClassVar[str]
    groups: ClassVar[tuple[int, ...]]

    def __init__(self, namespaces: Namespaces) -> None:
        """Speak rtnetlink in `namespaces`."""
        self.namespaces = namespaces
        self._netlink = Netlink(namespaces, NETLINK_ROUTE, self.subsystem)

    @abstractmethod
    def _dump(self, ns: Namespace, found: dict[int, Device]) -> Iterable[F]:
        """Return what is ours on the devices of a namespace (by index)."""

    @abstractmethod
    def _message(self, change: Change[F], index: int) -> Message:
        """Encode a change of something on the device with that index."""

    @abstractmethod
    def _name(self, fact: F) -> str:
        """Name the object in errors."""

    def read(self) -> frozenset[F]:
        """Return what is ours in the node's namespace and every one we made."""
        found = self.namespaces.each(lambda ns: tuple(self._read_one(ns)))
        return frozenset(fact for facts in found.values() for fact in facts)

    def apply(self, plan: Plan[F]) -> tuple[Failure, ...]:
        """Carry the changes out, one batch a namespace."""
        by_ns: dict[Namespace, list[Change[F]]] = {}
        for change in plan.changes:
            by_ns.setdefault(change.fact.ns, []).append(change)
        return tuple(failure for ns, changes in by_ns.items() for failure in self._tried(ns, changes))

    def watch(self) -> AsyncIterator[str]:
        """Yield when one appears, changes or goes."""
        return watch_route(self.namespaces, self.groups, self.subsystem)

    def close(self) -> None:
        """Nothing of its own: sockets belong to `Namespaces`."""

    def _read_one(self, ns: Namespace) -> Iterable[F]:
        """Read one namespace."""
        found = {device.index: device for device in devices(self._netlink, ns).values()}
        return self._dump(ns, found)

    def _tried(self, ns: Namespace, changes: list[Change[F]]) -> list[Failure]:
        """Apply the changes of one namespace, which may go away meanwhile."""
        try:
            return self._apply_one(ns, changes)
        except KernelError as error:
            return [Failure(change.fact, error) for change in changes if change.operation != "delete"]

    def _apply_one(self, ns: Namespace, changes: list[Change[F]]) -> list[Failure]:
        """Apply the changes of one namespace."""
        there = self.namespaces.exists(ns)
        index = {name: device.index for name, device in devices(self._netlink, ns).items()} if there else {}
        possible = [change for change in changes if change.fact.link in index]
        failures = [
            Failure(change.fact, KernelError(self.subsystem, self._name(change.fact), ENODEV))
            for change in changes
            if change.fact.link not in index and change.operation != "delete"
        ]
        requests = [self._message(change, index[change.fact.link]) for change in possible]
        for change, said in zip(possible, self._netlink.batch(ns, requests) if requests else (), strict=True):
            if said.errno and not (change.operation == "delete" and said.errno in ABSENT):
                failures.append(Failure(change.fact, self._netlink.error(self._name(change.fact), said)))
        return failures
