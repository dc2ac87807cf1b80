"""The first thing a kernel is used for: nothing of netfilter is loaded yet. This file must stay the first of its directory.

A kernel with modules loads most of what it is asked for; what it is asked through /proc it does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.conftest import world
from tests.packet.vpcs import RED, Box, address, box, flow, vpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

__all__ = ["world"]

LATE = ("net/netfilter/nf_conntrack_count", "net/bridge/bridge-nf-call-iptables")


@pytest.fixture
def edge(world: World, netns_factory: Factory) -> Iterator[Box]:
    """Give a host without an edge."""
    with box(world, netns_factory) as made:
        yield made


def test_the_edge_of_a_vpc_comes_up_on_a_kernel_that_has_just_started(edge: Box) -> None:
    """Its guests talk, and their flow is known."""
    assert not [name for name in LATE if Path("/proc/sys", name).exists()], "something was here before"
    for guest in ("r1", "r2"):
        edge.plug(guest)
    outcome = edge.apply(vpc({"action": "allow"}, guests=2))
    assert outcome.done
    listening = edge.listen("r2", 8080)
    client = edge.connect("r1", 5000, (address("r2"), 8080))
    assert client is not None
    server, _ = listening.accept()
    with client, server:
        client.sendall(b"hello")
        assert server.recv(100) == b"hello"
        assert edge.record(flow("r1", 5000, "r2", 8080)) is not None
        assert edge.kernel.conntrack.count(RED) > 0
