"""What the core is told to be, whom it does not know by name, its end and its beginning; the rest is in `test_core`."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from routing.bgp.capabilities import Restart
from routing.bgp.messages import encode_open
from routing.bgp.routeserver import DEFERRAL
from routing.bgp.values import ExportPolicy, Family, ImportPolicy
from routing.engines.engine import Session, Synced
from routing.engines.native import core as module
from routing.engines.native.core import Dial
from tests.support import fake_core
from tests.support.fake_core import ANY, at, attributes, speaker
from tests.support.parley import BOTH, HELPED, RANGE, Parley, announcement, ends, host, neighbor, parley, said_by

V4, V6 = Family.IPV4, Family.IPV6
P = [ip_network(f"10.0.{n}.0/24") for n in range(8)]


# -- another speaker


def test_a_new_neighbour_is_served_and_a_removed_one_is_told() -> None:
    """Cease, Peer De-configured; its routes are gone."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    talk.say(first, announcement(attributes(1), P[:1]))
    talk.become(speaker(neighbor(2), fake_core.neighbor(3)))
    assert [(notify.code, notify.subcode) for notify in talk.ears[first].notified] == [(6, 3)]
    assert talk.hung == [first]
    assert talk.ears[second].table == {}
    assert talk.dialled == [Dial(at(3), None)]
    assert list(talk.core.peerings) == [at(2), at(3)]
    talk.greet(talk.answer(3))
    assert talk.core.server.established() == (at(2), at(3))


def test_a_neighbour_with_another_as_is_another_one() -> None:
    """The old one is told that it is none; the new one may come at once."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    talk.say(first, announcement(attributes(1), P[:1]))
    talk.become(speaker(neighbor(1, asn=64999), neighbor(2)))
    assert [(notify.code, notify.subcode) for notify in talk.ears[first].notified] == [(6, 3)]
    assert talk.ears[second].table == {}
    again = talk.up(1, asn=64999)
    assert talk.ears[again].open
    assert set(talk.core.server.established()) == {at(1), at(2)}


def test_another_policy_leaves_the_sessions_alone() -> None:
    """What it changes is told."""
    talk = parley(1, 2, 3)
    first, second, third = (talk.up(number) for number in (1, 2, 3))
    talk.say(first, announcement(attributes(1), P[:2]))
    talk.become(
        speaker(
            neighbor(1, imports=ImportPolicy(ANY, max_path_length=1)), neighbor(2, exports=ExportPolicy()), neighbor(3)
        )
    )
    assert talk.hung == []
    assert talk.ears[second].table == {}
    assert talk.ears[third].table == dict.fromkeys(P[:2], attributes(1))
    assert talk.ears[first].open


def test_what_an_open_says_cannot_change_under_a_session() -> None:
    """Cease, Other Configuration Change; the neighbour may come again at once."""
    talk = parley(1)
    first = talk.up(1)
    talk.become(speaker(neighbor(1, hold_time=30)))
    assert [(notify.code, notify.subcode) for notify in talk.ears[first].notified] == [(6, 6)]
    again = talk.ears[talk.up(1)]
    assert again.theirs is not None
    assert again.theirs.hold_time == 30


def test_anything_may_happen_between_two_steps() -> None:
    """A session comes, a session goes, routes come: all by the new speaker."""
    talk = parley(*range(1, 7))
    open_ = {number: talk.up(number) for number in range(1, 6)}
    talk.say(open_[1], announcement(attributes(1), P[:2]))
    changed = [neighbor(number, imports=ImportPolicy(ANY, max_path_length=9)) for number in range(2, 8)]
    steps = talk.core.configure(speaker(*changed), talk.now)
    next(steps)
    talk.settle()
    late = talk.up(7)
    talk.lose(open_[3])
    talk.say(open_[2], announcement(attributes(2), P[4:5]))
    talk.say(open_[1], announcement(attributes(1), P[5:6]))
    for _ in steps:
        talk.settle()
    talk.settle()
    assert talk.ears[late].table == talk.ears[open_[4]].table == {P[4]: attributes(2)}
    assert set(talk.core.server.established()) == {at(number) for number in (2, 4, 5, 7)}


# -- ranges


def test_who_comes_from_a_range_is_served() -> None:
    """By its address; its name is that of the range."""
    talk = Parley(speaker(RANGE, neighbor(1)))
    first, second = talk.up(50, address=host(7), families=frozenset({V4})), talk.up(1)
    talk.say(first, announcement(attributes(50), P[:1]))
    assert talk.ears[second].table == {P[0]: attributes(50)}
    named = {news.name for news in talk.news if isinstance(news, Session) and news.address == host(7)}
    assert named == {"hosts"}
    talk.lose(first)
    assert talk.ears[second].table == {}


def test_no_more_of_a_range_are_remembered_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A range may have more addresses than we have memory; those who are here are kept."""
    monkeypatch.setattr(module, "REMEMBERED", 3)
    talk = Parley(speaker(RANGE, neighbor(1)))
    # Without a hold time nothing is ever due.
    here = talk.up(50, address=host(1), hold_time=0)
    for number in range(2, 20):
        connection = talk.connect(50, address=host(number))
        assert connection is not None
        talk.lose(connection)
    assert set(talk.core.peerings) == {at(1), host(1), *(host(number) for number in (17, 18, 19))}
    assert talk.ears[here].open
    again = talk.up(50, address=host(18))
    talk.lose(talk.up(50, address=host(30)))
    talk.lose(talk.up(50, address=host(31)))
    assert host(18) in talk.core.peerings
    assert talk.ears[again].open
    assert set(talk.core.server.established()) == {host(1), host(18)}


