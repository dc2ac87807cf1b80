from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from routing.bgp.collision import PATIENCE, admit, dump
from routing.bgp.effects import Close, Down, Transmit
from routing.bgp.fsm import Event
from routing.bgp.machine import LASTED, Admission, Common, Machine
from routing.bgp.messages import Notify, Restart, encode_notification
from routing.bgp.negotiation import Agreement, agree, offer
from routing.bgp.pace import Pace
from routing.bgp.values import Mode, Neighbor, Speaker
from routing.engines.engine import SessionState

LOCAL, REMOTE = IPv4Address("192.0.2.254"), IPv4Address("192.0.2.1")
OURS = offer(Neighbor("n", 65001, REMOTE), Speaker("s", Mode.ROUTER, 65000, LOCAL, (LOCAL,)))
THEIRS = offer(Neighbor("n", 65000, LOCAL), Speaker("t", Mode.ROUTER, 65001, REMOTE, (REMOTE,)))
AGREED = agree(OURS, THEIRS, 65001, LOCAL)
RESTARTED = agree(OURS, replace(THEIRS, restart=Restart(120, restarting=True)), 65001, LOCAL)
UNHELPED = agree(OURS, replace(THEIRS, restart=None), 65001, LOCAL)
DUMPED = encode_notification(Notify(6, 7))


def machine(state: SessionState, *, outgoing: bool, agreement: Agreement = AGREED, now: float = 0) -> Machine:
    """Make a connection (1 if we made it, else 2) and bring it to a state; Active: it waits for OPEN."""
    made = Machine(Common(65001, OURS, Pace(REMOTE), lambda *_: Admission.NOW), outgoing=outgoing)
    made.fire(Event.MANUAL_START_PASSIVE, now)
    made.number, made.local, made.since = 1 if outgoing else 2, LOCAL, now
    made.fire(Event.TCP_CONFIRMED_DELAY if state is SessionState.ACTIVE else Event.TCP_CONFIRMED, now)
    if state in (SessionState.OPENCONFIRM, SessionState.ESTABLISHED):
        made.agreement = agreement
        made.fire(Event.OPEN, now)
    if state is SessionState.ESTABLISHED:
        made.fire(Event.KEEPALIVE, now)
    assert made.state is state
    made.common.effects.clear()
    return made


def is_dumped(made: Machine) -> bool:
    """Tell whether the neighbour was told of the collision."""
    return made.common.effects[:1] == [Transmit(1 if made.outgoing else 2, DUMPED)] and made.number is None


def test_one_alone_goes_on() -> None:
    """Also besides an attempt that has not got anywhere."""
    one = machine(SessionState.OPENSENT, outgoing=False)
    attempt = Machine(one.common, outgoing=True)
    attempt.fire(Event.MANUAL_START, 0)
    for rivals in ([], [attempt]):
        assert admit(one, rivals, True, AGREED, 0) is Admission.NOW
    assert attempt.state is SessionState.CONNECT


@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("before", [SessionState.OPENCONFIRM, SessionState.ESTABLISHED])
def test_the_one_of_the_higher_identifier_is_kept(*, outgoing: bool, ours: bool, before: SessionState) -> None:
    """Whatever the other one has become meanwhile."""
    newcomer, rival = machine(SessionState.OPENSENT, outgoing=outgoing), machine(before, outgoing=not outgoing)
    wins = outgoing == ours
    assert admit(newcomer, [rival], ours, AGREED, 1) is (Admission.NOW if wins else Admission.DUMPED)
    assert is_dumped(rival) == (wins and before is SessionState.OPENCONFIRM) or before is SessionState.ESTABLISHED
    assert (rival.number is None) == wins
    assert is_dumped(newcomer) == (not wins)


def test_the_other_one_waits_while_the_preferred_one_may_come() -> None:
    """With a timer that bounds it; the preferred one does not wait, and ends the waiting one."""
    preferred, other = machine(SessionState.OPENSENT, outgoing=True), machine(SessionState.OPENSENT, outgoing=False)
    assert admit(other, [preferred], True, AGREED, 1) is Admission.LATER
    assert other.timers[Event.DELAY_OPEN_EXPIRES] == 1 + PATIENCE
    other.postponed = AGREED
    assert admit(preferred, [other], True, AGREED, 2) is Admission.NOW
    assert is_dumped(other)


@pytest.mark.parametrize(
    ("session", "newcomer", "since", "replaced"),
    [
        (AGREED, RESTARTED, 1, True),
        (AGREED, AGREED, LASTED, True),
        (AGREED, AGREED, LASTED - 1, False),
        (RESTARTED, RESTARTED, LASTED - 1, False),
        (RESTARTED, RESTARTED, LASTED, True),
        (UNHELPED, UNHELPED, LASTED, False),
        (UNHELPED, RESTARTED, LASTED, False),
    ],
)
def test_a_newcomer_replaces_a_session_only_if_the_neighbour_restarted(
    session: Agreement, newcomer: Agreement, since: float, *, replaced: bool
) -> None:
    """It says so, or the session was no part of the same beginning; and restarting was agreed on (RFC 4724 5)."""
    old = machine(SessionState.ESTABLISHED, outgoing=False, agreement=session)
    new = machine(SessionState.ACTIVE, outgoing=False, now=since)
    assert admit(new, [old], True, newcomer, since) is (Admission.NOW if replaced else Admission.DUMPED)
    assert old.common.effects == (
        [Down(graceful=True, detail="the neighbour came again"), Close(2)] if replaced else []
    )
    assert is_dumped(new) == (not replaced)


def test_a_dumped_connection_is_told_why() -> None:
    """Cease, Connection Collision Resolution; then it is closed."""
    made = machine(SessionState.OPENCONFIRM, outgoing=True)
    dump(made, 0)
    assert made.common.effects == [Transmit(1, DUMPED), Close(1)]
