from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from routing.engines.native.deadlines import Deadlines


def noted(*some: tuple[str, float | None]) -> Deadlines[str]:
    """Note one after another."""
    made: Deadlines[str] = Deadlines()
    for key, due in some:
        made.note(key, due)
    return made


def test_without_keys_nobody_is_woken() -> None:
    """None, and nothing to take."""
    assert noted(("a", None)).next() is None
    assert noted().take(1e9) == []


def test_those_who_are_due_come_in_the_order_of_their_time() -> None:
    """Each once; one that is due at the very moment is due, the others stay."""
    made = noted(("c", 3), ("a", 1), ("b", 2), ("d", 3.5))
    assert made.next() == 1
    assert made.take(3) == ["a", "b", "c"]
    assert (made.next(), made.take(3)) == (3.5, [])


def test_those_who_are_due_at_once_come_in_the_order_they_were_noted() -> None:
    """Keys need no order of their own."""
    made: Deadlines[object] = Deadlines()
    keys: list[object] = [object() for _ in range(5)]
    for key in keys:
        made.note(key, 7)
    assert made.take(7) == keys


def test_a_deadline_that_moves_earlier_counts_at_once() -> None:
    """And only once, although the later one was noted as well."""
    made = noted(("a", 9), ("a", 4))
    assert made.next() == 4
    assert made.take(20) == ["a"]
    assert (made.next(), made.take(20)) == (None, [])


def test_a_deadline_that_moves_later_or_goes_is_found_out_when_it_comes() -> None:
    """Its owner is woken at the old time, and says then when it wants to be woken."""
    made = noted(("a", 4), ("a", 9), ("b", 5), ("b", None))
    assert made.take(5) == ["a", "b"]
    made.note("a", 9)
    assert (made.next(), made.take(8), made.take(9)) == (9, [], ["a"])


def test_moving_a_deadline_later_again_and_again_keeps_nothing() -> None:
    """As the hold timer of a busy session does with every message."""
    made = noted(*(("a", float(due)) for due in range(1000)))
    assert len(made._heap) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30)), max_size=40))
def test_nobody_is_woken_late_and_each_sleeps_as_it_said_last(steps: list[tuple[int, int]]) -> None:
    """Who is woken too early, and notes again what it wants, is woken at the right time and at no other."""
    made: Deadlines[int] = Deadlines()
    wanted: dict[int, float] = {}
    for now, (key, after) in enumerate(steps):
        for woken in made.take(now):
            assert wanted[woken] >= now
            if wanted[woken] == now:
                del wanted[woken]
            made.note(woken, wanted.get(woken))
        assert all(due > now for due in wanted.values())
        wanted[key] = now + after
        made.note(key, wanted[key])
    assert (made.next() is None) == (not wanted)
