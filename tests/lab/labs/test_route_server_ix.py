"""The exchange of labs/route-server-ix: what twenty members say of each other when a route server is gone."""

from __future__ import annotations

import pytest

from tests.lab.driving import Lab
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kernel, pytest.mark.engine]

LAB = "route-server-ix"


def test_every_member_has_a_session_with_both(lab: Lab) -> None:
    """Twenty members, two families, two route servers of two kinds."""
    for server in ("rs1", "rs2"):
        assert [row["state"] for row in lab.show(server, "neighbors")] == ["established"] * 40


def test_both_route_servers_say_the_same_of_every_prefix(lab: Lab) -> None:
    """Our own engine and ExaBGP choose the same paths."""
    chosen = [
        {(row["prefix"], row["neighbor"]) for row in lab.show(server, "routes") if row["best"]}
        for server in ("rs1", "rs2")
    ]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) > 60


def test_a_member_goes_on_with_one_route_server(lab: Lab) -> None:
    """The path of the other one takes over, by the same next hop."""
    lab.out("m11", "birdc", "disable", "rs1_4")
    try:
        eventually(
            lambda: "[rs2_4" in lab.out("m11", "birdc", "-r", "show", "route", "198.18.16.0/24", "primary"),
            what="m11 uses the path of rs2",
        )
        assert "via 192.0.2.16" in lab.out("m11", "ip", "route", "get", "198.18.16.1")
        assert lab.run("m11", "ping", "-c1", "-W2", "198.18.16.1").returncode == 0
    finally:
        lab.out("m11", "birdc", "enable", "rs1_4")
    lab.green()
