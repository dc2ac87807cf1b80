from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, ip_network

import pytest

from routing.bgp.hot import announce
from routing.bgp.intake import Intake
from routing.bgp.messages import (
    KEEPALIVE,
    KEEPALIVE_MESSAGE,
    NOTIFICATION,
    OPEN,
    Notify,
    encode_notification,
    encode_open,
    encode_refresh,
    message,
)
from routing.bgp.routeserver import Bests
from routing.bgp.values import ExportPolicy, Family, ImportPolicy
from routing.engines.engine import Session, SessionState
from routing.engines.native import outbox
from routing.engines.native.core import Dial, Hang, Write
from tests.support import fake_core
from tests.support.fake_core import ANY, at, attributes, speaker
from tests.support.parley import BOTH, HELPED, RANGE, Parley, announcement, ends, neighbor, parley, said_by, withdrawal

V4, V6 = Family.IPV4, Family.IPV6
P = [ip_network(f"10.0.{n}.0/24") for n in range(8)]
SIX = ip_network("2001:db8:1::/48")
BROKEN = message(2, b"\0\0\0\xff")  # the attributes end behind the message
NO_PREFIX = message(2, b"\0\x06\x21\x0a\0\0\0\0" + b"\0\0")  # 33 bits
UP, ACTIVE = SessionState.ESTABLISHED, SessionState.ACTIVE
STALE_TIME = 120


def states(talk: Parley, number: int) -> list[SessionState]:
    """Return what watchers were told of a neighbour's session."""
    return [news.state for news in talk.news if isinstance(news, Session) and news.address == at(number)]


# -- sessions


def test_neighbours_are_dialled_and_awaited() -> None:
    """From the address that is theirs to meet; a passive one and those of a range are waited for."""
    wanted = speaker(fake_core.neighbor(1), fake_core.neighbor(2, local_address=at(99)), neighbor(3), RANGE)
    assert Parley(wanted).dialled == [Dial(at(1), None), Dial(at(2), at(99))]


def test_a_neighbour_that_connects_gets_a_session() -> None:
    """OPEN, KEEPALIVE, and when it stands, trust and the end of what there is to tell."""
    talk = parley(1)
    connection = talk.connect(1)
    assert connection is not None
    ear = talk.ears[connection]
    assert ear.kinds == [OPEN]
    talk.say(connection, encode_open(ear.said))
    assert (ear.kinds, ear.trusted) == ([OPEN, KEEPALIVE], False)
    assert talk.core.server.established() == ()
    talk.now = 5
    talk.say(connection, KEEPALIVE_MESSAGE)
    assert ear.trusted
    assert set(ear.ended) == BOTH
    assert talk.core.server.established() == (at(1),)
    assert talk.core.since == {at(1): 5}
    assert states(talk, 1) == [ACTIVE, SessionState.OPENSENT, SessionState.OPENCONFIRM, UP]


def test_a_stranger_is_not_let_in() -> None:
    """Nothing is said to it, nothing is kept of it."""
    talk = parley(1)
    assert talk.connect(2) is None
    assert talk.settle() == []
    talk.put(1, KEEPALIVE_MESSAGE)
    talk.core.disconnected(1, 0)
    assert talk.settle() == []
    assert list(talk.core.peerings) == [at(1)]


def test_a_dialled_neighbour_gets_a_session() -> None:
    """One that cannot be reached is dialled again when its time has come, and it is said why."""
    talk = Parley(speaker(fake_core.neighbor(1)))
    talk.core.connect_failed(at(1), "Connection refused", 0)
    talk.settle()
    assert talk.detail(1) == "Connection refused"
    talk.wait(10)
    assert talk.dialled[:2] == [Dial(at(1), None)] * 2
    talk.greet(talk.answer(1))
    assert talk.core.server.established() == (at(1),)
    assert talk.detail(1) == ""


def test_a_connection_to_who_is_no_neighbour_any_more_is_not_wanted() -> None:
    """Nor why there is none."""
    talk = Parley(speaker(fake_core.neighbor(1)))
    talk.become(speaker())
    assert talk.answer(1) is None
    talk.core.connect_failed(at(1), "Connection refused", 0)
    assert talk.settle() == []