def test_who_left_a_range_and_becomes_a_neighbour_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many leave the range after that; and a neighbour that is left to a range may be."""
    monkeypatch.setattr(module, "REMEMBERED", 2)
    talk = Parley(speaker(RANGE, neighbor(1, asn=65050, address=host(9))))
    connection = talk.connect(50, address=host(1))
    assert connection is not None
    talk.lose(connection)
    talk.become(speaker(RANGE, neighbor(1, asn=65050, address=host(1), passive=False)))
    assert talk.dialled == [Dial(host(1), None)]
    for number in range(20, 24):
        talk.lose(talk.up(50, address=host(number)))
    assert set(talk.core.peerings) == {host(1), host(22), host(23)}
    talk.wait(60)
    assert len(talk.dialled) > 1


@pytest.mark.parametrize("ended", [True, False])
def test_more_than_are_remembered_may_be_parted_from_at_once(monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    """By the end, or by a configuration that resets all sessions."""
    monkeypatch.setattr(module, "REMEMBERED", 2)
    talk = Parley(speaker(RANGE, neighbor(1)))
    connections = [talk.up(50, address=host(number)) for number in range(10, 16)]
    for number in (1, 2):
        talk.lose(talk.up(50, address=host(number)))
    if ended:
        talk.core.cease(2, talk.now)
        talk.settle()
    else:
        talk.become(speaker(replace(RANGE, hold_time=30), neighbor(1)))
    assert talk.hung == connections
    assert set(talk.core.peerings) == {at(1), host(1), host(2)}


def test_who_came_from_a_range_and_was_refused_is_held_off() -> None:
    """As anybody: it may not come back at once, and each time it waits longer."""
    talk = Parley(speaker(RANGE))
    waits = []
    for _ in range(4):
        connection = talk.connect(51, address=host(1))
        assert connection is not None
        talk.say(connection, encode_open(said_by(51)))
        assert [notify.code for notify in talk.ears[connection].notified] == [2]
        refused = talk.connect(50, address=host(1))
        assert refused is not None
        assert not talk.ears[refused].open
        due = talk.core.deadline()
        assert due is not None
        waits.append(due - talk.now)
        talk.wait(due - talk.now)
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]
    assert talk.ears[talk.up(50, address=host(1))].open


# -- the end


def test_all_are_told_of_the_end() -> None:
    """Those of ranges too; who comes after that is not let in, and nobody is dialled."""
    talk = Parley(speaker(neighbor(1), fake_core.neighbor(2), RANGE))
    connections = [talk.up(1), talk.greet(talk.answer(2)), talk.up(50, address=host(1)), talk.up(50, address=host(2))]
    dialled = list(talk.dialled)
    talk.core.cease(2, talk.now)
    talk.settle()
    for connection in connections:
        assert [(notify.code, notify.subcode) for notify in talk.ears[connection].notified] == [(6, 2)]
    assert sorted(talk.hung) == connections
    assert talk.core.server.established() == ()
    for number, address in ((1, at(1)), (50, host(1)), (50, host(3))):
        again = talk.connect(number, address=address)
        assert again is None or not talk.ears[again].open
    talk.wait(1000)
    assert talk.dialled == dialled
    assert talk.core.deadline() is None


def test_who_waits_for_the_next_process_is_left_without_a_word() -> None:
    """A Cease would have it forget our routes (RFC 4724 4); all others are told why the connection closes."""
    talk = Parley(speaker(neighbor(1), neighbor(2), neighbor(3, restart_time=0)))
    connections = [talk.up(1), talk.up(2, restart=HELPED), talk.up(3, restart=HELPED)]
    talk.core.leave(talk.now)
    talk.settle()
    assert [[(n.code, n.subcode) for n in talk.ears[each].notified] for each in connections] == [[(6, 2)], [], [(6, 2)]]
    assert talk.hung == [connections[0], connections[2]]
    late = talk.connect(1)
    assert late is None or not talk.ears[late].open


# -- after a restart


def restarted(*numbers: int, awaited: tuple[int, ...] = (1, 2)) -> Parley:
    """Make a process that comes after one which some were up with."""
    return Parley(speaker(*(neighbor(number) for number in numbers)), [at(number) for number in awaited])


def test_after_a_restart_nobody_hears_the_end_before_all_is_known() -> None:
    """RFC 4724 4.1: routes go out at once, End-of-RIB when those who were here before have told theirs."""
    talk = restarted(1, 2, 3)
    first, third = talk.up(1, restart=HELPED), talk.up(3, restart=HELPED)
    theirs = talk.ears[first].theirs
    assert theirs is not None
    assert theirs.restart is not None
    assert theirs.restart.restarting
    assert theirs.restart.families == ((V4, True), (V6, True))
    talk.say(first, announcement(attributes(1), P[:1]), ends())
    assert talk.ears[third].table == {P[0]: attributes(1)}
    assert talk.ears[third].ended == []
    assert Synced() not in talk.news
    second = talk.up(2, restart=HELPED)
    talk.say(second, ends())
    assert all(set(talk.ears[each].ended) == BOTH for each in (first, second, third))
    assert talk.news.count(Synced()) == 1


def test_who_does_not_come_back_is_not_awaited_for_ever() -> None:
    """Its time is a deadline."""
    talk = restarted(1, 3)
    third = talk.up(3, hold_time=0)
    talk.wait(DEFERRAL - 1)
    assert (talk.ears[third].ended, Synced() in talk.news) == ([], False)
    talk.wait(1)
    assert set(talk.ears[third].ended) == BOTH
    assert Synced() in talk.news


def test_who_comes_long_after_a_restart_does_not_hear_of_it() -> None:
    """It has nothing of ours; its time is over, also where it was not known before."""
    talk = restarted(1)
    talk.wait(1000)
    talk.become(speaker(neighbor(1), neighbor(2), RANGE))
    for connection in (talk.up(2), talk.up(50, address=host(1))):
        theirs = talk.ears[connection].theirs
        assert theirs is not None
        assert theirs.restart is not None
        assert not theirs.restart.restarting


def test_a_fresh_process_has_nothing_to_wait_for() -> None:
    """It says so at once, and its OPEN says nothing of a restart."""
    talk = parley(1)
    assert Synced() in talk.news
    theirs = talk.ears[talk.up(1)].theirs
    assert theirs is not None
    assert theirs.restart == Restart(120, notification=True, families=((V4, True), (V6, True)))
