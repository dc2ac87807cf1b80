"""The whole engine without its sockets: connections and octets in, octets and events out.

Called by `routing.engines.native.loop`, which owns sockets and clock. Pure. A connection is a number of the loop's. Joins the
sessions (`routing.bgp.peering`), their messages (`intake`) and the tables (`routeserver`); what a turn of the loop brought is
worked out once, by `settle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from routing.bgp.encode import end_of_rib
from routing.bgp.intake import Intake
from routing.bgp.notify import ADMINISTRATIVE_SHUTDOWN, Notify
from routing.bgp.peering import Close, Connect, Down, Effect, Moved, Peering, RefreshAsked, Transmit, Up, Updates
from routing.bgp.routeserver import Bests, Converged, EndOfRib, Output, RouteServer
from routing.bgp.update import Format
from routing.bgp.values import Address, Neighbor, Speaker
from routing.engines.engine import Session, SessionState, Synced
from routing.engines.native import outbox
from routing.engines.native.deadlines import Deadlines
from routing.engines.views import News


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to a neighbour, from an address of ours if one is given."""

    address: Address
    local: Address | None


@dataclass(frozen=True, slots=True)
class Write:
    """Write to a connection."""

    connection: int
    data: outbox.Buffer


@dataclass(frozen=True, slots=True)
class Hang:
    """Write what a connection was given last, if it takes it, and close it."""

    connection: int


@dataclass(frozen=True, slots=True)
class Trust:
    """A session stands on this connection: it may be silent for as long as the session's own timers allow."""

    connection: int


Action = Dial | Write | Hang | Trust

#: How many who came from a range and left are remembered: why they left, and how long to hold them off.
REMEMBERED = 1024
_AWAY = (SessionState.IDLE, SessionState.ACTIVE)


