from __future__ import annotations

import pytest

from routing.bgp.fsm import TABLE, Action, Event, Step
from routing.engines.engine import SessionState

# Next states as RFC 4271 8.2.2 has them, read off its text; columns are the states in its order.
LETTERS = dict(zip("ICASOE", SessionState, strict=True))
EXPECTED = """
    MANUAL_START           C C A S O E
    MANUAL_STOP            I I I I I I
    MANUAL_START_PASSIVE   A C A S O E
    AUTOMATIC_STOP         I I I I I I
    CONNECT_RETRY_EXPIRES  I C C I I I
    HOLD_EXPIRES           I I I I I I
    KEEPALIVE_EXPIRES      I I I I O E
    DELAY_OPEN_EXPIRES     I S S I I I
    IDLE_HOLD_EXPIRES      C I I I I I
    TCP_ACKED              I S S S O E
    TCP_CONFIRMED          I S S S O E
    TCP_FAILS              I A I A I I
    OPEN                   I I I O I I
    DELAYED_OPEN           I O O I I I
    HEADER_ERROR           I I I I I I
    OPEN_ERROR             I I I I I I
    COLLISION_DUMP         I I I I I I
    VERSION_ERROR          I I I I I I
    NOTIFICATION           I I I I I I
    KEEPALIVE              I I I I E E
    UPDATE                 I I I I I E
    UPDATE_ERROR           I I I I I I
    SEND_HOLD_EXPIRES      I I I I I I
    TCP_ACKED_DELAY        I C A S O E
    TCP_CONFIRMED_DELAY    I C A S O E
    REFRESH                I I I I I E
    REFRESH_ERROR          I I I I I I
"""
NEXT = {
    (state, Event[name]): LETTERS[letter]
    for name, *letters in map(str.split, EXPECTED.strip().splitlines())
    for state, letter in zip(SessionState, letters, strict=True)
}
CELLS = [(state, event) for state in SessionState for event in Event]
RECEIVED = {Event.NOTIFICATION, Event.VERSION_ERROR}
# What says something and then fails, beyond FSM errors.
SAYING = {
    SessionState.OPENSENT: "MANUAL_STOP AUTOMATIC_STOP COLLISION_DUMP HOLD_EXPIRES HEADER_ERROR OPEN_ERROR",
    SessionState.OPENCONFIRM: "MANUAL_STOP AUTOMATIC_STOP COLLISION_DUMP HOLD_EXPIRES HEADER_ERROR OPEN_ERROR "
    "SEND_HOLD_EXPIRES",
    SessionState.ESTABLISHED: "MANUAL_STOP AUTOMATIC_STOP COLLISION_DUMP HOLD_EXPIRES HEADER_ERROR UPDATE_ERROR "
    "SEND_HOLD_EXPIRES REFRESH_ERROR",
}


def cell(state: SessionState, event: Event) -> Step:
    """Look a cell up."""
    return TABLE[state][event]


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda value: value.name)
def test_every_cell_leads_where_the_rfc_says(state: SessionState, event: Event) -> None:
    """The table has no hole, and each next state is that of the text."""
    assert cell(state, event).state is NEXT[state, event]


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda value: value.name)
def test_every_cell_does_what_its_transition_needs(state: SessionState, event: Event) -> None:
    """Sessions are told of when they come and go; nobody falls to Idle with a connection or a timer."""
    actions, after = cell(state, event)
    established = SessionState.ESTABLISHED
    assert (Action.ESTABLISH in actions) == (after is established is not state)
    assert (Action.LOSE in actions) == (state is established is not after)
    assert (Action.SEND_OPEN in actions) == (
        state in (SessionState.CONNECT, SessionState.ACTIVE)
        and after in (SessionState.OPENSENT, SessionState.OPENCONFIRM)
    )
    if after is SessionState.IDLE and state is not SessionState.IDLE:
        assert {Action.RELEASE, Action.DROP} <= set(actions)
        manual, version = event is Event.MANUAL_STOP, event is Event.VERSION_ERROR
        assert (Action.CLEAR_COUNTER in actions) == manual
        assert (Action.DAMP in actions) == (not manual)
        assert (Action.COUNT in actions) == (not manual and (not version or state is established))
    if after is SessionState.OPENSENT is not state:
        assert Action.START_LARGE_HOLD in actions
    if after is SessionState.OPENCONFIRM is not state:
        assert {Action.SEND_KEEPALIVE, Action.START_KEEPALIVE, Action.START_HOLD} <= set(actions)


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda value: value.name)
def test_every_cell_says_why_it_ends_and_answers_no_notification(state: SessionState, event: Event) -> None:
    """From OpenSent on what ends a connection is said, before it is dropped, unless nobody hears or asked."""
    actions, after = cell(state, event)
    spoken = [action for action in actions if action in (Action.NOTIFY, Action.NOTIFY_FSM_ERROR)]
    assert len(spoken) <= 1
    if event in RECEIVED or event is Event.TCP_FAILS:
        assert not spoken
    elif state in SAYING and after is SessionState.IDLE:
        named = event.name in SAYING[state].split()
        assert spoken == [Action.NOTIFY if named else Action.NOTIFY_FSM_ERROR]
    if spoken:
        assert actions.index(spoken[0]) < actions.index(Action.DROP)


@pytest.mark.parametrize("event", [event for event in Event if NEXT[SessionState.IDLE, event] is SessionState.IDLE])
def test_idle_does_nothing_but_start(event: Event) -> None:
    """No other event does anything there."""
    assert cell(SessionState.IDLE, event).actions == ()


def test_an_attempt_that_failed_is_repeated() -> None:
    """In Connect and Active the expiry of ConnectRetryTimer connects, and the timer runs again."""
    for state in (SessionState.CONNECT, SessionState.ACTIVE):
        actions = cell(state, Event.CONNECT_RETRY_EXPIRES).actions
        assert {Action.CONNECT, Action.START_CONNECT_RETRY} <= set(actions)
    assert Action.START_CONNECT_RETRY in cell(SessionState.CONNECT, Event.TCP_FAILS).actions
    assert Action.START_CONNECT_RETRY in cell(SessionState.OPENSENT, Event.TCP_FAILS).actions
