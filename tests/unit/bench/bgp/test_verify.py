from __future__ import annotations

import pytest

from bench.bgp.dut import Lack
from bench.bgp.inbox import Recorder
from bench.bgp.messages import announcements
from bench.bgp.verify import attributes, complaint, plot, sent
from routing.bgp.values import Family

NOBODY: frozenset[int] = frozenset()


@pytest.mark.parametrize("family", Family)
def test_what_is_sent_is_recognised_on_arrival(family: Family) -> None:
    """Whatever stands where in either family."""
    for path, prefixes in plot(family, frozenset()).tables[0].groups:
        box = Recorder()
        box.feed(announcements(path, prefixes), 1.0)
        assert (
            complaint({prefix: sent(path) for prefix in prefixes}, {p: attributes(o) for p, o in box.held.items()})
            == ""
        )


def test_the_announcer_of_the_best_gets_the_second_best() -> None:
    """RFC 7947 2.3.1; not from a server that is known not to."""
    story = plot(Family.IPV4, frozenset())
    shared = story.shared[0].prefixes
    expected = [story.expected(number, NOBODY, NOBODY, frozenset()) for number in range(3)]
    far, near = (sent(story.shared[number].groups[0][0]) for number in (1, 0))
    assert [said[shared[0]] for said in expected] == [far, near, near]
    without = story.expected(0, NOBODY, NOBODY, frozenset({Lack.SECOND}))
    assert shared[0] not in without


def test_who_leaves_or_withdraws_leaves_the_longer_way() -> None:
    """Everybody changes, and the second announcer holds none."""
    story = plot(Family.IPV4, frozenset())
    shared, far = story.shared[0].prefixes[0], sent(story.shared[1].groups[0][0])
    for gone, withdrew in ((frozenset({0}), NOBODY), (NOBODY, frozenset({0}))):
        assert story.expected(2, gone, withdrew, frozenset())[shared] == far
        assert shared not in story.expected(1, gone, withdrew, frozenset())


def test_what_is_hidden_from_a_client_is_not_expected_there() -> None:
    """And from nobody where that cannot be said."""
    story = plot(Family.IPV4, frozenset())
    hidden = story.tables[0].prefixes[0]
    assert hidden not in story.expected(3, NOBODY, NOBODY, frozenset())
    assert hidden in story.expected(2, NOBODY, NOBODY, frozenset())
    assert hidden in plot(Family.IPV4, frozenset({Lack.HIDDEN})).expected(3, NOBODY, NOBODY, frozenset())


def test_a_complaint_counts_each_kind() -> None:
    """Missing, foreign, changed."""
    one, other = {1: b"\0"}, {1: b"\2"}
    assert (
        complaint({b"a": one, b"b": one}, {b"b": other, b"c": one}) == "1 missing, 1 foreign, 1 changed, attributes [1]"
    )
    assert complaint({b"a": one}, {b"a": one}) == ""
