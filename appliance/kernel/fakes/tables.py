"""The fakes of programs on devices (composed destinations, wires) and of the handle of namespaces."""

from __future__ import annotations

from contextlib import contextmanager
from errno import ENODEV
from typing import TYPE_CHECKING

from appliance.kernel.fakes.world import FakePort, FakeWorld
from appliance.kernel.namespaces import Namespaces
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Compose, Namespace, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeCompose(FakePort[Compose]):
    """Composed-destination encapsulation."""

    reason = "compose"

    def read(self) -> frozenset[Compose]:
        """Return ours."""
        return frozenset(self.world.composes.values())

    def _put(self, fact: Compose) -> None:
        if not self.world.has_device(fact.ns, fact.link):
            raise KernelError(self.reason, f"{fact.ns}/{fact.link}", ENODEV)
        self.world.composes[fact.key] = fact

    def _drop(self, fact: Compose) -> None:
        self.world.composes.pop(fact.key, None)


class FakeWires(FakePort[Wire]):
    """Ports of inline edges."""

    reason = "wire"

    def read(self) -> frozenset[Wire]:
        """Return ours."""
        return frozenset(self.world.wires.values())

    def _put(self, fact: Wire) -> None:
        for link in filter(None, (fact.link, fact.to)):
            if not self.world.has_device(fact.ns, link):
                raise KernelError(self.reason, f"{fact.ns}/{link}", ENODEV)
        self.world.wires[fact.key] = fact

    def _drop(self, fact: Wire) -> None:
        self.world.wires.pop(fact.key, None)


class FakeNamespaces(Namespaces):
    """Names without namespaces behind them: being inside is being here."""

    def __init__(self, world: FakeWorld) -> None:
        """Hold no descriptor."""
        self.world = world

    def exists(self, name: Namespace) -> bool:
        """Tell whether the world has it."""
        return self.world.exists(name)

    def names(self) -> set[Namespace]:
        """Return those of the world."""
        return set(self.world.namespaces)

    def open_ns(self, name: Namespace) -> int:
        """Refuse: there is nothing to open."""
        raise KernelError("namespace", name, ENODEV)

    @contextmanager
    def in_namespace(self, name: Namespace) -> Iterator[None]:
        """Stay here."""
        if name != HOST and not self.exists(name):
            raise KernelError("namespace", name, ENODEV)
        yield

    def close(self) -> None:
        """Nothing is held."""
