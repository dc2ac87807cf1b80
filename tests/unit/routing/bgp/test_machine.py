from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from routing.bgp.effects import Close, Connect, Down, Transmit, Up
from routing.bgp.fsm import TABLE, Action, Event
from routing.bgp.machine import LARGE_HOLD, LASTED, SEND_HOLD, Admission, Common, Machine
from routing.bgp.messages import KEEPALIVE_MESSAGE, Notify, decode_notification, encode_open
from routing.bgp.negotiation import agree, offer
from routing.bgp.pace import Pace
from routing.bgp.values import Mode, Neighbor, Speaker
from routing.engines.engine import SessionState

LOCAL, REMOTE = IPv4Address("192.0.2.254"), IPv4Address("192.0.2.1")
OURS = offer(Neighbor("n", 65001, REMOTE), Speaker("s", Mode.ROUTER, 65000, LOCAL, (LOCAL,)))
THEIRS = offer(Neighbor("n", 65000, LOCAL), Speaker("t", Mode.ROUTER, 65001, REMOTE, (REMOTE,)))
AGREED = agree(OURS, THEIRS, 65001, LOCAL)
TCP = 5


def machine(*, outgoing: bool = True) -> Machine:
    """Make one that has done nothing yet."""
    return Machine(Common(65001, OURS, Pace(REMOTE), lambda *_: Admission.NOW), outgoing=outgoing)


def opened(*, outgoing: bool = True) -> Machine:
    """Make one that has sent OPEN at second 0, and forget its effects."""
    made = machine(outgoing=outgoing)
    made.fire(Event.MANUAL_START if outgoing else Event.MANUAL_START_PASSIVE, 0)
    made.number, made.local = TCP, LOCAL
    made.fire(Event.TCP_ACKED if outgoing else Event.TCP_CONFIRMED, 0)
    made.common.effects.clear()
    return made


def established(*, outgoing: bool = True) -> Machine:
    """Make one with a session since second 0."""
    made = opened(outgoing=outgoing)
    made.agreement = AGREED
    made.fire(Event.OPEN, 0)
    made.fire(Event.KEEPALIVE, 0)
    made.common.effects.clear()
    return made


def said(made: Machine) -> list[Notify]:
    """Read the NOTIFICATIONs that were sent."""
    sent = [effect.data for effect in made.common.effects if isinstance(effect, Transmit)]
    return [decode_notification(data[19:]) for data in sent if data[18] == 3]


def test_every_action_is_known() -> None:
    """Nothing in the table is left undone."""
    assert {action for row in TABLE.values() for step in row.values() for action in step.actions} <= set(Machine._DO)
    assert set(Machine._DO) == set(Action)


def test_the_way_up() -> None:
    """Connect, OPEN, KEEPALIVE, and the session is told of."""
    made = machine()
    made.fire(Event.MANUAL_START, 0)
    assert made.common.effects == [Connect()]
    made.number, made.local = TCP, LOCAL
    made.fire(Event.TCP_ACKED, 1)
    made.agreement = AGREED
    made.fire(Event.OPEN, 2)
    made.fire(Event.KEEPALIVE, 3)
    assert made.common.effects[1:] == [
        Transmit(TCP, encode_open(OURS)),
        Transmit(TCP, KEEPALIVE_MESSAGE),
        Up(TCP, AGREED.established, AGREED.format),
    ]
    assert (made.state, made.since) == (SessionState.ESTABLISHED, 3)
    assert made.timers == {Event.HOLD_EXPIRES: 3 + 90, Event.KEEPALIVE_EXPIRES: 2 + 30}
    assert made.deadline() == 32


def test_who_does_not_say_open_is_waited_for_for_a_long_time() -> None:
    """Four minutes."""
    assert opened().timers == {Event.HOLD_EXPIRES: LARGE_HOLD}


def test_an_expired_timer_is_given_once() -> None:
    """The earliest first; what is not due is not given."""
    made = established()
    assert made.expire(29.9) is None
    assert made.expire(90) is Event.KEEPALIVE_EXPIRES
    assert made.expire(90) is Event.HOLD_EXPIRES
    assert made.expire(1000) is None
    assert made.deadline() == float("inf")


def test_a_hold_time_of_zero_runs_no_timer() -> None:
    """RFC 4271 4.2: then nobody sends KEEPALIVE; RFC 9687: nor is sending watched over."""
    made = opened()
    ours = offer(Neighbor("n", 65001, REMOTE, hold_time=0), Speaker("s", Mode.ROUTER, 65000, LOCAL, (LOCAL,)))
    made.agreement = agree(ours, THEIRS, 65001, LOCAL)
    made.fire(Event.OPEN, 0)
    made.fire(Event.KEEPALIVE, 0)
    made.written(5, 0, waiting=True)
    assert made.state is SessionState.ESTABLISHED
    assert made.timers == {}


