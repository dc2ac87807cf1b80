"""The port of the engines as JSON lines: what goes over the Unix socket between the daemon and an engine's process.

Called by both ends. A request is `{"id", "method", ...}`, its answer `{"id", "result"}` or `{"id", "error"}`; once
`watch` was asked for, batches `{"events": [...]}` come as well. Lists come in parts before, `{"id", "part"}`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from routing.bgp import codec
from routing.bgp.values import Attributes, Reason
from routing.engines.engine import Best, Event, Lost, RouteView, Session, SessionState, SessionView, Synced

Json = dict[str, Any]


class Shared:
    """Reads attribute sets; equal ones in a row are one object: a table has many prefixes for each."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._data: Json | None = None
        self._attributes: Attributes | None = None

    def __call__(self, data: Json) -> Attributes:
        """Read the next one."""
        if self._attributes is None or data != self._data:
            self._data, self._attributes = data, codec.attributes_from_json(data)
        return self._attributes


def event_to_json(event: Event) -> Json:
    """Write one event."""
    if isinstance(event, Best):
        attributes = None if event.attributes is None else codec.attributes_to_json(event.attributes)
        return {"kind": "best", "prefix": str(event.prefix), "attributes": attributes, "neighbor": event.neighbor}
    if isinstance(event, Session):
        return {
            "kind": "session",
            "name": event.name,
            "address": str(event.address),
            "state": event.state.value,
            "detail": event.detail,
        }
    if isinstance(event, Lost):
        return {"kind": "lost", "detail": event.detail}
    return {"kind": "synced"}


def event_from_json(data: Json, read: Callable[[Json], Attributes] = codec.attributes_from_json) -> Event:
    """Read one event, its attributes by `read`."""
    match data["kind"]:
        case "best":
            attributes = None if data["attributes"] is None else read(data["attributes"])
            return Best(ip_network(data["prefix"]), attributes, data["neighbor"])
        case "session":
            state = SessionState(data["state"])
            return Session(data["name"], ip_address(data["address"]), state, data["detail"])
        case "lost":
            return Lost(data["detail"])
        case _:
            return Synced()


def session_to_json(view: SessionView) -> Json:
    """Write the view of one session."""
    return {
        "name": view.name,
        "address": str(view.address),
        "asn": view.asn,
        "state": view.state.value,
        "families": codec.families_to_json(view.families),
        "uptime": view.uptime,
        "received": view.received,
        "accepted": view.accepted,
        "advertised": view.advertised,
        "detail": view.detail,
    }


def session_from_json(data: Json) -> SessionView:
    """Read the view of one session."""
    return SessionView(
        **data
        | {
            "address": ip_address(data["address"]),
            "state": SessionState(data["state"]),
            "families": codec.families_from_json(data["families"]),
        }
    )


def route_to_json(view: RouteView) -> Json:
    """Write the view of one path."""
    return {
        "prefix": str(view.prefix),
        "neighbor": view.neighbor,
        "address": codec.text_or_none(view.address),
        "attributes": codec.attributes_to_json(view.attributes),
        "best": view.best,
        "reason": view.reason,
        "stale": view.stale,
        "why": view.why,
    }


def route_from_json(data: Json, read: Callable[[Json], Attributes] = codec.attributes_from_json) -> RouteView:
    """Read the view of one path, its attributes by `read`."""
    return RouteView(
        **data
        | {
            "prefix": ip_network(data["prefix"]),
            "address": codec.address_or_none(data["address"]),
            "attributes": read(data["attributes"]),
            "reason": None if data["reason"] is None else Reason(data["reason"]),
        }
    )
