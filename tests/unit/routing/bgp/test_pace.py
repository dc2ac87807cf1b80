from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from routing.bgp.pace import LONGEST_CONNECT_RETRY, LONGEST_IDLE_HOLD, Pace

ADDRESSES = [IPv4Address("192.0.2.0") + number for number in range(256)]


def test_attempts_come_ever_more_seldom_up_to_a_bound() -> None:
    """The first is soon, each next one takes twice as long, none more than the longest."""
    pace = Pace(ADDRESSES[1])
    waits = []
    for pace.attempts in range(50):
        waits.append(pace.connect_retry())
        assert pace.connect_retry() == waits[-1]
    assert 1.5 <= waits[0] == waits[1] <= 2
    assert waits[2] == pytest.approx(2 * waits[1])
    assert waits == sorted(waits)
    assert 0.75 * LONGEST_CONNECT_RETRY <= waits[-1] <= LONGEST_CONNECT_RETRY


def test_errors_keep_idle_ever_longer_up_to_a_bound() -> None:
    """Asked twice about the same number of errors, it says the same."""
    pace = Pace(ADDRESSES[1])
    waits = []
    for errors in range(100):
        pace.errors = errors
        waits.append(pace.idle_hold())
        assert pace.idle_hold() == waits[-1]
    assert waits[0] == waits[1] <= 1
    assert waits == sorted(waits)
    assert waits[-1] <= LONGEST_IDLE_HOLD


def test_neighbours_do_not_come_all_at_once() -> None:
    """Each has a wait of its own, the same each time, within the jitter of RFC 4271 10."""
    waits = [Pace(address).connect_retry() for address in ADDRESSES]
    assert waits == [Pace(address).connect_retry() for address in ADDRESSES]
    assert len(set(waits)) > 250
    assert 1.5 <= min(waits) < 1.6
    assert 1.9 < max(waits) <= 2


def test_a_fresh_start_forgets_failures() -> None:
    """Cleared, it is as new."""
    pace = Pace(ADDRESSES[1])
    first = pace.connect_retry(), pace.idle_hold()
    pace.attempts, pace.errors = 3, 9
    pace.held_until = 5.0 + pace.idle_hold()
    pace.clear()
    assert (pace.connect_retry(), pace.idle_hold()) == first
    assert pace.held_until is None
