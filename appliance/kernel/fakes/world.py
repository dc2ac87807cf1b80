"""A node's kernel in memory: what exists, and what goes with what.

The fakes of all ports share one `FakeWorld`, because in the kernel an address goes with its device and a device with
its namespace. `outside` holds devices that somebody else made in HOST: a physical link needs one.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from appliance.kernel.port import Failure
from appliance.model.errors import KernelError
from appliance.model.facts import (
    HOST,
    Compose,
    Engine,
    FdbEntry,
    Instruction,
    Link,
    LinkAddress,
    Namespace,
    Neighbour,
    NftSet,
    NftTable,
    Route,
    Steer,
    Sysctl,
    Wire,
)
from appliance.state.diff import Keyed, Plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

Entry = LinkAddress | Neighbour | FdbEntry
F = TypeVar("F", bound=Keyed)


class FakeWorld:
    """Namespaces, devices and what is on them."""

    def __init__(self, *outside: str) -> None:
        """`outside` are the devices that others made in HOST."""
        self.namespaces: set[Namespace] = set()
        self.outside: set[str] = set(outside)
        self.links: dict[Hashable, Link] = {}
        self.entries: dict[tuple[type, Hashable], Entry] = {}
        self.sysctls: dict[Hashable, Sysctl] = {}
        self.nft: dict[tuple[type, Hashable], NftTable | NftSet | Engine | Instruction] = {}
        #: Generations of engines, also of those that are gone while their table stands.
        self.generations: dict[tuple[Namespace, int], int] = {}
        self.routes: dict[Hashable, Route] = {}
        self.steers: dict[Hashable, Steer] = {}
        self.down: set[tuple[Namespace, str]] = set()
        self.composes: dict[Hashable, Compose] = {}
        self.wires: dict[Hashable, Wire] = {}
        self._changed: list[asyncio.Event] = []

    def exists(self, ns: Namespace) -> bool:
        """Tell whether there is such a namespace."""
        return ns == HOST or ns in self.namespaces

    def has_device(self, ns: Namespace, name: str) -> bool:
        """Tell whether there is such a device, ours or not."""
        if not self.exists(ns):
            return False
        return name == "lo" or (ns, name) in self.links or (ns == HOST and name in self.outside)

    def remove_namespace(self, ns: Namespace) -> None:
        """Take a namespace and all that is in it; devices of others go back to HOST."""
        self.namespaces.discard(ns)
        for link in [link for link in self.links.values() if link.ns == ns]:
            self.remove_link(link)
        self.sysctls = {key: fact for key, fact in self.sysctls.items() if fact.ns != ns}
        self.routes = {key: fact for key, fact in self.routes.items() if fact.ns != ns}
        self.nft = {key: fact for key, fact in self.nft.items() if fact.ns != ns}
        self.generations = {key: number for key, number in self.generations.items() if key[0] != ns}
        self.steers = {key: fact for key, fact in self.steers.items() if fact.ns != ns}

    def remove_link(self, link: Link) -> None:
        """Take a device, what is on it, and a veth's other end."""
        if self.links.pop(link.key, None) is None:
            return
        for key in [key for key, entry in self.entries.items() if (entry.ns, entry.link) == (link.ns, link.name)]:
            del self.entries[key]
        self.routes = {
            key: route
            for key, route in self.routes.items()
            if route.ns != link.ns or link.name not in {hop.link for hop in route.hops}
        }
        self.composes.pop(link.key, None)
        self.wires.pop(link.key, None)
        if link.kind == "physical":
            self.outside.add(link.name)
        if link.peer is not None and link.peer in self.links:
            self.remove_link(self.links[link.peer])

    def changed(self) -> None:
        """Wake every watcher, as a change by somebody else does."""
        for event in self._changed:
            event.set()

    async def watch(self, reason: str) -> AsyncIterator[str]:
        """Yield once when listening, then each time something changed."""
        event = asyncio.Event()
        self._changed.append(event)
        try:
            yield "listening"
            while True:
                await event.wait()
                event.clear()
                yield reason
        finally:
            self._changed.remove(event)


class FakePort(ABC, Generic[F]):
    """A port whose changes are applied one by one."""

    reason = "fake"

    def __init__(self, world: FakeWorld) -> None:
        """Share a world with the other fakes."""
        self.world = world

    @abstractmethod
    def read(self) -> frozenset[F]:
        """Return what is there."""

    @abstractmethod
    def _put(self, fact: F) -> None:
        """Create or update; raise KernelError if it cannot be."""

    @abstractmethod
    def _drop(self, fact: F) -> None:
        """Delete, also what is absent."""

    def apply(self, plan: Plan[F]) -> tuple[Failure, ...]:
        """Carry the plan out in its order."""
        failures = []
        for change in plan.changes:
            if change.operation == "delete":
                self._drop(change.fact)
                continue
            try:
                self._put(change.fact)
            except KernelError as error:
                failures.append(Failure(change.fact, error))
        if plan:
            self.world.changed()
        return tuple(failures)

    def watch(self) -> AsyncIterator[str]:
        """Yield when anything in the world changed."""
        return self.world.watch(self.reason)

    def close(self) -> None:
        """Nothing is held."""
