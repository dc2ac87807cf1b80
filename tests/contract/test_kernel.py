"""All ports together: one desired state into a node and out again, in memory and in namespaces."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.control.reconcile import SUBSYSTEMS, Reconciler
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.kernel import Kernel
from appliance.model.facts import (
    HOST,
    Fact,
    FdbEntry,
    Hop,
    Link,
    LinkAddress,
    Namespace,
    Neighbour,
    Netns,
    NftSet,
    NftTable,
    Route,
    Sysctl,
)
from appliance.model.marks import PROTO_BOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World

RED = Namespace("red")
FACTS: frozenset[Fact] = frozenset(
    {
        Netns(RED),
        Link(RED, "lan", "bridge"),
        Link(RED, "vx7", "vxlan", vni=7, local=ip_address("192.0.2.1"), port=4789, learning=False, master="lan"),
        Link(RED, "up", "veth", peer=(HOST, "up7")),
        Link(HOST, "up7", "veth", peer=(RED, "up")),
        Sysctl(RED, "net.ipv4.ip_forward", "1"),
        LinkAddress(RED, "up", ip_interface("198.51.100.1/31")),
        LinkAddress(HOST, "up7", ip_interface("198.51.100.0/31")),
        Neighbour(RED, "lan", ip_address("192.0.2.9"), "02:00:00:00:00:09"),
        FdbEntry(RED, "vx7", "02:00:00:00:00:09", ip_address("192.0.2.2")),
        NftTable(RED, "set guests { type ipv4_addr; }\nchain c { ip saddr @guests accept; }"),
        NftSet(RED, "guests", frozenset({"192.0.2.9"})),
        Route(HOST, IPv4Network("203.0.113.0/24"), (Hop("up7", ip_address("198.51.100.1")),), PROTO_BOX),
    }
)


@pytest.fixture(params=["fake", "real"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """Give all ports of a node in memory, then of one in namespaces."""
    if request.param == "fake":
        made = fake_kernel(FakeWorld())
    else:
        world: World = request.getfixturevalue("world")
        with world.namespaces.in_namespace(HOST):
            made = Kernel.real(world.namespaces.directory)
    yield made
    made.close()


def test_there_is_a_port_for_every_subsystem(kernel: Kernel) -> None:
    """Under the names that the reconciler uses."""
    assert set(kernel.ports) == {name for name, _ in SUBSYSTEMS}


def test_a_node_is_built_kept_and_taken_down(kernel: Kernel) -> None:
    """Once more is nothing; and nothing is left at the end."""
    reconciler = Reconciler(kernel.ports)
    assert reconciler.apply(FACTS).done
    assert not any(reconciler.plan(FACTS).values())
    assert kernel.namespaces.names() == {RED}
    with kernel.namespaces.in_namespace(RED):
        pass
    assert list(kernel.conntrack.dump(HOST)) == []
    assert reconciler.apply(()).done
    assert not any(reconciler.plan(()).values())
    assert kernel.namespaces.names() == set()


def test_closing_leaks_no_descriptor(world: World) -> None:
    """And leaves what was built."""
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    with world.namespaces.in_namespace(HOST):
        made = Kernel.real(world.namespaces.directory)
    assert Reconciler(made.ports).apply(FACTS).done
    made.close()
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
    assert world.namespaces.names() == {RED}