def test_octets_that_wait_must_move_in_time() -> None:
    """The send hold timer runs while any wait, and begins anew with each that goes."""
    made = established()
    expiry = Event.SEND_HOLD_EXPIRES
    made.written(100, 1, waiting=False)
    assert expiry not in made.timers
    made.written(0, 2, waiting=True)
    made.written(0, 3, waiting=True)
    assert made.timers[expiry] == 2 + SEND_HOLD
    made.written(1, 4, waiting=True)
    assert made.timers[expiry] == 4 + SEND_HOLD
    made.written(0, 5, waiting=False)
    assert expiry not in made.timers


def test_an_end_without_notification_is_graceful() -> None:
    """RFC 4724 4.2: routes may be kept; a connection that is gone is not closed again."""
    made = established()
    made.number = None
    made.fire(Event.TCP_FAILS, 1, detail="reset by peer")
    assert made.common.effects == [Down(graceful=True, detail="reset by peer")]
    assert made.common.detail == "reset by peer"


@pytest.mark.parametrize(
    ("event", "notify", "graceful"),
    [
        (Event.NOTIFICATION, Notify(6, 4), True),
        (Event.NOTIFICATION, Notify(6, 2), True),
        (Event.NOTIFICATION, Notify(6, 9, b"\x06\x02"), False),
        (Event.HOLD_EXPIRES, Notify(4), True),
        (Event.UPDATE_ERROR, Notify(3, 1), True),
        (Event.AUTOMATIC_STOP, Notify(6, 1), False),
        (Event.MANUAL_STOP, Notify(6, 2), False),
        (Event.MANUAL_STOP, Notify(6, 4), True),
    ],
)
@pytest.mark.parametrize("agreed", [True, False])
def test_a_notification_is_graceful_if_both_said_n_and_it_is_not_hard(
    event: Event, notify: Notify, *, graceful: bool, agreed: bool
) -> None:
    """RFC 8538 4; without the N bit every NOTIFICATION costs the routes."""
    made = established()
    assert made.agreement is not None
    if not agreed:
        bare = offer(Neighbor("n", 65000, LOCAL, restart_time=0), Speaker("t", Mode.ROUTER, 65001, REMOTE, (REMOTE,)))
        made.agreement = agree(OURS, bare, 65001, LOCAL)
    made.fire(event, 1, notify)
    (down,) = [effect for effect in made.common.effects if isinstance(effect, Down)]
    assert down.graceful == (graceful and agreed)
    assert down.detail == f"{'received' if event is Event.NOTIFICATION else 'sent'}: {notify}" == made.common.detail


def test_a_cease_that_is_meant_is_a_hard_reset() -> None:
    """RFC 8538 3.1: it stands within the data, and only for those who know."""
    made = established()
    made.fire(Event.MANUAL_STOP, 1, Notify(6, 2, b"\x02hi"))
    assert said(made) == [Notify(6, 9, b"\x06\x02\x02hi")]
    made = opened()
    made.fire(Event.MANUAL_STOP, 1, Notify(6, 2, b"\x02hi"))
    assert said(made) == [Notify(6, 2, b"\x02hi")]


@pytest.mark.parametrize(("state", "subcode"), [("opensent", 1), ("openconfirm", 2), ("established", 3)])
def test_an_unexpected_message_is_answered_with_the_state(state: str, subcode: int) -> None:
    """RFC 6608: the subcode says in which state it came."""
    made = established() if state == "established" else opened()
    if state == "openconfirm":
        made.agreement = AGREED
        made.fire(Event.OPEN, 0)
    made.fire(Event.UPDATE if state != "established" else Event.OPEN, 1)
    assert said(made) == [Notify(5, subcode)]
    assert made.common.effects[-1] == Close(TCP)
    assert made.number is None


def test_a_fault_of_the_neighbour_keeps_it_away_for_a_while() -> None:
    """As long as we wait ourselves; a session that lived was no failure."""
    made = established()
    made.fire(Event.UPDATE_ERROR, LASTED, Notify(3, 1))
    first = made.common.pace.held_until
    assert first is not None
    assert first == made.timers[Event.IDLE_HOLD_EXPIRES]
    assert LASTED < first <= LASTED + 1
    again = established(outgoing=False)
    again.common.pace.errors = 3
    again.fire(Event.UPDATE_ERROR, 1, Notify(3, 1))
    assert again.common.pace.held_until is not None
    assert again.common.pace.held_until > 1 + 4
    assert again.timers == {}


@pytest.mark.parametrize(
    ("event", "notify"),
    [
        (Event.NOTIFICATION, Notify(2, 2)),
        (Event.HOLD_EXPIRES, Notify(4)),
        (Event.COLLISION_DUMP, Notify(6, 7)),
        (Event.TCP_FAILS, None),
    ],
)
def test_what_is_not_its_fault_keeps_nobody_away(event: Event, notify: Notify | None) -> None:
    """Whoever lost us may come back at once."""
    made = established()
    made.fire(event, 1, notify)
    assert made.common.pace.held_until is None
    assert made.timers.keys() == {Event.IDLE_HOLD_EXPIRES}


def test_who_lost_a_collision_is_no_news() -> None:
    """The reason before stays the one that is shown."""
    made = opened()
    made.common.detail = "connection lost"
    made.fire(Event.COLLISION_DUMP, 1, Notify(6, 7))
    assert made.common.detail == "connection lost"
    assert said(made) == [Notify(6, 7)]
