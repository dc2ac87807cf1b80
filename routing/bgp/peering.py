"""One neighbour at one address: its connections, collisions, configuration and clock, without I/O (RFC 4271 6.8, 8).

Called by the core of the engine, which owns sockets and time: events and `now` (seconds) go in, effects come out.

There is one machine that connects, and one for each connection that the neighbour makes. Both ends may connect at once;
which connection survives must not depend on what arrives first, or each end may drop the other one's:

- While one connection is in OpenConfirm or Established, a new one waits for the neighbour's OPEN before it sends ours.
- The one that the higher identifier made is kept, also when the other is established already, if both OPENs were sent on
  it before it was. Behind an established session a newcomer is refused, unless the neighbour restarted (RFC 4724 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from routing.bgp.connection import Connection
from routing.bgp.effects import Close, Connect, Down, Effect, Moved, RefreshAsked, Transmit, Up, Updates
from routing.bgp.fsm import Event
from routing.bgp.machine import LASTED, Common, Machine
from routing.bgp.messages import encode_notification, encode_refresh
from routing.bgp.negotiation import Agreement, offer, ours_is_kept
from routing.bgp.notify import CEASE, HOLD_TIMER_EXPIRED, SEND_HOLD_TIMER_EXPIRED, Notify, shutdown
from routing.bgp.pace import Pace
from routing.bgp.values import Address, Family, Neighbor, Speaker
from routing.engines.engine import SessionState

__all__ = [
    "Close",
    "Connect",
    "Down",
    "Effect",
    "Moved",
    "Peering",
    "RefreshAsked",
    "Transmit",
    "Up",
    "Updates",
]

_CONNECTION_REJECTED = 5
_CONFIGURATION_CHANGE = 6
_COLLISION = 7

#: How long a connection may outlive the session that another one became (a race, see above).
_PATIENCE = 5.0

# From the one that says least of a connection to come.
_RANKS = {
    state: rank
    for rank, state in enumerate(
        (
            SessionState.IDLE,
            SessionState.ACTIVE,
            SessionState.CONNECT,
            SessionState.OPENSENT,
            SessionState.OPENCONFIRM,
            SessionState.ESTABLISHED,
        )
    )
}
_CONFIRMED = (SessionState.OPENCONFIRM, SessionState.ESTABLISHED)
_TRYING = (Event.CONNECT_RETRY_EXPIRES, Event.IDLE_HOLD_EXPIRES)
_SAID = {
    Event.HOLD_EXPIRES: Notify(HOLD_TIMER_EXPIRED),
    Event.SEND_HOLD_EXPIRES: Notify(SEND_HOLD_TIMER_EXPIRED),
}


class Peering:
    """The neighbour's connections and what is agreed upon; `state` is that of the foremost one.

    `detail` says why there is no session: what the last one ended with, or the last attempt at one.
    """

    def __init__(
        self, address: Address, neighbor: Neighbor, speaker: Speaker, now: float, *, restarting: bool = False
    ) -> None:
        """Begin idle. `restarting`: our process was restarted, so the neighbour may hold routes of ours."""
        self.address = address
        self.neighbor = neighbor
        self.state = SessionState.IDLE
        self._started = False
        # Who has not been back by then has given up on us (RFC 4724 4.2).
        self._restarting_until = now + neighbor.restart_time if restarting else now
        self._offer = offer(neighbor, speaker)
        self._common = Common(neighbor.asn, self._offer, Pace(address), self._admit)
        self._told = (self.state, "")
        self._session: Connection | None = None
        self._outgoing: Connection | None = None
        self._incoming: Connection | None = None

    @property
    def detail(self) -> str:
        """Return why there is no session."""
        return self._common.detail

    # -- the operator

    def start(self, now: float) -> None:
        """Connect, or await the neighbour."""
        if not self._started:
            self._started = True
            self._common.pace.clear()
            self._connect(now)
            self._settle(now)

    def stop(self, subcode: int, text: str, now: float) -> None:
        """Cease, and idle until `start`."""
        self._started = False
        self._cease(shutdown(subcode, text), now)
        self._settle(now)

    def reconfigure(self, neighbor: Neighbor, speaker: Speaker, now: float) -> None:
        """Take another configuration; the session is reset only if our OPEN or our end of it would be another."""
        before = (self._common.asn, self._offer, self.neighbor.local_address)
        self.neighbor, self._offer = neighbor, offer(neighbor, speaker)
        self._common.asn, self._common.ours = neighbor.asn, self._offer
        anew = before != (neighbor.asn, self._offer, neighbor.local_address)
        if anew and self._started:
            self._cease(shutdown(_CONFIGURATION_CHANGE), now)
        if self._started and self._session is None and (anew or self._outgoing is None):
            self._connect(now)
        self._settle(now)

    def refresh(self, family: Family) -> None:
        """Ask for the routes of a family again, if the neighbour can be asked."""
        session = self._session
        if session is None or session.agreement is None or session.number is None:
            return
        if session.agreement.refresh and family in session.agreement.format.families:
            self._common.effects.append(Transmit(session.number, encode_refresh(family)))

    # -- TCP

    def connected(self, connection: int, local: Address, *, outgoing: bool, now: float) -> None:
        """TCP is up; numbers of connections are the caller's and never used twice."""
        if outgoing:
            self._acked(connection, local, now)
        else:
            self._accepted(connection, local, now)
        self._settle(now)

    def connect_failed(self, now: float, detail: str = "") -> None:
        """The connection that `Connect` asked for is not to be had."""
        attempt = self._outgoing
        if attempt is not None and attempt.number is None and attempt.state is SessionState.CONNECT:
            attempt.fire(Event.TCP_FAILS, now, detail=detail or "no connection")
            self._settle(now)

    def disconnected(self, connection: int, now: float, detail: str = "") -> None:
        """TCP is gone."""
        gone = self._find(connection)
        if gone is not None:
            gone.number = None
            gone.fire(Event.TCP_FAILS, now, detail=detail or "connection lost")
            self._settle(now)

    def receive(self, connection: int, data: bytes, now: float) -> None:
        """Take octets."""
        found = self._find(connection)
        if found is None:
            return
        before = found.state
        found.receive(data, now)
        if found.state is not before:
            self._settle(now)

    def written(self, connection: int, octets: int, now: float, *, waiting: bool) -> None:
        """The socket took so many octets (none if it was full); `waiting`: there are more (RFC 9687)."""
        found = self._find(connection)
        if found is not None:
            found.written(octets, now, waiting=waiting)

    def fail(self, connection: int, notify: Notify, now: float) -> None:
        """The caller found an UPDATE that must reset the session, or more prefixes than it takes (Cease)."""
        found = self._find(connection)
        if found is not None:
            found.fire(Event.AUTOMATIC_STOP if notify.code == CEASE else Event.UPDATE_ERROR, now, notify)
            self._settle(now)

    # -- time

    def deadline(self) -> float | None:
        """Return when `tick` is to be called."""
        times = [machine.deadline() for machine in self._machines()]
        if self._common.pace.held_until is not None:
            times.append(self._common.pace.held_until)
        first = min(times, default=float("inf"))
        return None if first == float("inf") else first

    def tick(self, now: float) -> None:
        """Do what is due."""
        pace = self._common.pace
        if pace.held_until is not None and pace.held_until <= now:
            pace.held_until = None
        for machine in list(self._machines()):
            while (event := machine.expire(now)) is not None:
                self._expired(machine, event, now)
        self._settle(now)

    def take(self) -> list[Effect]:
        """Return what is to be done, in order, since the last call."""
        effects, self._common.effects = self._common.effects, []
        return effects

    # -- how

    def _machines(self) -> Iterator[Connection]:
        for machine in (self._session, self._outgoing, self._incoming):
            if machine is not None:
                yield machine

    def _find(self, connection: int) -> Connection | None:
        session = self._session
        if session is not None and session.number == connection:
            return session
        return next((machine for machine in self._machines() if machine.number == connection), None)

    @property
    def _passive(self) -> bool:
        return self.neighbor.passive or self.neighbor.address is None

    def _connect(self, now: float) -> None:
        if not self._passive:
            self._outgoing = Connection(self._common, outgoing=True)
            self._outgoing.fire(Event.MANUAL_START, now)

    def _cease(self, notify: Notify, now: float) -> None:
        for machine in list(self._machines()):
            machine.fire(Event.MANUAL_STOP, now, notify)
        self._common.detail = str(notify)
        self._session = self._outgoing = self._incoming = None

    def _collide(self, machine: Machine, now: float) -> None:
        machine.fire(Event.COLLISION_DUMP, now, Notify(CEASE, _COLLISION))

    def _confirmed(self) -> bool:
        return any(machine.state in _CONFIRMED for machine in self._machines())

    def _acked(self, connection: int, local: Address, now: float) -> None:
        attempt = self._outgoing
        awaited = attempt is not None and attempt.state in (SessionState.CONNECT, SessionState.ACTIVE)
        if attempt is None or attempt.number is not None or not awaited:
            self._common.effects.append(Close(connection))
            return
        self._open(attempt, connection, local, now)

    def _accepted(self, connection: int, local: Address, now: float) -> None:
        if not self._started:
            rejected = encode_notification(Notify(CEASE, _CONNECTION_REJECTED))  # RFC 4486 4
            self._common.effects += [Transmit(connection, rejected), Close(connection)]
            return
        if self._common.pace.held_until is not None and now < self._common.pace.held_until:
            self._common.effects.append(Close(connection))
            return
        if self._incoming is not None:
            # One neighbour connects once at a time: it has lost that one.
            self._collide(self._incoming, now)
        self._incoming = Connection(self._common, outgoing=False)
        self._incoming.fire(Event.MANUAL_START_PASSIVE, now)
        self._open(self._incoming, connection, local, now)

    def _open(self, machine: Connection, connection: int, local: Address, now: float) -> None:
        """Send OPEN, or await the neighbour's."""
        self._common.ours = self._offer
        if now < self._restarting_until and self._offer.restart is not None:
            self._common.ours = replace(self._offer, restart=replace(self._offer.restart, restarting=True))
        delay = self._confirmed()
        machine.attach(connection, local)
        if machine.outgoing:
            machine.fire(Event.TCP_ACKED_DELAY if delay else Event.TCP_ACKED, now)
        else:
            machine.fire(Event.TCP_CONFIRMED_DELAY if delay else Event.TCP_CONFIRMED, now)
        machine.since = now

    def _expired(self, machine: Connection, event: Event, now: float) -> None:
        if event in _TRYING and self._confirmed():
            # The neighbour is here: wait how that ends.
            machine.timers[event] = now + self._common.pace.connect_retry()
        elif self._session is not None and machine is not self._session:
            self._collide(machine, now)
        else:
            machine.fire(event, now, _SAID.get(event))

    def _admit(self, machine: Machine, agreement: Agreement, now: float) -> bool:
        """Resolve collisions of a connection on which OPEN came; tell whether it goes on."""
        rivals = [rival for rival in self._machines() if rival is not machine and rival.state in _CONFIRMED]
        for rival in rivals:
            if rival.state is SessionState.ESTABLISHED and not machine.opened:
                if not self._has_restarted(machine, rival, agreement):
                    self._collide(machine, now)
                    return False
                # RFC 4724 5: the old connection goes without a NOTIFICATION, its routes are kept.
                rival.fire(Event.TCP_FAILS, now, detail="the neighbour came again")
            elif machine.outgoing is ours_is_kept(self._offer, agreement):
                self._collide(rival, now)
            else:
                self._collide(machine, now)
                return False
        return True

    def _has_restarted(self, machine: Machine, session: Connection, agreement: Agreement) -> bool:
        """Tell whether a newcomer says that the session is over, or both ends connected at the same time."""
        helped = session.agreement is not None and session.agreement.established.restart_time is not None
        return helped and (agreement.restarting or machine.since - session.since >= LASTED)

    def _settle(self, now: float) -> None:
        """Put every machine where its state belongs."""
        if self._session is not None and self._session.state is not SessionState.ESTABLISHED:
            self._session = None
        self._incoming = self._living(self._incoming)
        if self._passive or self._session is not None:
            self._outgoing = self._living(self._outgoing)
        for machine in (self._outgoing, self._incoming):
            if machine is not None and machine.state is SessionState.ESTABLISHED:
                self._establish(machine, now)
        if self._session is None and self._outgoing is None and self._started and not self._passive:
            self._outgoing = Connection(self._common, outgoing=True)
            self._outgoing.timers[Event.IDLE_HOLD_EXPIRES] = now + self._common.pace.idle_hold()
        if not self._confirmed():
            for machine in list(self._machines()):
                if machine.timers.pop(Event.DELAY_OPEN_EXPIRES, None) is not None:
                    machine.fire(Event.DELAY_OPEN_EXPIRES, now)
        self._tell()

    @staticmethod
    def _living(machine: Connection | None) -> Connection | None:
        return machine if machine is not None and machine.number is not None else None

    def _establish(self, machine: Connection, now: float) -> None:
        """Make it the session; what else there is goes, at once or if the neighbour drops it too."""
        self._session = machine
        self._restarting_until = now
        agreement = machine.agreement
        rival = self._incoming if machine.outgoing else self._outgoing
        self._outgoing = self._incoming = None
        if rival is None or agreement is None:
            return
        if rival.opened and rival.outgoing is ours_is_kept(self._offer, agreement):
            rival.timers[Event.HOLD_EXPIRES] = now + _PATIENCE
            if rival.outgoing:
                self._outgoing = rival
            else:
                self._incoming = rival
        else:
            self._collide(rival, now)

    def _tell(self) -> None:
        states = [machine.state for machine in self._machines()]
        if self._started and self._common.pace.held_until is None:
            states.append(SessionState.ACTIVE)  # who comes is welcome
        self.state = max(states, key=_RANKS.__getitem__, default=SessionState.IDLE)
        if self._told != (self.state, self.detail):
            self._told = (self.state, self.detail)
            self._common.effects.append(Moved(*self._told))
