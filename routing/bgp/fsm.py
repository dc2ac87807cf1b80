"""The finite state machine of RFC 4271 8 as a table: state x event -> actions, next state.

`routing.bgp.connection` looks up and does the actions; `routing.bgp.peering` decides which machines there are. To be
read beside 8.2.2 of the RFC, state by state; "any other event" stands last in each. Beyond it: Cease with a reason (RFC
4486, 9003), subcodes of the FSM error (RFC 6608), ROUTE-REFRESH (RFC 2918, 7313), the send hold timer (RFC 9687).

There is a machine for each connection (8.2.1), one that connects and one for each connection that the neighbour makes.
So a second connection "is tracked until it sends an OPEN" in a machine of its own: events 16 and 17 do nothing once there
is a connection. Attributes of the RFC that are fixed: DampPeerOscillations, CollisionDetectEstablishedState and
SendNOTIFICATIONwithoutOPEN are true. DelayOpen depends on what else is going on, so it is part of the event.

Where the table differs from the text, on purpose:

- Connect, event 18: to Active, as with a running DelayOpenTimer. The neighbour may still come, and we try again.
- OpenSent, event 25: no NOTIFICATION is answered with another (6.4 forbids what 8.2.2 asks for).
- OpenConfirm, event 19 and 20: in the RFC the OPEN of the other connection; on the same connection it is an FSM error.
- Established, event 21: the neighbour is told which header was bad rather than "FSM error".

Processing an UPDATE (event 27) is the caller's; there are so many of them that they do not even come by here.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import NamedTuple

from routing.engines.engine import SessionState


class Event(IntEnum):
    """Events under their number in RFC 4271 8.1 and RFC 9687; from 100 those that the RFCs do not number."""

    MANUAL_START = 1
    MANUAL_STOP = 2
    MANUAL_START_PASSIVE = 4  # ManualStart_with_PassiveTcpEstablishment
    AUTOMATIC_STOP = 8
    CONNECT_RETRY_EXPIRES = 9
    HOLD_EXPIRES = 10
    KEEPALIVE_EXPIRES = 11
    DELAY_OPEN_EXPIRES = 12
    IDLE_HOLD_EXPIRES = 13
    TCP_ACKED = 16  # Tcp_CR_Acked: the neighbour accepted our connection
    TCP_CONFIRMED = 17  # TcpConnectionConfirmed: we accepted the neighbour's
    TCP_FAILS = 18
    OPEN = 19
    DELAYED_OPEN = 20  # BGPOpen with DelayOpenTimer running
    HEADER_ERROR = 21
    OPEN_ERROR = 22
    COLLISION_DUMP = 23  # OpenCollisionDump
    VERSION_ERROR = 24  # NotifMsgVerErr
    NOTIFICATION = 25
    KEEPALIVE = 26
    UPDATE = 27
    UPDATE_ERROR = 28
    SEND_HOLD_EXPIRES = 29
    TCP_ACKED_DELAY = 116  # 16 and 17 with the attribute DelayOpen
    TCP_CONFIRMED_DELAY = 117
    REFRESH = 130  # ROUTE-REFRESH
    REFRESH_ERROR = 131


class Action(Enum):
    """What the local system does, in the RFC's words where it has them."""

    CLEAR_COUNTER = auto()  # sets ConnectRetryCounter to zero
    COUNT = auto()  # increments ConnectRetryCounter by 1
    START_CONNECT_RETRY = auto()
    STOP_CONNECT_RETRY = auto()
    START_DELAY_OPEN = auto()
    STOP_DELAY_OPEN = auto()
    START_LARGE_HOLD = auto()  # sets the HoldTimer to a large value
    START_HOLD = auto()  # sets the HoldTimer to the negotiated value
    START_KEEPALIVE = auto()
    CONNECT = auto()  # initiates a TCP connection to the other BGP peer
    DROP = auto()  # drops the TCP connection, if there is one
    SEND_OPEN = auto()
    SEND_KEEPALIVE = auto()
    NOTIFY = auto()  # sends the NOTIFICATION that comes with the event
    NOTIFY_FSM_ERROR = auto()  # sends a NOTIFICATION with the code Finite State Machine Error
    RELEASE = auto()  # stops all timers and releases all BGP resources
    DAMP = auto()  # performs peer oscillation damping: starts the IdleHoldTimer
    ESTABLISH = auto()  # the session is there
    LOSE = auto()  # the session is lost: deletes all routes, or keeps them for a while (RFC 4724 4.2)


