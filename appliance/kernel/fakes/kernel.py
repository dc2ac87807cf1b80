"""All kernel ports of one node, in memory: what tests give the daemon in the place of `Kernel.real()`."""

from __future__ import annotations

from typing import Any

from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.nft import FakeNft
from appliance.kernel.fakes.ports import FakeEntries, FakeLinks, FakeNetns, FakeSysctls
from appliance.kernel.fakes.route_lookup import FakeRouteLookup
from appliance.kernel.fakes.routes import FakeRoutes
from appliance.kernel.fakes.steers import FakeSteers
from appliance.kernel.fakes.tables import FakeCompose, FakeNamespaces, FakeWires
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.kernel import Kernel
from appliance.kernel.port import Port
from appliance.model.facts import FdbEntry, LinkAddress, Neighbour


def fake_kernel(world: FakeWorld | None = None, conntrack: FakeConntrack | None = None) -> Kernel:
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
    return Kernel(FakeNamespaces(world), ports, conntrack, FakeRouteLookup(world))
