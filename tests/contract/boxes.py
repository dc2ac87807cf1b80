"""A node's kernel seen from outside, once in memory and once in namespaces: what contract tests run on."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from appliance.kernel.addresses import AddressesPort
from appliance.kernel.fakes.nft import FakeNft
from appliance.kernel.fakes.ports import FakeEntries, FakeLinks, FakeNetns, FakeSysctls
from appliance.kernel.fakes.steers import FakeSteers
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.links import LinksPort
from appliance.kernel.neighbours import FdbPort, NeighboursPort
from appliance.kernel.netns import NetnsPort
from appliance.kernel.nft import NftPort
from appliance.kernel.steers import SteersPort
from appliance.kernel.sysctls import SysctlsPort
from appliance.model.facts import HOST, FdbEntry, LinkAddress, Namespace, Neighbour, Netns
from appliance.state.diff import Keyed, diff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from appliance.kernel.port import Failure, Port
    from tests.contract.worlds import World

F = TypeVar("F", bound=Keyed)


class Box(Protocol):
    """A node: its ports, and what a foreigner can do and see."""

    def port(self, name: str) -> Port[Any]:
        """Make a new port, as a restarted daemon would."""
        ...

    def plug(self, name: str) -> None:
        """Have a device in HOST that somebody else made."""
        ...

    def outside(self) -> set[str]:
        """Return the devices of others in HOST."""
        ...


@dataclass
class FakeBox:
    """In memory."""

    world: FakeWorld = field(default_factory=FakeWorld)

    def port(self, name: str) -> Port[Any]:
        """Make a fake."""
        world = self.world
        ports: dict[str, Port[Any]] = {
            "namespaces": FakeNetns(world),
            "links": FakeLinks(world),
            "addresses": FakeEntries(world, LinkAddress, "address"),
            "neighbours": FakeEntries(world, Neighbour, "neighbour"),
            "fdb": FakeEntries(world, FdbEntry, "fdb"),
            "sysctls": FakeSysctls(world),
            "nft": FakeNft(world),
            "steers": FakeSteers(world),
        }
        return ports[name]

    def plug(self, name: str) -> None:
        """Put it there."""
        self.world.outside.add(name)
        self.world.changed()

    def outside(self) -> set[str]:
        """Look."""
        return set(self.world.outside)


@dataclass
class RealBox:
    """In namespaces."""

    world: World

    def port(self, name: str) -> Port[Any]:
        """Make a real one."""
        kinds: dict[str, Any] = {
            "namespaces": NetnsPort,
            "links": LinksPort,
            "addresses": AddressesPort,
            "neighbours": NeighboursPort,
            "fdb": FdbPort,
            "sysctls": SysctlsPort,
            "nft": NftPort,
            "steers": SteersPort,
        }
        port: Port[Any] = kinds[name](self.world.namespaces)
        return port

    def plug(self, name: str) -> None:
        """One end of a veth pair is as good as a network card."""
        self.world.run(HOST, "ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-far")

    def outside(self) -> set[str]:
        """Ask `ip`."""
        lines = self.world.run(HOST, "ip", "-o", "link").splitlines()
        names = {line.split()[1].split("@")[0].rstrip(":") for line in lines if "alias edgeway" not in line}
        return {name for name in names if name != "lo" and not name.endswith("-far")}


@asynccontextmanager
async def watching(port: Port[Any]) -> AsyncIterator[AsyncIterator[str]]:
    """Watch, from now on, until the end of the block."""
    reasons = cast("AsyncGenerator[str, None]", port.watch())
    try:
        assert await anext(reasons) == "listening"
        yield reasons
    finally:
        await reasons.aclose()


def reach(port: Port[F], desired: Iterable[F]) -> tuple[Failure, ...]:
    """Do what the reconciler does with one port."""
    return port.apply(diff(port.read(), desired))


def prepare(box: Box, *names: str) -> None:
    """Have namespaces of ours."""
    assert reach(box.port("namespaces"), [Netns(Namespace(name)) for name in names]) == ()