def test_a_session_lives_by_keepalives() -> None:
    """Ours go in time; when theirs do not, it ends."""
    talk = parley(1)
    connection = talk.up(1, hold_time=30)
    for _ in range(20):
        talk.wait(10)
        talk.say(connection, KEEPALIVE_MESSAGE)
    ear = talk.ears[connection]
    assert ear.kinds.count(KEEPALIVE) == 21
    talk.wait(29)
    assert ear.open
    talk.wait(1)
    assert (ear.open, [notify.code for notify in ear.notified]) == (False, [4])
    assert states(talk, 1)[-2:] == [UP, ACTIVE]
    assert talk.core.since == {}


def test_when_nothing_is_due_nobody_is_woken() -> None:
    """Without neighbours to dial there is no deadline."""
    assert parley(1).core.deadline() is None
    talk = Parley(speaker(fake_core.neighbor(1)))
    due = talk.core.deadline()
    assert due is not None
    talk.core.tick(due - 0.1)
    assert talk.settle() == []
    assert talk.core.deadline() == due


def test_what_comes_after_the_end_is_nobodys() -> None:
    """The connection hangs; octets that were under way, and its end, mean nothing."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    talk.say(first, BROKEN, announcement(attributes(1), P[:1]))
    assert talk.hung == [first]
    talk.say(first, announcement(attributes(1), P[:1]))
    talk.core.written(first, 5, 0, waiting=True)
    talk.core.fall_behind(first)
    talk.core.catch_up(first)
    talk.core.disconnected(first, 0)
    assert talk.settle() == []
    assert talk.ears[second].told == []
    assert first not in talk.core._addresses


def test_a_last_word_is_the_last() -> None:
    """Behind a NOTIFICATION nothing is said, though the tables had more to say; the others are told all of it."""
    talk = parley(1, 2, 3)
    first, second, third = talk.up(1), talk.up(2), talk.up(3)
    talk.put(second, announcement(attributes(2), P[:1]))
    talk.put(first, announcement(attributes(1), P[1:2]), BROKEN)
    done = talk.settle()
    mine = [action for action in done if not isinstance(action, Dial) and action.connection == first]
    assert [type(action) for action in mine[:2]] == [Write, Hang]
    assert talk.ears[first].kinds[-1] == NOTIFICATION
    assert talk.ears[third].table == {P[0]: attributes(2)}
    assert talk.ears[second].table == {}


def test_a_neighbour_that_comes_again_has_one_session() -> None:
    """The old connection ends without a word (RFC 4724 5); what there is to say goes over the new one alone."""
    talk = parley(1, 2)
    old, other = talk.up(1, restart=HELPED), talk.up(2)
    talk.say(old, announcement(attributes(1), P[:2]), ends())
    heard = len(talk.ears[old].buffers)
    new = talk.up(1, restart=replace(HELPED, restarting=True))
    assert (talk.hung, talk.ears[old].notified, len(talk.ears[old].buffers)) == ([old], [], heard)
    talk.say(other, announcement(attributes(2), P[3:4]))
    assert talk.ears[new].table == {P[3]: attributes(2)}
    assert len(talk.ears[old].buffers) == heard
    assert talk.ears[other].table == {P[0]: attributes(1), P[1]: attributes(1)}
    assert talk.core.server.established() == (at(2), at(1))


def test_what_was_for_the_session_before_is_not_for_this_one() -> None:
    """Both within one turn: the new one is told everything, once."""
    talk = parley(1, 2)
    talk.up(1, restart=HELPED)
    other = talk.up(2)
    new = talk.connect(1, restart=replace(HELPED, restarting=True))
    assert new is not None
    talk.put(other, announcement(attributes(2), P[:1]))
    talk.put(new, encode_open(talk.ears[new].said), KEEPALIVE_MESSAGE)
    talk.settle()
    assert talk.ears[new].told == [(P[0], attributes(2))]


# -- routes


def test_routes_go_to_the_others_in_one_buffer() -> None:
    """Written once: not the same octets but the same object; their source hears nothing."""
    talk = parley(1, 2, 3)
    first, second, third = (talk.up(number) for number in (1, 2, 3))
    before = len(talk.ears[second].buffers)
    talk.say(first, announcement(attributes(1), P))
    assert talk.ears[second].table == dict.fromkeys(P, attributes(1))
    assert talk.ears[third].buffers[-1] is talk.ears[second].buffers[-1]
    assert len(talk.ears[second].buffers) == before + 1
    assert talk.ears[first].told == []


def test_a_burst_is_told_by_its_net_effect() -> None:
    """What came and went within a turn was never there."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    talk.put(first, announcement(attributes(1), P[:3]), withdrawal(P[:2]))
    talk.put(first, announcement(attributes(1, 7), P[2:3]))
    talk.settle()
    assert talk.ears[second].told == [(P[2], attributes(1, 7))]


