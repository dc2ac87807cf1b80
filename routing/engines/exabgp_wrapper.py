# ruff: noqa: SLF001, ARG005 - inside another program, whose parts have no types
"""ExaBGP 5.0.15 with what a route server needs put right: `python -m routing.engines.exabgp_wrapper server FILE`.

Started by `routing.engines.exabgp`. Every change below is small, names what it replaces and why, and `check` refuses to
start on a release where the replaced parts look different. Nothing of ExaBGP is copied.
"""

from __future__ import annotations

import copy
import json
import sys
from collections import deque
from typing import Any, Final

import exabgp.rib
from exabgp.application.main import main
from exabgp.bgp import neighbor as neighbors
from exabgp.bgp.message.open.capability.capabilities import Capabilities
from exabgp.bgp.message.open.capability.capability import Capability
from exabgp.bgp.message.open.capability.refresh import RouteRefresh
from exabgp.bgp.message.update.attribute import Attribute, Attributes
from exabgp.configuration.neighbor import ParseNeighbor
from exabgp.protocol.ip import IP
from exabgp.reactor import listener, loop, peer
from exabgp.reactor.api import API, processes
from exabgp.reactor.api.processes import Processes
from exabgp.rib.outgoing import OutgoingRIB
from exabgp.version import version

from routing.engines.exabgp_commands import Batch, Commands, part

RELEASE: Final = "5.0.15"
PEER_DECONFIGURED: Final = 3
ADMINISTRATIVE_RESET: Final = 4


class Queue(OutgoingRIB):  # type: ignore[misc]
    """What is to be sent to one neighbour, first in, first out; a batch is shared by all who are sent it.

    Instead of ExaBGP's table: that copies every route for every neighbour, packs only IPv4, leaves out withdrawals in the
    first turn of a session, and when a prefix changes from A to B and back between two turns sends A, then B.
    """

    def __init__(self, cache: bool, families: Any) -> None:  # noqa: FBT001 - ExaBGP's signature
        """Start empty; `cache` is what ExaBGP would keep and we do not."""
        self._batches: list[Batch] = []
        super().__init__(cache, families)

    def add(self, batch: Batch) -> None:
        """Send this as well."""
        self._batches.append(batch)

    def pending(self) -> bool:
        """Tell whether there is anything to send."""
        return bool(self._batches)

    def replace_restart(self, previous: Any, new: Any) -> None:  # noqa: ARG002 - ExaBGP's signature
        """At the start of a session forget what was meant for the one before."""
        self._batches = []

    def reset(self) -> None:
        """Forget everything at the end of a session."""
        self._batches = []

    def clear(self) -> None:
        """Keep what is queued: reading the configuration again calls this for every neighbour."""

    def updates(self, grouped: bool) -> list[Batch]:  # noqa: ARG002, FBT001 - ExaBGP's signature
        """Return what there is to send and forget it."""
        batches, self._batches = self._batches, []
        return batches


def check() -> None:
    """Refuse a release that this module was not written for."""
    if version != RELEASE:
        sys.exit(f"exabgp {version} is installed, {RELEASE} is needed")


def routes() -> None:
    """Keep no table and copy nothing."""
    exabgp.rib.OutgoingRIB = Queue
    original = neighbors.Neighbor.remove_self
    neighbors.Neighbor.remove_self = lambda self, change: original(self, change) if change.nlri.nexthop.SELF else change
    # Route refresh is answered by the API process, which has the table: no reason to keep one here as well.
    ParseNeighbor._post_capa_rr = lambda self, neighbor: None


def capabilities() -> None:
    """Offer plain route refresh only, and no host name.

    Enhanced refresh (RFC 7313) would promise the neighbour that ExaBGP itself says when the repetition is complete.
    """

    def refresh(self: Any, neighbor: Any) -> None:
        if neighbor["capability"]["route-refresh"]:
            self[Capability.CODE.ROUTE_REFRESH] = RouteRefresh()

    Capabilities._refresh = refresh
    Capabilities._hostname = lambda self, neighbor: None


def attributes() -> None:
    """Pass on as octets what ExaBGP would decode into forms that it cannot write again."""
    for code in (
        Attribute.CODE.PMSI_TUNNEL,
        Attribute.CODE.IPV6_EXTENDED_COMMUNITY,
        Attribute.CODE.BGP_LS,
        Attribute.CODE.BGP_PREFIX_SID,
    ):
        Attributes.representation.pop(code, None)
        for known in [key for key in Attribute.registered_attributes if key[0] == code]:
            del Attribute.registered_attributes[known]


def commands() -> None:
    """Answer our own commands."""
    original = API.process

    def process(self: Any, reactor: Any, service: str, command: str) -> None:
        if command.startswith("@"):
            Commands(self, reactor).run(service, command)
        else:
            original(self, reactor, service, command)

    API.process = process
    formated = processes.formated
    processes.formated = lambda line: line if line.startswith("@") else formated(line)


def pipes() -> None:
    """Outlive an API process that dies while it is written to.

    ExaBGP marks such a process as broken for ever and stops all its neighbours.
    """

    def write(self: Any, service: str, text: str | None, _neighbor: Any = None) -> bool:
        helper = self._process.get(service)
        if text is not None and helper is not None:
            try:
                helper.stdin.write(f"{text}\n".encode("ascii", "replace"))
                helper.stdin.flush()
            except OSError:
                self._handle_problem(service)
        return True

    Processes.write = write


