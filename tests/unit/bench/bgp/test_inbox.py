from __future__ import annotations

import pytest

from bench.bgp.exchange import client
from bench.bgp.inbox import Inbox, Recorder, span
from bench.bgp.messages import ALIVE
from bench.bgp.tables import Space, Table, plain, realistic
from bench.feeder import KEEPALIVE
from routing.bgp.values import Family


@pytest.fixture(params=list(Family), ids=lambda family: family.name)
def table(request: pytest.FixtureRequest) -> Table:
    """Make a table of each family."""
    return plain(client(0, request.param), Space(request.param).take(1000))


def test_octets_of_prefixes_are_counted_however_they_arrive(table: Table) -> None:
    """TCP knows no messages."""
    octets = table.ended() + ALIVE
    for step in (1, 7, 4096, len(octets)):
        box = Inbox()
        for start in range(0, len(octets), step):
            box.feed(octets[start : start + step], 1.0)
        assert box.announced == table.octets
        assert box.others == [(KEEPALIVE, b"")]


def test_a_goal_is_reached_when_the_last_octet_comes(table: Table) -> None:
    """Not before, and the time stays."""
    box = Inbox()
    box.expect(table.octets, table.octets)
    box.feed(table.announced(), 1.0)
    assert box.reached is None
    box.feed(table.withdrawn(), 2.0)
    box.feed(ALIVE, 3.0)
    assert box.reached == 2.0


def test_nothing_to_wait_for_is_reached_at_once() -> None:
    """A client that is told nothing holds nobody up."""
    box = Inbox()
    box.expect(0, 0)
    assert box.reached is not None


def test_what_a_server_sends_back_is_counted_apart(table: Table) -> None:
    """It is not what the client waits for."""
    box = Inbox(span(table.prefixes))
    box.feed(table.announced(), 1.0)
    assert (box.announced, box.echoed) == (0, table.octets)


def test_prefixes_of_neighbours_in_the_space_are_no_echo() -> None:
    """Lengths differ, ranges touch."""
    space = Space(Family.IPV4, mixed=True)
    below, own, above = (realistic(client(number, Family.IPV4), space.take(400)) for number in range(3))
    box = Inbox(span(own.prefixes))
    for other in (below, above):
        box.feed(other.announced(), 1.0)
    assert (box.announced, box.echoed) == (below.octets + above.octets, 0)


def test_a_new_connection_begins_with_a_new_message(table: Table) -> None:
    """Half of an UPDATE was lost with the old one."""
    box = Inbox()
    box.feed(table.announced()[:100], 1.0)
    box.forget()
    box.feed(table.announced(), 2.0)
    assert box.announced == table.octets


def test_a_recorder_knows_when_each_prefix_was_last_spoken_of(table: Table) -> None:
    """Withdrawn or announced."""
    box = Recorder()
    box.feed(table.announced(), 1.0)
    box.feed(plain(client(0, table.family), table.prefixes[:10]).withdrawn(), 2.0)
    assert {box.spoken[prefix] for prefix in table.prefixes[:10]} == {2.0}
    assert {box.spoken[prefix] for prefix in table.prefixes[10:]} == {1.0}
    assert set(box.held) == set(table.prefixes[10:])