def test_a_message_may_come_in_pieces() -> None:
    """Octet by octet, and several at once."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    stream = announcement(attributes(1), P[:2]) + KEEPALIVE_MESSAGE + withdrawal(P[:1])
    for place in range(len(stream)):
        talk.put(first, stream[place : place + 1])
    talk.settle()
    assert talk.ears[second].table == {P[1]: attributes(1)}


def test_both_families_go_over_one_session() -> None:
    """As far as they were agreed on."""
    talk = parley(1, 2, 3)
    first, second, third = talk.up(1), talk.up(2), talk.up(3, families=frozenset({V6}))
    said = replace(attributes(1), next_hop=IPv6Address("2001:db8::1"))
    talk.say(first, announcement(said, [SIX]), announcement(attributes(1), P[:1]))
    assert talk.ears[second].table == {SIX: said, P[0]: attributes(1)}
    assert talk.ears[third].table == {SIX: said}
    assert set(talk.ears[second].ended) == BOTH
    assert talk.ears[third].ended == [V6]


def test_who_comes_late_is_told_everything() -> None:
    """And End-of-RIB behind it."""
    talk = parley(1, 2)
    first = talk.up(1)
    talk.say(first, announcement(attributes(1), P))
    second = talk.connect(2)
    assert second is not None
    talk.put(second, encode_open(said_by(2)), KEEPALIVE_MESSAGE)
    words = [action.data for action in talk.settle() if isinstance(action, Write)]
    assert talk.ears[second].table == dict.fromkeys(P, attributes(1))
    assert bytes(words[-1]) in (ends(V4, V6), ends(V6, V4))


@pytest.mark.parametrize("four_octet", [True, False])
def test_each_is_written_to_as_it_reads(four_octet: bool) -> None:
    """One that knows no AS numbers of four octets, and no long messages, beside one that does (RFC 6793, 8654)."""
    talk = parley(1, 2, 3)
    first, second = talk.up(1), talk.up(2)
    third = talk.up(3, four_octet=four_octet, extended_message=False)
    said = attributes(1, 4200000000)
    big = replace(attributes(1), communities=tuple((65000, number) for number in range(1100)))
    talk.say(first, announcement(said, P))
    assert talk.ears[third].table == talk.ears[second].table == dict.fromkeys(P, said)
    assert talk.ears[second].theirs == talk.ears[third].theirs
    talk.say(first, announcement(big, P[:1], 65535))
    assert talk.ears[second].table[P[0]] == big
    assert P[0] not in talk.ears[third].table


@pytest.mark.parametrize(("bad", "subcode"), [(BROKEN, 1), (NO_PREFIX, 10)], ids=["lengths", "prefix"])
def test_a_malformed_update_ends_its_session_alone(bad: bytes, subcode: int) -> None:
    """RFC 7606 leaves nothing else here: a NOTIFICATION, its routes are gone, and the others go on."""
    talk = parley(1, 2, 3)
    first, second, third = (talk.up(number) for number in (1, 2, 3))
    talk.say(first, announcement(attributes(1), P[:2]))
    talk.say(second, announcement(attributes(2), P[2:4]))
    talk.say(first, announcement(attributes(1), P[4:5]), bad)
    ear = talk.ears[first]
    assert [(notify.code, notify.subcode) for notify in ear.notified] == [(3, subcode)]
    assert talk.hung == [first]
    assert "UPDATE Message Error" in talk.detail(1)
    assert talk.ears[third].table == dict.fromkeys(P[2:4], attributes(2))
    assert talk.core.server.established() == (at(2), at(3))


@pytest.mark.parametrize(
    "last", [b"", encode_notification(Notify(6, 2)), BROKEN], ids=["nothing", "farewell", "broken"]
)
def test_a_session_on_which_we_fail_is_over_with_its_connection(monkeypatch: pytest.MonkeyPatch, last: bytes) -> None:
    """Whatever came behind what we failed on; its routes are not kept for ever."""
    talk = parley(1, 2)
    first, second = talk.up(1, restart=HELPED), talk.up(2, hold_time=0)
    talk.say(first, announcement(attributes(1), P[:2]), ends())

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Intake, "take", fail)
        with pytest.raises(ZeroDivisionError):
            talk.put(first, announcement(attributes(1), P[2:3]), last)
    talk.lose(first)
    assert talk.core.server.established() == (at(2),)
    talk.wait(STALE_TIME)
    assert talk.ears[second].table == {}
    assert talk.core.since == {at(2): 0}
    assert states(talk, 1)[-1] == ACTIVE
    again = talk.up(1)
    talk.say(again, announcement(attributes(1), P[:1]))
    assert talk.ears[second].table == {P[0]: attributes(1)}


def test_too_many_prefixes_end_no_session() -> None:
    """They are refused; RFC 4486 is for those who would rather."""
    talk = Parley(speaker(neighbor(1, imports=ImportPolicy(ANY, max_prefixes=2)), neighbor(2)))
    first, second = talk.up(1), talk.up(2)
    talk.say(first, announcement(attributes(1), P))
    assert len(talk.ears[second].table) == 2
    assert talk.ears[first].open


def test_routes_are_told_again_to_who_asks() -> None:
    """RFC 2918: of the family that it asks for, once in a turn."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    talk.say(first, announcement(attributes(1), P[:2]))
    talk.ears[second].told.clear()
    talk.say(second, encode_refresh(V4) * 3, encode_refresh(V6))
    assert talk.ears[second].told == [(prefix, attributes(1)) for prefix in P[:2]]
    assert talk.ears[first].told == []


