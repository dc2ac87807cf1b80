"""One neighbour at one address: its connections, collisions, configuration and clock, without I/O (RFC 4271 6.8, 8).

Called by the core of the engine, which owns sockets and time: events and `now` (seconds) go in, effects come out.

There is one machine that connects, and one for each connection that the neighbour makes; what they are to each other says
`routing.bgp.collision`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from routing.bgp.collision import CONFIRMED, PATIENCE, admit, dump
from routing.bgp.connection import Connection
from routing.bgp.effects import Close, Connect, Down, Effect, Moved, RefreshAsked, Transmit, Up, Updates
from routing.bgp.fsm import Event
from routing.bgp.machine import Admission, Common, Machine
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

    @property
    def waited_for(self) -> bool:
        """Tell whether the neighbour keeps our routes until we have started again, unless we cease (RFC 4724 4.2)."""
        session = self._session
        return (
            session is not None
            and session.agreement is not None
            and session.agreement.established.restart_time is not None
        )

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

    def close(self) -> None:
        """Nothing will happen here any more: what knows us lets go of us, for nothing else would free us."""
        self._common.admit = _nobody

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

    def _confirmed(self) -> bool:
        return any(machine.state in CONFIRMED for machine in self._machines())

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
            dump(self._incoming, now)
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
            dump(machine, now)
        elif event is Event.DELAY_OPEN_EXPIRES and machine.postponed is not None:
            machine.resume(now)
        else:
            machine.fire(event, now, _SAID.get(event))

    def _admit(self, machine: Machine, agreement: Agreement, now: float) -> Admission:
        rivals = [rival for rival in self._machines() if rival is not machine]
        return admit(machine, rivals, ours_is_kept(self._offer, agreement), agreement, now)

    def _settle(self, now: float) -> None:
        """Put every machine where its state belongs."""
        self._bury()
        self._unblock(now)
        self._bury()
        for machine in (self._outgoing, self._incoming):
            if machine is not None and machine.state is SessionState.ESTABLISHED:
                self._establish(machine, now)
        if self._session is None and self._outgoing is None and self._started and not self._passive:
            self._outgoing = Connection(self._common, outgoing=True)
            self._outgoing.timers[Event.IDLE_HOLD_EXPIRES] = now + self._common.pace.idle_hold()
        self._tell()

    def _bury(self) -> None:
        """Forget machines that have ended; the one that connects lives on to try again."""
        if self._session is not None and self._session.state is not SessionState.ESTABLISHED:
            self._session = None
        self._incoming = self._living(self._incoming)
        if self._passive or self._session is not None:
            self._outgoing = self._living(self._outgoing)

    def _unblock(self, now: float) -> None:
        """Let a connection go on that waited for another one which is no more."""
        if self._confirmed():
            return
        for machine in list(self._machines()):
            if Event.DELAY_OPEN_EXPIRES not in machine.timers:
                continue
            rivals = [rival for rival in self._machines() if rival is not machine]
            if machine.postponed is None or not any(rival.opened for rival in rivals):
                del machine.timers[Event.DELAY_OPEN_EXPIRES]
                self._expired(machine, Event.DELAY_OPEN_EXPIRES, now)

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
            rival.timers[Event.HOLD_EXPIRES] = now + PATIENCE
            if rival.outgoing:
                self._outgoing = rival
            else:
                self._incoming = rival
        else:
            dump(rival, now)

    def _tell(self) -> None:
        states = [machine.state for machine in self._machines()]
        if self._started and self._common.pace.held_until is None:
            states.append(SessionState.ACTIVE)  # who comes is welcome
        self.state = max(states, key=_RANKS.__getitem__, default=SessionState.IDLE)
        if self._told != (self.state, self.detail):
            self._told = (self.state, self.detail)
            self._common.effects.append(Moved(*self._told))


def _nobody(machine: Machine, agreement: Agreement, now: float) -> Admission:  # noqa: ARG001 - as `Common.admit` has it
    return Admission.DUMPED