class Core:
    """One speaker: its tables and its sessions."""

    def __init__(self, speaker: Speaker, now: float, awaited: Iterable[Address] = ()) -> None:
        """Start; `awaited` are the neighbours that were up when an earlier process ended."""
        known = tuple(awaited)
        self.server = RouteServer(speaker, now, known)
        self.peerings: dict[Address, Peering] = {}
        self.since: dict[Address, float] = {}
        self.events: list[News] = []
        self._restarted = now if known else None
        self._ceased = False
        self._addresses: dict[int, Address] = {}
        self._away: dict[Address, None] = {}
        self._intakes: dict[Address, Intake] = {}
        self._carriers: dict[Address, int] = {}
        self._formats: dict[Format, Format] = {}
        self._actions: list[Action] = []
        self._reported: dict[Address, tuple[SessionState, str]] = {}
        self._deadlines: Deadlines[Address] = Deadlines()
        self._adopt(now)

    # -- what happens to connections

    def accepted(self, connection: int, address: Address, local: Address, now: float) -> bool:
        """Take a connection that came in; False: it is nobody's we know."""
        neighbor = self.server.neighbor_at(address)
        if neighbor is None:
            return False
        if address not in self.peerings:
            if self._ceased:
                return False
            self._start(address, neighbor, now)
        self._away.pop(address, None)
        self._addresses[connection] = address
        self.peerings[address].connected(connection, local, outgoing=False, now=now)
        self._follow(address, now)
        return True

    def connected(self, connection: int, address: Address, local: Address, now: float) -> bool:
        """Take a connection that `Dial` made; False: the neighbour is gone meanwhile."""
        if address not in self.peerings:
            return False
        self._addresses[connection] = address
        self.peerings[address].connected(connection, local, outgoing=True, now=now)
        self._follow(address, now)
        return True

    def connect_failed(self, address: Address, why: str, now: float) -> None:
        """Take note that `Dial` failed."""
        if address in self.peerings:
            self.peerings[address].connect_failed(now, why)
            self._follow(address, now)

    def received(self, connection: int, data: bytes, now: float) -> None:
        """Take in octets."""
        address = self._addresses.get(connection)
        if address is not None:
            self.peerings[address].receive(connection, data, now)
            self._follow(address, now)

    def disconnected(self, connection: int, now: float) -> None:
        """Take note that a connection is gone."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            peering = self.peerings[address]
            peering.disconnected(connection, now)
            self._follow(address, now)
            if self._carriers.get(address) == connection:
                # We failed on what came over it; the end of the session came behind that, and was lost.
                self._down(address, Down(graceful=False, detail=""), now)
                self._moved(address, peering.state, peering.detail)

    def written(self, connection: int, octets: int, now: float, *, waiting: bool) -> None:
        """Take note of how much a slow connection took, and whether more waits (RFC 9687)."""
        address = self._addresses.get(connection)
        if address is not None:
            self.peerings[address].written(connection, octets, now, waiting=waiting)
            self._follow(address, now)

    def fall_behind(self, connection: int) -> None:
        """Tell whom this connection carries nothing more for now."""
        address = self._addresses.get(connection)
        if address is not None and self._carriers.get(address) == connection:
            self.server.fall_behind(address)

    def catch_up(self, connection: int) -> None:
        """Tell whom this connection carries what it has missed."""
        address = self._addresses.get(connection)
        if address is not None and self._carriers.get(address) == connection:
            self.server.catch_up(address)

    # -- what the daemon wants

    def configure(self, speaker: Speaker, now: float) -> Iterator[None]:
        """Become `speaker`, in steps; connections may do anything between two of them."""
        steps = self.server.configure(speaker, now)
        # The first step has the new neighbours known.
        more = next(steps, self) is None
        for address in [address for address in self.peerings if self._unwanted(address)]:
            self._end(address, now)
        self._adopt(now)
        # Who was away may be a neighbour of its own now; and who is forgotten below, has had its turn.
        self._away = {}
        for address, peering in list(self.peerings.items()):
            neighbor = self.server.neighbor_at(address)
            if neighbor is not None:
                peering.reconfigure(neighbor, speaker, now)
                self._follow(address, now)
        if more:
            yield
            yield from steps

    def cease(self, subcode: int, now: float) -> None:
        """Part from all neighbours, for good."""
        self._ceased, self._away = True, {}
        for address, peering in list(self.peerings.items()):
            peering.stop(subcode, "", now)
            self._follow(address, now)

    def leave(self, now: float) -> None:
        """Say to all that the process ends; not to those who wait for the next one if nothing is said."""
        self._ceased, self._away = True, {}
        for address, peering in list(self.peerings.items()):
            if not peering.waited_for:
                peering.stop(ADMINISTRATIVE_SHUTDOWN, "", now)
                self._follow(address, now)

    def watch(self, *, on: bool) -> None:
        """Make news of best paths, or not."""
        self.server.watched = on

    def take_events(self) -> tuple[News, ...]:
        """Return what watchers are to be told."""
        events, self.events = tuple(self.events), []
        return events

    # -- the turn of the loop

    def tick(self, now: float) -> None:
        """Do what is due."""
        for address in self._deadlines.take(now):
            if address in self.peerings:
                self.peerings[address].tick(now)
                self._follow(address, now)
        self.server.tick(now)

    def deadline(self) -> float | None:
        """Return when `tick` has something to do next, at the latest."""
        times = (self._deadlines.next(), self.server.deadline())
        return min((due for due in times if due is not None), default=None)

    def settle(self) -> list[Action]:
        """Work out what follows from all that happened; return what the loop must do, in order."""
        for output in self.server.take():
            self._say(output)
        actions, self._actions = self._actions, []
        return actions

    # -- how

    def _adopt(self, now: float) -> None:
        for neighbor in self.server.speaker.neighbors:
            if neighbor.address is not None and neighbor.address not in self.peerings:
                self._start(neighbor.address, neighbor, now)

    def _start(self, address: Address, neighbor: Neighbor, now: float) -> None:
        # Who comes later has given up on what the process before told it (RFC 4724 4.2).
        restarting = self._restarted is not None and now - self._restarted < neighbor.restart_time
        peering = Peering(address, neighbor, self.server.speaker, now, restarting=restarting)
        self.peerings[address] = peering
        peering.start(now)
        self._follow(address, now)

    def _unwanted(self, address: Address) -> bool:
        neighbor = self.server.neighbor_at(address)
        return neighbor is None or neighbor.asn != self.peerings[address].neighbor.asn

    def _end(self, address: Address, now: float) -> None:
        """Part from one that is a neighbour no longer, or another one."""
        peering = self.peerings[address]
        peering.stop(3, "", now)
        self._follow(address, now)
        self._forget(address)

        self._addresses = {number: of for number, of in self._addresses.items() if of != address}

    def _forget(self, address: Address) -> None:
        if address in self.peerings:
            self.peerings.pop(address).close()
        for known in (self._reported, self._away):
            known.pop(address, None)

    def _follow(self, address: Address, now: float) -> None:
        """Do what the peering wants done, until it wants nothing more."""
        peering = self.peerings[address]
        while effects := peering.take():
            for effect in effects:
                self._do(address, peering, effect, now)
        due = peering.deadline()
        self._deadlines.note(address, due)
        if due is None and peering.neighbor.address is None and peering.state in _AWAY:
            self._remember(address)

    def _remember(self, address: Address) -> None:
        """Note that one who came from a range is here no more and has nothing to wait for; forget who left first."""
        self._away.pop(address, None)
        self._away[address] = None
        if len(self._away) > REMEMBERED:
            self._forget(next(iter(self._away)))

    def _do(self, address: Address, peering: Peering, effect: Effect, now: float) -> None:
        match effect:
            case Updates():
                self._update(address, peering, effect, now)
            case Transmit():
                self._actions.append(Write(effect.connection, effect.data))
            case Connect():
                self._actions.append(Dial(address, peering.neighbor.local_address))
            case Close():
                self._addresses.pop(effect.connection, None)
                self._actions.append(Hang(effect.connection))
            case Up():
                self._up(address, effect, now)
            case Down():
                self._down(address, effect, now)
            case RefreshAsked():
                if effect.family is not None:
                    self.server.refresh(address, effect.family)
            case Moved():
                self._moved(address, effect.state, effect.detail)

    def _update(self, address: Address, peering: Peering, updates: Updates, now: float) -> None:
        intake = self._intakes.get(address)
        if intake is None:
            return
        try:
            intake.take(updates.messages, now)
        except Notify as fault:
            peering.fail(updates.connection, fault, now)

    def _up(self, address: Address, up: Up, now: float) -> None:
        # Whoever is written to in one format shares one object of it, by which `outbox` tells what is the same.
        format_ = self._formats.setdefault(up.format, up.format)
        if not self.server.session_up(address, up.established, format_, now):
            return
        self._intakes[address] = Intake(self.server, self.server.peers[address], format_)
        self._carriers[address] = up.connection
        self._actions.append(Trust(up.connection))
        self.since[address] = now

    def _down(self, address: Address, down: Down, now: float) -> None:
        # What is still to be said to this session is lost with it: behind a NOTIFICATION nothing is said.
        self._carriers.pop(address, None)
        self._say_all()
        self._intakes.pop(address, None)
        self.since.pop(address, None)
        self.server.session_down(address, now, graceful=down.graceful)

    def _moved(self, address: Address, state: SessionState, detail: str) -> None:
        neighbor = self.server.neighbor_at(address)
        if self._reported.get(address) != (state, detail):
            self._reported[address] = (state, detail)
            self.events.append(Session(neighbor.name if neighbor else "", address, state, detail))

    def _say_all(self) -> None:
        for output in self.server.take():
            self._say(output)

    def _say(self, output: Output) -> None:
        match output:
            case list():
                for peer, data in outbox.parts(output):
                    carrier = self._carriers.get(peer.address)
                    if carrier is not None:
                        self._actions.append(Write(carrier, data))
            case Bests():
                self.events.append(output)
            case EndOfRib():
                carrier = self._carriers.get(output.address)
                if carrier is not None:
                    data = b"".join(end_of_rib(outbox.CODES[family]) for family in output.families)
                    self._actions.append(Write(carrier, data))
            case Converged():
                self.events.append(Synced())
