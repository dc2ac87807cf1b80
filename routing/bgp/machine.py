"""The machine of one connection, running: the actions of `routing.bgp.fsm` become effects and timers.

Base of `routing.bgp.connection`, which makes events of octets. No I/O: `now` comes with each event, effects are appended
to those of the peering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from routing.bgp.effects import Close, Connect, Down, Effect, Transmit, Up
from routing.bgp.fsm import TABLE, Action, Event
from routing.bgp.messages import KEEPALIVE_MESSAGE, Open, encode_notification, encode_open
from routing.bgp.negotiation import Agreement
from routing.bgp.notify import CEASE, FSM_ERROR, HARD_RESET, HOLD_TIMER_EXPIRED, SEND_HOLD_TIMER_EXPIRED, Notify
from routing.bgp.pace import Pace
from routing.bgp.values import Address
from routing.engines.engine import SessionState

#: RFC 4271 8.2.2: "a HoldTimer value of 4 minutes is suggested" for the time before OPEN.
LARGE_HOLD = 240.0
#: How long a connection waits for the neighbour's OPEN while another one is further.
DELAY_OPEN = 5.0
#: RFC 9687 3: "the greater of: 8 minutes, 2 times the negotiated HoldTime".
SEND_HOLD = 480.0
#: A session that lived so long was none of the failures that are to be damped.
LASTED = 10.0

# RFC 6608 4.
_UNEXPECTED = {SessionState.OPENSENT: 1, SessionState.OPENCONFIRM: 2, SessionState.ESTABLISHED: 3}
_RECEIVED = (Event.NOTIFICATION, Event.VERSION_ERROR)
# RFC 8538 4: of these reasons for Cease the neighbour should not keep our routes: they go as Hard Reset.
_HARD = (1, 2, 3)
_NO_FAULT = (4, 6, 7)  # a reset, another configuration, a collision


class Admission(Enum):
    """What becomes of a connection on which an OPEN came that would do."""

    NOW = "now"
    LATER = "later"  # another one is preferred, if its OPEN comes
    DUMPED = "dumped"


@dataclass(slots=True)
class Common:
    """What the connections with one neighbour share: its AS, what we offer, and what comes out.

    `admit` is asked about an OPEN that would do, and may dump this or another connection (RFC 4271 6.8).
    """

    asn: int
    ours: Open
    pace: Pace
    admit: Callable[[Machine, Agreement, float], Admission]
    effects: list[Effect] = field(default_factory=list)
    detail: str = ""


@dataclass(slots=True)
class Cause:
    """What the actions of an event have in common; `said`: the NOTIFICATION went out."""

    now: float
    notify: Notify | None = None
    detail: str = ""
    said: bool = False


class Machine:
    """State and timers; the timers are the events of their expiry and when that is."""

    __slots__ = (
        "_cause",
        "agreement",
        "common",
        "local",
        "number",
        "opened",
        "outgoing",
        "postponed",
        "since",
        "state",
        "timers",
    )

    def __init__(self, common: Common, *, outgoing: bool) -> None:
        """Begin idle and without TCP; `number` is the caller's for the TCP connection.

        `opened`: we sent OPEN. `postponed`: what the neighbour's OPEN agreed on, if that is not answered yet.
        """
        self.common = common
        self.outgoing = outgoing
        self.state = SessionState.IDLE
        self.number: int | None = None
        self.local: Address | None = None
        self.timers: dict[Event, float] = {}
        self.agreement: Agreement | None = None
        self.postponed: Agreement | None = None
        self.opened = False
        self.since = 0.0
        self._cause = Cause(0.0)

    # -- events

    def fire(self, event: Event, now: float, notify: Notify | None = None, detail: str = "") -> None:
        """Let an event happen. `notify` is what it makes us say, or what the neighbour said."""
        before = self.state
        actions, self.state = TABLE[before][event]
        if Action.NOTIFY_FSM_ERROR in actions:
            notify = Notify(FSM_ERROR, _UNEXPECTED[before])
        self._cause = Cause(now, self._hardened(notify) if Action.NOTIFY in actions else notify, detail)
        if notify is not None:
            received = event in (Event.NOTIFICATION, Event.VERSION_ERROR)
            self._cause.detail = f"{'received' if received else 'sent'}: {notify}"
        # Who lost a collision is no news: the other connection goes on.
        if self._cause.detail and event is not Event.COLLISION_DUMP:
            self.common.detail = self._cause.detail
        for action in actions:
            self._DO[action](self)

    def expire(self, now: float) -> Event | None:
        """Stop a timer that has expired and return its event."""
        event = min(self.timers, key=self.timers.__getitem__, default=None)
        if event is None or self.timers[event] > now:
            return None
        del self.timers[event]
        return event

    def deadline(self) -> float:
        """Return when the next timer expires."""
        return min(self.timers.values(), default=float("inf"))

    def written(self, octets: int, now: float, *, waiting: bool) -> None:
        """Watch over octets that wait to be sent: something of them must go within the SendHoldTime."""
        hold_time = self.agreement.hold_time if self.agreement is not None else 0
        # RFC 9687 3: stopped if "the negotiated HoldTime value is zero".
        if not waiting or not hold_time:
            self.timers.pop(Event.SEND_HOLD_EXPIRES, None)
        elif octets or Event.SEND_HOLD_EXPIRES not in self.timers:
            self.timers[Event.SEND_HOLD_EXPIRES] = now + max(SEND_HOLD, 2.0 * hold_time)

    # -- actions

    def _hardened(self, notify: Notify | None) -> Notify | None:
        if notify is None or self.agreement is None or not self.agreement.notification:
            return notify
        if notify.code != CEASE or notify.subcode not in _HARD:
            return notify
        # RFC 8538 3.1: the data is the NOTIFICATION that it would have been.
        return Notify(CEASE, HARD_RESET, bytes((notify.code, notify.subcode)) + notify.data, notify.text)

    def _send(self, data: bytes) -> None:
        if self.number is not None:
            self.common.effects.append(Transmit(self.number, data))

    def _send_open(self) -> None:
        self.opened = True
        self._send(encode_open(self.common.ours))

    def _send_keepalive(self) -> None:
        self._send(KEEPALIVE_MESSAGE)

    def _notify(self) -> None:
        if self._cause.notify is not None and self.number is not None:
            self._cause.said = True
            self._send(encode_notification(self._cause.notify))

    def _connect(self) -> None:
        self.common.pace.attempts += 1
        self.common.effects.append(Connect())

    def _drop(self) -> None:
        if self.number is not None:
            self.common.effects.append(Close(self.number))
            self.number = None

    def _release(self) -> None:
        self.timers.clear()
        self.agreement = self.postponed = None
        self.opened = False

    def _establish(self) -> None:
        if self.number is not None and self.agreement is not None:
            self.since = self._cause.now
            self.common.pace.attempts = 0
            self.common.detail = ""
            self.common.effects.append(Up(self.number, self.agreement.established, self.agreement.format))

    def _lose(self) -> None:
        if self._cause.now - self.since >= LASTED:
            self.common.pace.clear()
        self.common.effects.append(Down(self._graceful(), self._cause.detail))

    def _graceful(self) -> bool:
        """Tell whether the session ended as RFC 4724 4.2 or RFC 8538 4 want it."""
        notify = self._cause.notify
        if notify is None:
            return True
        hard = (notify.code, notify.subcode) == (CEASE, HARD_RESET)
        return self.agreement is not None and self.agreement.notification and not hard

    # -- timers and counters

    def _start(self, event: Event, seconds: float) -> None:
        self.timers[event] = self._cause.now + seconds

    def _stop(self, event: Event) -> None:
        self.timers.pop(event, None)

    def _start_connect_retry(self) -> None:
        if self.outgoing:
            self._start(Event.CONNECT_RETRY_EXPIRES, self.common.pace.connect_retry())

    def _start_hold(self) -> None:
        self.restart_hold(self._cause.now)

    def restart_hold(self, now: float) -> None:
        """Note that the neighbour lives."""
        if self.agreement is not None and self.agreement.hold_time:
            self.timers[Event.HOLD_EXPIRES] = now + self.agreement.hold_time
        else:
            self._stop(Event.HOLD_EXPIRES)

    def _start_keepalive(self) -> None:
        if self.agreement is not None and self.agreement.hold_time:
            self._start(Event.KEEPALIVE_EXPIRES, self.agreement.hold_time / 3)

    def _count(self) -> None:
        self.common.pace.errors += 1

    def _damp(self) -> None:
        """Stay away for a while; whom we had to refuse may not come back at once either."""
        wait = self.common.pace.idle_hold()
        if self.outgoing:
            self._start(Event.IDLE_HOLD_EXPIRES, wait)
        if self._cause.said and self._cause.notify is not None and _is_fault(self._cause.notify):
            self.common.pace.held_until = self._cause.now + wait

    _DO: ClassVar[dict[Action, Callable[[Machine], None]]] = {
        Action.CLEAR_COUNTER: lambda self: self.common.pace.clear(),
        Action.COUNT: _count,
        Action.START_CONNECT_RETRY: _start_connect_retry,
        Action.STOP_CONNECT_RETRY: lambda self: self._stop(Event.CONNECT_RETRY_EXPIRES),
        Action.START_DELAY_OPEN: lambda self: self._start(Event.DELAY_OPEN_EXPIRES, DELAY_OPEN),
        Action.STOP_DELAY_OPEN: lambda self: self._stop(Event.DELAY_OPEN_EXPIRES),
        Action.START_LARGE_HOLD: lambda self: self._start(Event.HOLD_EXPIRES, LARGE_HOLD),
        Action.START_HOLD: _start_hold,
        Action.START_KEEPALIVE: _start_keepalive,
        Action.CONNECT: _connect,
        Action.DROP: _drop,
        Action.SEND_OPEN: _send_open,
        Action.SEND_KEEPALIVE: _send_keepalive,
        Action.NOTIFY: _notify,
        Action.NOTIFY_FSM_ERROR: _notify,
        Action.RELEASE: _release,
        Action.DAMP: _damp,
        Action.ESTABLISH: _establish,
        Action.LOSE: _lose,
    }


def _is_fault(notify: Notify) -> bool:
    if notify.code == CEASE:
        return notify.subcode not in _NO_FAULT
    return notify.code not in (HOLD_TIMER_EXPIRED, SEND_HOLD_TIMER_EXPIRED)
