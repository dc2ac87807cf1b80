"""A node in memory: the daemon with fake kernel, engines and store, and a journal of what it did in which order.

`async with FakeNode("h1") as node` runs the daemon; `restart` kills it and starts another on the same kernel and engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from appliance.control.daemon import Daemon
from appliance.control.reconcile import Outcome
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.namespaces import Namespaces
from appliance.kernel.port import Failure, Port
from appliance.model.errors import KernelError
from appliance.model.facts import Fact, Route
from appliance.model.marks import PROTO_BGP
from appliance.state.diff import Plan
from appliance.state.store import MemoryStore
from services.health import Target
from tests.support.fake_engine import FakeEngine, FakeRoom, Journal
from tests.support.intents import Tree, changed, one_vpc, to_yaml

#: Devices that others made on every node.
OUTSIDE = ("eth1", "eth2", "tap11", "tap12", "tap13", "tap21", "tap22")


def quiet_vpc() -> Tree:
    """Return `one_vpc` whose VIP needs no health checks."""
    return changed(one_vpc(), "vpcs.red.vips.web.protocol", "udp")


class Journaled:
    """A port that writes down each plan it is given.

    `refusals` are the errno with which the coming plans are refused, `broken` what coming reads and `bursting` what coming
    plans raise.
    """

    def __init__(self, name: str, port: Port[Any], journal: Journal) -> None:
        self.name, self.port, self.journal = name, port, journal
        self.refusals: list[int] = []
        self.broken: list[Exception] = []
        self.bursting: list[Exception] = []

    def attend(self, desired: Iterable[Fact]) -> None:
        """Pass it on to a port that cares."""
        if hasattr(self.port, "attend"):
            self.port.attend(desired)

    def __getattr__(self, name: str) -> Any:
        """Pass on what only this port can tell."""
        return getattr(self.port, name)

    def read(self) -> frozenset[Any]:
        """Read, or fail as the test wants."""
        if self.broken:
            raise self.broken.pop(0)
        return self.port.read()

    def apply(self, plan: Plan[Any]) -> tuple[Failure, ...]:
        """Write down and apply, or refuse."""
        if plan:
            self.journal.append((self.name, plan))
        if self.bursting:
            raise self.bursting.pop(0)
        if self.refusals:
            code = self.refusals.pop(0)
            return tuple(Failure(c.fact, KernelError(self.name, "refused", code)) for c in plan.changes)
        return self.port.apply(plan)

    def watch(self) -> AsyncIterator[str]:
        """Watch."""
        return self.port.watch()

    def close(self) -> None:
        """Close."""
        self.port.close()


class FakeNode:
    """One node; what outlives a daemon is made once."""

    def __init__(self, name: str = "h1", *, outside: Iterable[str] = OUTSIDE) -> None:
        self.name = name
        self.world = FakeWorld(*outside)
        self.conntrack = FakeConntrack()
        self.store = MemoryStore()
        self.room = FakeRoom()
        self.journal = self.room.journal
        self.dead: set[Target] = set()
        self._start()

    def _start(self) -> None:
        kernel = fake_kernel(self.world, self.conntrack)
        self.ports = {name: Journaled(name, port, self.journal) for name, port in kernel.ports.items()}
        ports: Mapping[str, Port[Any]] = self.ports
        kernel = replace(kernel, ports=ports)
        self.daemon = Daemon(self.name, kernel, self.store, self.room, self._probe)

    async def _probe(self, _: Namespaces, target: Target, __: float) -> bool:
        await asyncio.sleep(0)
        return target not in self.dead

    async def __aenter__(self) -> Self:
        """Run the daemon."""
        self._task = asyncio.create_task(self.daemon.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def restart(self) -> None:
        """Stop the daemon and start another, which knows what the store, the kernel and the engines know."""
        await self.__aexit__(None, None, None)
        self._start()
        await self.__aenter__()

    async def load(self, tree: Tree | None = None) -> Outcome:
        """Load an intent; a test that waits for ever is a failure."""
        async with asyncio.timeout(30):
            return await self.daemon.load(to_yaml(tree or quiet_vpc()), "intent.yaml")

    def engine(self, name: str = "router", kind: str = "gobgp") -> FakeEngine:
        """Return an engine that was made."""
        return next(engine for key, engine in self.room.engines.items() if key == (kind, name))

    def bgp_routes(self) -> dict[str, str]:
        """Return what BGP taught the kernel: destination -> next hop."""
        routes = (route for route in self.world.routes.values() if route.proto == PROTO_BGP)
        return {str(route.destination): str(route.hops[0].via) for route in routes}

    def members(self) -> dict[str, tuple[int, ...]]:
        """Return who serves each VIP as the composing device has it."""
        return {str(a): ids for compose in self.world.composes.values() for a, ids in compose.members}

    def done(self) -> list[str]:
        """Return the journal's names in order, without repetitions side by side."""
        names = [name for name, _ in self.journal]
        return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]

    def touched(self, name: str) -> list[Route | Fact]:
        """Return every fact that a subsystem was told to change."""
        return [c.fact for done, plan in self.journal if done == name and isinstance(plan, Plan) for c in plan.changes]
