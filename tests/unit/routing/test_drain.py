"""What a drained node still says: what is only there, and nothing else."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from appliance.control.compile import Known, compile_intent
from routing.bgp.policy import may_export
from routing.bgp.values import Network, Speaker
from tests.support.intents import lab

LAB = lab()


def said(node: str, *, drained: bool) -> set[Network]:
    """Return which of its own prefixes a node lets out to anybody."""
    speakers = compile_intent(LAB, node, Known(drained=drained)).speakers
    return {a.prefix for s in speakers for a in s.announcements if goes_out(s, a.prefix)}


def goes_out(speaker: Speaker, prefix: Network) -> bool:
    """Tell whether any neighbour may be sent a prefix."""
    return any(may_export(prefix, neighbor.exports) for neighbor in speaker.neighbors)


def test_a_drained_gateway_says_its_loopbacks_alone() -> None:
    """Its public prefixes, and the routes of others, come from the other gateway."""
    node = LAB.nodes["gw1"]
    own = {ip_network(node.loopback.ipv4), ip_network(node.loopback.ipv6)}
    assert said("gw1", drained=False) == own | set(LAB.zone.public)
    assert said("gw1", drained=True) == own
    (speaker,) = compile_intent(LAB, "gw1", Known(drained=True)).speakers
    assert not goes_out(speaker, ip_network("198.51.100.0/24"))
    assert not goes_out(speaker, ip_network("2001:db8:100::/64"))


def test_a_drained_host_goes_on_saying_what_only_it_has() -> None:
    """Its guests and their flows can go nowhere else."""
    assert said("h1", drained=True) == said("h1", drained=False)


@pytest.mark.parametrize("name", ["zone", "exchange"])
def test_a_drained_route_server_says_nothing(name: str) -> None:
    """Its clients have every route from the other one."""
    speaker = next(s for s in compile_intent(LAB, "rs1", Known(drained=True)).speakers if s.name == name)
    assert speaker.neighbors
    assert all(neighbor.exports.accept == () for neighbor in speaker.neighbors)


def test_sessions_stay_as_they_are() -> None:
    """Only policies change: a session that were made anew would lose what it has heard."""
    for node in LAB.nodes:
        for before, after in zip(
            compile_intent(LAB, node).speakers, compile_intent(LAB, node, Known(drained=True)).speakers, strict=True
        ):
            assert [n.imports for n in before.neighbors] == [n.imports for n in after.neighbors]
            assert [n.name for n in before.neighbors] == [n.name for n in after.neighbors]
