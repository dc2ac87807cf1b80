from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest

from routing.bgp.values import Attributes, Family, Reason
from routing.engines import wire
from routing.engines.engine import Best, Event, Lost, RouteView, Session, SessionState, SessionView, Synced

PREFIX, ADDRESS = ip_network("10.0.0.0/24"), ip_address("2001:db8::1")
ATTRIBUTES = Attributes(next_hop=ADDRESS, med=0)


@pytest.mark.parametrize(
    "event",
    [
        Best(PREFIX, ATTRIBUTES, "n"),
        Best(PREFIX, None),
        Session("n", ADDRESS, SessionState.OPENSENT, "why"),
        Synced(),
        Lost("gone"),
    ],
)
def test_an_event_comes_back_as_it_went(event: Event) -> None:
    """Every kind of event."""
    assert wire.event_from_json(json.loads(json.dumps(wire.event_to_json(event)))) == event


def test_views_come_back_as_they_went() -> None:
    """With everything set and with nothing set."""
    for session in (
        SessionView("n", ADDRESS, 65000, SessionState.ESTABLISHED, tuple(Family), 1.5, 3, 2, 1, "d"),
        SessionView("n", ADDRESS, 65000, SessionState.IDLE),
    ):
        assert wire.session_from_json(json.loads(json.dumps(wire.session_to_json(session)))) == session
    for route in (
        RouteView(PREFIX, "n", ADDRESS, ATTRIBUTES, best=True, reason=Reason.BOGON, stale=True, why="w"),
        RouteView(PREFIX, "local", None, ATTRIBUTES),
    ):
        assert wire.route_from_json(json.loads(json.dumps(wire.route_to_json(route)))) == route


def test_equal_attributes_in_a_row_are_one_object() -> None:
    """A table has many prefixes for each attribute set."""
    other = Attributes(next_hop=ADDRESS, med=1)
    told = [Best(PREFIX, ATTRIBUTES, "n"), Best(PREFIX, ATTRIBUTES, "m"), Best(PREFIX, other), Best(PREFIX, None)]
    read = wire.Shared()
    back = [wire.event_from_json(json.loads(json.dumps(wire.event_to_json(event))), read) for event in told]
    assert back == told
    first, second, *_ = back
    assert isinstance(first, Best)
    assert isinstance(second, Best)
    assert first.attributes is second.attributes
