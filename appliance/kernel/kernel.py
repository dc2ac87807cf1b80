"""All kernel ports of one node, made together: the real ones, or twins in memory.

Made by the wiring of the daemon and by `edgeway plan`; `ports` is what the reconciler is given, under the names it uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.kernel.addresses import AddressesPort
from appliance.kernel.compose import ComposePort
from appliance.kernel.conntrack import Conntrack, KernelConntrack
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.nft import FakeNft
from appliance.kernel.fakes.ports import FakeEntries, FakeLinks, FakeNetns, FakeSysctls
from appliance.kernel.fakes.route_lookup import FakeRouteLookup
from appliance.kernel.fakes.routes import FakeRoutes
from appliance.kernel.fakes.steers import FakeSteers
from appliance.kernel.fakes.tables import FakeCompose, FakeNamespaces, FakeWires
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.links import LinksPort
from appliance.kernel.namespaces import DIRECTORY, Namespaces
from appliance.kernel.neighbours import FdbPort, NeighboursPort
from appliance.kernel.netns import NetnsPort
from appliance.kernel.nft import NftPort
from appliance.kernel.route_lookup import KernelRouteLookup, RouteLookup
from appliance.kernel.routes import RoutesPort
from appliance.kernel.steers import SteersPort
from appliance.kernel.sysctls import SysctlsPort
from appliance.kernel.wires import WiresPort
from appliance.model.facts import FdbEntry, LinkAddress, Neighbour

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.kernel.port import Port


@dataclass(frozen=True, slots=True)
class Kernel:
    """One node's kernel."""

    namespaces: Namespaces
    ports: Mapping[str, Port[Any]]
    conntrack: Conntrack
    lookup: RouteLookup

    @classmethod
    def real(cls, directory: Path = DIRECTORY) -> Kernel:
        """Speak to the kernel of the namespace that this thread is in; `directory` holds the names of the others."""
        namespaces = Namespaces(directory)
        ports: dict[str, Port[Any]] = {
            "namespaces": NetnsPort(namespaces),
            "links": LinksPort(namespaces),
            "sysctls": SysctlsPort(namespaces),
            "addresses": AddressesPort(namespaces),
            "neighbours": NeighboursPort(namespaces),
            "fdb": FdbPort(namespaces),
            "steers": SteersPort(namespaces),
            "nft": NftPort(namespaces),
            "wires": WiresPort(namespaces),
            "compose": ComposePort(namespaces),
            "routes": RoutesPort(namespaces),
        }
        return cls(namespaces, ports, KernelConntrack(namespaces), KernelRouteLookup(namespaces))

    @classmethod
    def fake(cls, world: FakeWorld | None = None, conntrack: FakeConntrack | None = None) -> Kernel:
        """Hold everything in memory."""
        world = world or FakeWorld()
        conntrack = FakeConntrack() if conntrack is None else conntrack
        ports: dict[str, Port[Any]] = {
            "namespaces": FakeNetns(world),
            "links": FakeLinks(world),
            "sysctls": FakeSysctls(world),
            "addresses": FakeEntries(world, LinkAddress, "address"),
            "neighbours": FakeEntries(world, Neighbour, "neighbour"),
            "fdb": FakeEntries(world, FdbEntry, "fdb"),
            "steers": FakeSteers(world),
            "nft": FakeNft(world, conntrack),
            "wires": FakeWires(world),
            "compose": FakeCompose(world),
            "routes": FakeRoutes(world),
        }
        return cls(FakeNamespaces(world), ports, conntrack, FakeRouteLookup(world))

    def close(self) -> None:
        """Release what is held; the kernel stays as it is."""
        for port in self.ports.values():
            port.close()
        self.namespaces.close()