# -- ends of sessions


def test_a_broken_connection_takes_the_routes_with_it() -> None:
    """Of a neighbour that cannot be helped through a restart."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    talk.say(first, announcement(attributes(1), P))
    talk.lose(first)
    assert talk.ears[second].table == {}
    assert states(talk, 1)[-1] == ACTIVE
    assert talk.detail(1) == "connection lost"


def test_a_neighbour_is_helped_through_a_restart() -> None:
    """RFC 4724 4.2: its routes stay until it has said what it has now, or its time is over."""
    talk = parley(1, 2)
    first, second = talk.up(1, restart=HELPED), talk.up(2)
    talk.say(first, announcement(attributes(1), P[:3]), ends())
    talk.lose(first)
    assert len(talk.ears[second].table) == 3
    first = talk.up(1, restart=replace(HELPED, restarting=True))
    talk.say(first, announcement(attributes(1), P[:1]), ends())
    assert talk.ears[second].told[3:] == [(prefix, None) for prefix in P[1:3]]


def test_the_time_for_a_restart_is_a_deadline() -> None:
    """Nothing else happens, and it ends all the same."""
    talk = parley(1, 2)
    first, second = talk.up(1, restart=HELPED), talk.up(2, hold_time=0)
    talk.say(first, announcement(attributes(1), P[:1]), ends())
    talk.lose(first)
    talk.wait(STALE_TIME - 1)
    assert talk.ears[second].table == {P[0]: attributes(1)}
    talk.wait(1)
    assert talk.ears[second].table == {}
    talk.wait(1000)
    assert talk.core.deadline() is None


def test_a_neighbour_that_takes_leave_is_not_helped() -> None:
    """A NOTIFICATION of one without RFC 8538; it is not answered."""
    talk = parley(1, 2)
    first, second = talk.up(1, restart=HELPED), talk.up(2)
    talk.say(first, announcement(attributes(1), P[:1]), ends(), encode_notification(Notify(6, 2)))
    assert talk.ears[first].notified == []
    assert talk.hung == [first]
    assert talk.ears[second].table == {}


# -- slow ones


def test_who_is_behind_is_told_the_difference_when_it_has_caught_up() -> None:
    """Not what came and went meanwhile; the others are told at once."""
    talk = parley(1, 2, 3)
    first, second, third = (talk.up(number) for number in (1, 2, 3))
    talk.say(first, announcement(attributes(1), P[:3]))
    talk.core.fall_behind(second)
    before = len(talk.ears[second].buffers)
    talk.say(first, withdrawal(P[:1]))
    talk.say(first, announcement(attributes(1, 7), P[1:2]), announcement(attributes(1), P[4:6]))
    talk.say(first, withdrawal(P[4:5]))
    assert len(talk.ears[second].buffers) == before
    talk.ears[second].told.clear()
    talk.core.catch_up(second)
    talk.settle()
    assert dict(talk.ears[second].told) == {P[0]: None, P[1]: attributes(1, 7), P[5]: attributes(1)}
    assert len(talk.ears[second].told) == 3
    assert dict(talk.ears[third].told)[P[4]] is None


def test_keepalives_go_to_who_is_behind() -> None:
    """They may be what it waits for."""
    talk = parley(1)
    connection = talk.up(1)
    talk.core.fall_behind(connection)
    talk.wait(45)
    assert talk.ears[connection].kinds[-1] == KEEPALIVE


def test_only_the_connection_of_the_session_is_behind() -> None:
    """Another one of the same neighbour says nothing about it."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    beside = talk.connect(2)
    assert beside is not None
    talk.core.fall_behind(beside)
    talk.say(first, announcement(attributes(1), P[:1]))
    assert talk.ears[second].table == {P[0]: attributes(1)}
    talk.core.fall_behind(second)
    talk.core.catch_up(beside)
    talk.say(first, announcement(attributes(1), P[1:2]))
    assert talk.ears[second].table == {P[0]: attributes(1)}


