"""A route server vanishes whole, as by a power cut: nothing that works stops, and what is new reaches everybody."""

from __future__ import annotations

import os
import signal

import pytest

from tests.lab.zone import Zone
from tests.support.waiting import eventually

SERVER, NEW = "198.51.100.10", "10.77.99.0/24"


@pytest.fixture
def without_rs1(zone: Zone) -> Zone:
    """The zone, which the test may damage."""
    zone.mend()
    zone.green()
    Zone.damaged = True
    return zone


def test_one_route_server_is_enough(without_rs1: Zone) -> None:
    """Established and new flows go on without rs1; a prefix added afterwards reaches hosts and gateways."""
    zone = without_rs1
    server = zone.serve("server", 7200)
    flows = [zone.connect(guest, SERVER, 7200) for guest in ("r1", "r2", "b1", "b2")]
    os.kill(zone.pid("rs1"), signal.SIGKILL)
    assert [flow.echo("established") for flow in flows] == ["established"] * 4
    more = [zone.connect(guest, SERVER, 7200) for guest in ("r1", "r2", "b1", "b2")]
    assert [flow.echo("new") for flow in more] == ["new"] * 4
    zone.out("legacy", "bgpctl", "network", "add", NEW)

    def everywhere() -> bool:
        nodes = ("h1", "h2", "gw1", "gw2")
        return all("via 10.0.0.41" in zone.out(node, "ip", "route", "get", "10.77.99.1") for node in nodes)

    eventually(everywhere, within=60, what=f"{NEW} reaches hosts and gateways")
    assert [flow.echo("still") for flow in (*flows, *more)] == ["still"] * 8
    for flow in (*flows, *more):
        flow.close()
    server.close()