class Step(NamedTuple):
    """One cell of the table."""

    actions: tuple[Action, ...]
    state: SessionState


_A = Action
_E = Event
_IDLE, _CONNECT, _ACTIVE = SessionState.IDLE, SessionState.CONNECT, SessionState.ACTIVE
_OPENSENT, _OPENCONFIRM, _ESTABLISHED = SessionState.OPENSENT, SessionState.OPENCONFIRM, SessionState.ESTABLISHED

_STARTS = (_E.MANUAL_START, _E.MANUAL_START_PASSIVE)
_STOPS = (_E.AUTOMATIC_STOP, _E.COLLISION_DUMP)
_CONNECTED = (_E.TCP_ACKED, _E.TCP_CONFIRMED)
_CONNECTED_DELAY = (_E.TCP_ACKED_DELAY, _E.TCP_CONFIRMED_DELAY)
_TRACKED = (*_CONNECTED, *_CONNECTED_DELAY)

# Ways to end, in the order of the RFC's text.
_STOP = (_A.NOTIFY, _A.RELEASE, _A.DROP, _A.CLEAR_COUNTER)
_FAIL = (_A.RELEASE, _A.DROP, _A.COUNT, _A.DAMP)
_FAIL_SAYING = (_A.NOTIFY, *_FAIL)
_FAIL_FSM = (_A.NOTIFY_FSM_ERROR, *_FAIL)
# An older version is no oscillation: the neighbour comes again with ours (8.2.2, event 24).
_FAIL_VERSION = (_A.RELEASE, _A.DROP, _A.DAMP)

_SEND_OPEN = (_A.STOP_CONNECT_RETRY, _A.STOP_DELAY_OPEN, _A.SEND_OPEN, _A.START_LARGE_HOLD)
_CONFIRM = (_A.SEND_KEEPALIVE, _A.START_KEEPALIVE, _A.START_HOLD)


def _row(
    cells: dict[tuple[Event, ...], Step],
    *,
    ignored: tuple[Event, ...],
    state: SessionState,
    others: tuple[Action, ...],
) -> dict[Event, Step]:
    """Make the row of `state`: its cells, what it ignores, and Idle by `others` for any other event."""
    row = {event: Step(others, _IDLE) for event in Event}
    row |= {event: Step((), state) for event in ignored}
    row |= {event: step for events, step in cells.items() for event in events}
    return row


_IN_IDLE = _row(
    {
        (_E.MANUAL_START,): Step((_A.CLEAR_COUNTER, _A.START_CONNECT_RETRY, _A.CONNECT), _CONNECT),
        # No ConnectRetryTimer: who is passive stays so.
        (_E.MANUAL_START_PASSIVE,): Step((), _ACTIVE),
        (_E.IDLE_HOLD_EXPIRES,): Step((_A.START_CONNECT_RETRY, _A.CONNECT), _CONNECT),
    },
    ignored=tuple(Event),
    state=_IDLE,
    others=(),
)

# Connect and Active differ in whose connection is awaited, and in what a failed one costs.
_AWAITING: dict[tuple[Event, ...], Step] = {
    (_E.MANUAL_STOP,): Step(_STOP, _IDLE),
    (_E.DELAY_OPEN_EXPIRES,): Step(_SEND_OPEN, _OPENSENT),
    _CONNECTED: Step(_SEND_OPEN, _OPENSENT),
    (_E.DELAYED_OPEN,): Step(
        (_A.STOP_CONNECT_RETRY, _A.STOP_DELAY_OPEN, _A.SEND_OPEN, *_CONFIRM),
        _OPENCONFIRM,
    ),
    (_E.HEADER_ERROR, _E.OPEN_ERROR, *_STOPS): Step(_FAIL_SAYING, _IDLE),
    (_E.VERSION_ERROR,): Step(_FAIL_VERSION, _IDLE),
}
_DELAY = (_A.STOP_CONNECT_RETRY, _A.START_DELAY_OPEN)

_IN_CONNECT = _row(
    {
        **_AWAITING,
        (_E.CONNECT_RETRY_EXPIRES,): Step(
            (_A.DROP, _A.START_CONNECT_RETRY, _A.STOP_DELAY_OPEN, _A.CONNECT),
            _CONNECT,
        ),
        _CONNECTED_DELAY: Step(_DELAY, _CONNECT),
        (_E.TCP_FAILS,): Step((_A.STOP_DELAY_OPEN, _A.DROP, _A.START_CONNECT_RETRY), _ACTIVE),
    },
    ignored=_STARTS,
    state=_CONNECT,
    others=_FAIL,
)