def numbers() -> None:
    """Number the sessions, and tell the API process."""
    up, down, start = Processes.up, Processes.down, Processes._start
    Processes.last_session = Processes.older_sessions = 0

    def number(self: Any, neighbor: Any) -> None:
        self.last_session += 1
        neighbor.session = self.last_session
        line = json.dumps({"type": "session", "address": str(neighbor["peer-address"]), "number": neighbor.session})
        for helper in neighbor.api["neighbor-changes"]:
            self.write(helper, line)
        up(self, neighbor)

    def end(self: Any, neighbor: Any, reason: str) -> None:
        # Between its establishment and its number the next session must not be taken for this one.
        neighbor.session = None
        down(self, neighbor, reason)

    def begin(self: Any, service: str) -> None:
        # What came up before a process starts it has not heard of.
        self.older_sessions = self.last_session
        start(self, service)

    Processes._start = begin
    Processes.up, Processes.down = number, end


def ranges() -> None:
    """Give every neighbour that comes from a range queues of its own, and accept all who wait at once.

    ExaBGP lets the sessions of a range share one table, drops them at every reload, and looks at one new connection a turn.
    """
    original = peer.Peer.__init__

    def begin(self: Any, neighbor: Any, reactor: Any) -> None:
        if neighbor.generated:
            neighbor.eor, neighbor.messages, neighbor.refresh = deque(), deque(), deque()
            neighbor.make_rib()
        original(self, neighbor, reactor)

    peer.Peer.__init__ = begin
    run = peer.Peer.run

    def turn(self: Any) -> Any:
        action = run(self)
        if self.neighbor.generated and self.proto is None:
            self.neighbor.rib.uncache()
            return peer.ACTION.CLOSE
        return action

    peer.Peer.run = turn

    def accept(self: Any) -> Any:
        yield None
        for connection in self._connected():
            _accept(self._reactor, connection)

    listener.Listener.new_connections = accept


def _accept(reactor: Any, connection: Any) -> None:
    """Hand a connection to the neighbour at its address, or to the smallest range around it."""
    remote, local = IP.create(connection.local), IP.create(connection.peer)
    matching = [(key, p.neighbor) for key, p in reactor._peers.items() if _covers(p.neighbor, remote, local)]
    if not matching:
        notification = connection.notification(6, 3, "no session configured for the peer")
        reactor.asynchronous.schedule(str(remote), "refuse", notification)
        return
    key, neighbor = min(matching, key=lambda item: item[1].range_size)
    if neighbor.range_size > 1:
        made = _generated(neighbor, remote, local)
        key = made.name()
        reactor.register_peer(key, peer.Peer(made, reactor))
    elif neighbor.auto_discovery:
        neighbor["local-address"] = local
    denied = reactor._peers[key].handle_connection(connection)
    if denied:
        reactor.asynchronous.schedule(str(remote), "refuse", denied)


def _covers(neighbor: Any, remote: Any, local: Any) -> bool:
    first = neighbor["peer-address"]
    if first.afi != remote.afi or not 0 <= remote.address() - first.address() < neighbor.range_size:
        return False
    return bool(neighbor.auto_discovery or neighbor["local-address"].address() == local.address())


def _generated(neighbor: Any, remote: Any, local: Any) -> Any:
    made = copy.copy(neighbor)
    made["capability"] = neighbor["capability"].copy()
    made.range_size, made.generated, made.auto_discovery = 1, True, False
    made["local-address"], made["peer-address"] = local, remote
    return made


def reloads() -> None:
    """Leave alone what did not change, sessions of ranges included, and part from neighbours with a NOTIFICATION."""

    def reload(self: Any) -> bool:
        if not self.configuration.reload():
            return False
        wanted = self.configuration.neighbors
        changed = {key for key, p in self._peers.items() if key in wanted and p.neighbor != wanted[key]}
        for key, p in list(self._peers.items()):
            origin = _origin(self._peers, key)
            if origin not in wanted:
                part(p, PEER_DECONFIGURED)
            elif origin in changed and p.neighbor.generated:
                part(p, ADMINISTRATIVE_RESET)
            elif origin in changed:
                p.reestablish(wanted[key])
        for key, neighbor in wanted.items():
            if key not in self._peers or self._peers[key].stopping():
                self._peers[key] = peer.Peer(neighbor, self)
        return True

    loop.Reactor.reload = reload


def _origin(peers: dict[str, Any], key: str) -> str:
    """Return the key of the range that a session comes from, or its own."""
    one = peers[key].neighbor
    if not one.generated:
        return key
    around = [
        (other.neighbor.range_size, name)
        for name, other in peers.items()
        if other.neighbor.range_size > 1 and _covers(other.neighbor, one["peer-address"], one["local-address"])
    ]
    return min(around)[1] if around else ""


if __name__ == "__main__":
    check()
    for correct in (routes, capabilities, attributes, commands, pipes, numbers, ranges, reloads):
        correct()
    sys.exit(main())
