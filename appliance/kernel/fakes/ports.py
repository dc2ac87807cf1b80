"""The fakes of namespaces, devices, what is on devices, and sysctls."""

from __future__ import annotations

from errno import ENODEV
from typing import TYPE_CHECKING, TypeVar

from appliance.kernel.fakes.world import FakePort, FakeWorld
from appliance.model.errors import KernelError
from appliance.model.facts import FdbEntry, Link, LinkAddress, Namespace, Neighbour, Netns, Sysctl
from appliance.state.diff import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.kernel.port import Failure


class FakeNetns(FakePort[Netns]):
    """Namespaces."""

    reason = "namespaces"

    def read(self) -> frozenset[Netns]:
        """Return ours."""
        return frozenset(map(Netns, self.world.namespaces))

    def _put(self, fact: Netns) -> None:
        self.world.namespaces.add(fact.name)

    def _drop(self, fact: Netns) -> None:
        self.world.remove_namespace(fact.name)


class FakeLinks(FakePort[Link]):
    """Devices."""

    reason = "link"

    def read(self) -> frozenset[Link]:
        """Return ours."""
        return frozenset(self.world.links.values())

    def apply(self, plan: Plan[Link]) -> tuple[Failure, ...]:
        """Bridges first: others name them as their master."""
        changes = sorted(plan.changes, key=lambda change: (change.operation != "delete", change.fact.kind != "bridge"))
        return super().apply(Plan(tuple(changes)))

    def carriers(self, namespaces: Iterable[Namespace]) -> dict[tuple[Namespace, str], bool]:
        """Tell of every device in some namespaces whether it is connected: raised, and its cable not pulled."""
        wanted, world = frozenset(namespaces), self.world
        here = [link for link in world.links.values() if link.ns in wanted]
        return {(link.ns, link.name): link.up and (link.ns, link.name) not in world.down for link in here}

    def _put(self, fact: Link) -> None:
        world = self.world
        for ns in (fact.ns, *([fact.peer[0]] if fact.peer else [])):
            if not world.exists(ns):
                raise KernelError("link", f"{ns}/{fact.name}: no such namespace", ENODEV)
        old = world.links.get(fact.key)
        if old is not None and _fixed(old) != _fixed(fact):
            world.remove_link(old)
            old = None
        if fact.master is not None and (fact.ns, fact.master) not in world.links:
            raise KernelError("link", f"{fact.ns}/{fact.master}", ENODEV)
        if fact.kind == "physical" and old is None:
            if fact.name not in world.outside:
                raise KernelError("link", f"{fact.ns}/{fact.name}", ENODEV)
            world.outside.discard(fact.name)
        world.links[fact.key] = fact

    def _drop(self, fact: Link) -> None:
        self.world.remove_link(fact)


def _fixed(link: Link) -> tuple[object, ...]:
    """Return what cannot change in place."""
    return (link.kind, link.peer, link.vni, link.local, link.port, link.kind == "vxlan" and link.learning)


E = TypeVar("E", LinkAddress, Neighbour, FdbEntry)


class FakeEntries(FakePort[E]):
    """Addresses, neighbours or forwarding entries."""

    def __init__(self, world: FakeWorld, kind: type[E], reason: str) -> None:
        """`kind` is the fact that this port holds."""
        super().__init__(world)
        self.kind: type[E] = kind
        self.reason = reason

    def read(self) -> frozenset[E]:
        """Return ours."""
        return frozenset(entry for entry in self.world.entries.values() if isinstance(entry, self.kind))

    def _put(self, fact: E) -> None:
        if not self.world.has_device(fact.ns, fact.link):
            raise KernelError(self.reason, f"{fact.ns}/{fact.link}", ENODEV)
        self.world.entries[self.kind, fact.key] = fact

    def _drop(self, fact: E) -> None:
        self.world.entries.pop((self.kind, fact.key), None)


class FakeSysctls(FakePort[Sysctl]):
    """Sysctls that were asked for."""

    reason = "sysctl"

    def attend(self, desired: Iterable[Sysctl]) -> None:
        """Everything in the world was asked for: nothing to do."""

    def read(self) -> frozenset[Sysctl]:
        """Return what was written."""
        return frozenset(self.world.sysctls.values())

    def _put(self, fact: Sysctl) -> None:
        if not self.world.exists(fact.ns):
            raise KernelError("sysctl", f"{fact.ns} {fact.name}", ENODEV)
        match fact.name.split("."):
            case ["net", "ipv4" | "ipv6", "conf" | "neigh", device, _] if device not in {"all", "default"}:
                if not self.world.has_device(fact.ns, device.replace("/", ".")):
                    raise KernelError("sysctl", f"{fact.ns} {fact.name}", ENODEV)
        self.world.sysctls[fact.key] = fact

    def _drop(self, fact: Sysctl) -> None:
        self.world.sysctls.pop(fact.key, None)