def test_a_session_that_starts_anew_is_not_behind() -> None:
    """It was the connection before that did not take what it was sent."""
    talk = parley(1, 2)
    first, second = talk.up(1), talk.up(2)
    talk.core.fall_behind(second)
    talk.lose(second)
    second = talk.up(2)
    talk.say(first, announcement(attributes(1), P[:1]))
    assert talk.ears[second].table == {P[0]: attributes(1)}


def test_who_takes_nothing_for_minutes_is_given_up() -> None:
    """RFC 9687: Send Hold Timer Expired, eight minutes after the last octet went; its own KEEPALIVEs are no help."""
    talk = parley(1)
    connection = talk.up(1)
    talk.core.written(connection, 100, talk.now, waiting=True)
    talk.settle()
    for _ in range(47):
        talk.wait(10)
        talk.say(connection, KEEPALIVE_MESSAGE)
    assert talk.ears[connection].open
    talk.wait(10)
    assert not talk.ears[connection].open
    assert "Send Hold Timer Expired" in talk.detail(1)


# -- watchers


def test_best_paths_are_news_while_somebody_watches() -> None:
    """And only then."""
    talk = parley(1, 2)
    first = talk.up(1)
    talk.say(first, announcement(attributes(1), P[:1]))
    talk.core.watch(on=True)
    talk.say(first, announcement(attributes(1), P[1:3]))
    talk.core.watch(on=False)
    talk.say(first, announcement(attributes(1), P[3:4]))
    (best,) = [news for news in talk.news if isinstance(news, Bests)]
    assert best.path is not None
    assert best.path.attributes == attributes(1)
    assert talk.core.take_events() == ()


def test_a_state_is_news_once() -> None:
    """What was told before is not told again; that the neighbour is none any more is nobody's news."""
    talk = parley(1)
    connection = talk.up(1)
    before = len(talk.news)
    talk.say(connection, KEEPALIVE_MESSAGE, announcement(attributes(1), P[:1]))
    talk.wait(60)
    assert len(talk.news) == before
    talk.become(speaker(neighbor(1), neighbor(2)))
    assert states(talk, 1)[-1] == UP


def test_sessions_that_agreed_on_the_same_are_written_to_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours with policies of their own are several audiences; a message is written once all the same."""
    calls = []

    def counted(octets: bytes, nlri: bytes, limit: int) -> bytes:
        calls.append(nlri)
        return announce(octets, nlri, limit)

    monkeypatch.setattr(outbox, "announce", counted)
    policies = [ExportPolicy(ANY, never=(replace(ANY[0], min_length=32 - n),)) for n in range(3)]
    talk = Parley(speaker(neighbor(1), *(neighbor(n + 2, exports=each) for n, each in enumerate(policies))))
    first, *others = (talk.up(number) for number in (1, 2, 3, 4))
    talk.say(first, announcement(attributes(1), P))
    assert [len(talk.ears[other].table) for other in others] == [len(P)] * 3
    assert len(calls) == 1