_IN_ACTIVE = _row(
    {
        **_AWAITING,
        (_E.CONNECT_RETRY_EXPIRES,): Step((_A.START_CONNECT_RETRY, _A.CONNECT), _CONNECT),
        _CONNECTED_DELAY: Step(_DELAY, _ACTIVE),
    },
    ignored=_STARTS,
    state=_ACTIVE,
    others=_FAIL,
)

_IN_OPENSENT = _row(
    {
        (_E.MANUAL_STOP,): Step(_STOP, _IDLE),
        (*_STOPS, _E.HOLD_EXPIRES, _E.HEADER_ERROR, _E.OPEN_ERROR): Step(_FAIL_SAYING, _IDLE),
        (_E.TCP_FAILS,): Step((_A.RELEASE, _A.DROP, _A.START_CONNECT_RETRY), _ACTIVE),
        (_E.OPEN,): Step((_A.STOP_DELAY_OPEN, _A.STOP_CONNECT_RETRY, *_CONFIRM), _OPENCONFIRM),
        (_E.VERSION_ERROR,): Step(_FAIL_VERSION, _IDLE),
        (_E.NOTIFICATION,): Step(_FAIL, _IDLE),
    },
    ignored=(*_STARTS, *_TRACKED),
    state=_OPENSENT,
    others=_FAIL_FSM,
)

_IN_OPENCONFIRM = _row(
    {
        (_E.MANUAL_STOP,): Step(_STOP, _IDLE),
        (*_STOPS, _E.HOLD_EXPIRES, _E.SEND_HOLD_EXPIRES): Step(_FAIL_SAYING, _IDLE),
        (_E.HEADER_ERROR, _E.OPEN_ERROR): Step(_FAIL_SAYING, _IDLE),
        (_E.KEEPALIVE_EXPIRES,): Step((_A.SEND_KEEPALIVE, _A.START_KEEPALIVE), _OPENCONFIRM),
        (_E.TCP_FAILS, _E.NOTIFICATION): Step(_FAIL, _IDLE),
        (_E.VERSION_ERROR,): Step(_FAIL_VERSION, _IDLE),
        (_E.KEEPALIVE,): Step((_A.START_HOLD, _A.ESTABLISH), _ESTABLISHED),
    },
    ignored=(*_STARTS, *_TRACKED),
    state=_OPENCONFIRM,
    others=_FAIL_FSM,
)

_IN_ESTABLISHED = _row(
    {
        (_E.MANUAL_STOP,): Step((_A.NOTIFY, _A.LOSE, _A.RELEASE, _A.DROP, _A.CLEAR_COUNTER), _IDLE),
        (*_STOPS, _E.HOLD_EXPIRES, _E.SEND_HOLD_EXPIRES): Step((_A.NOTIFY, _A.LOSE, *_FAIL), _IDLE),
        (_E.HEADER_ERROR, _E.UPDATE_ERROR, _E.REFRESH_ERROR): Step((_A.NOTIFY, _A.LOSE, *_FAIL), _IDLE),
        (_E.KEEPALIVE_EXPIRES,): Step((_A.SEND_KEEPALIVE, _A.START_KEEPALIVE), _ESTABLISHED),
        (_E.TCP_FAILS, _E.VERSION_ERROR, _E.NOTIFICATION): Step((_A.LOSE, *_FAIL), _IDLE),
        (_E.KEEPALIVE, _E.UPDATE, _E.REFRESH): Step((_A.START_HOLD,), _ESTABLISHED),
    },
    ignored=(*_STARTS, *_TRACKED),
    state=_ESTABLISHED,
    others=(_A.NOTIFY_FSM_ERROR, _A.LOSE, *_FAIL),
)

TABLE: dict[SessionState, dict[Event, Step]] = {
    _IDLE: _IN_IDLE,
    _CONNECT: _IN_CONNECT,
    _ACTIVE: _IN_ACTIVE,
    _OPENSENT: _IN_OPENSENT,
    _OPENCONFIRM: _IN_OPENCONFIRM,
    _ESTABLISHED: _IN_ESTABLISHED,
}
