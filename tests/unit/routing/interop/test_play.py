from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from routing.bgp.messages import KEEPALIVE_MESSAGE, encode_notification
from routing.bgp.notify import Notify
from routing.interop.hearing import key
from routing.interop.octets import Opening, Update, attribute
from routing.interop.play import PAUSE, QUIET, SETTLED, Play
from routing.interop.script import (
    Act,
    Alive,
    Beats,
    Case,
    Connect,
    Ended,
    Hears,
    Introduces,
    Keeps,
    Level,
    Loses,
    Never,
    Offers,
    Pause,
    Result,
    Say,
    Up,
    W,
)
from routing.interop.speaker import Speaker
from routing.interop.world import ASN, ROUTER_ID, P
from tests.unit.routing.interop.test_octets import ME, MED

THEIRS = Opening(asn=ASN, identifier=ROUTER_ID)


class Scene:
    """A member and a witness, and a device whose words the test writes."""

    def __init__(self, *acts: Act, level: Level = Level.MUST, up: bool = True) -> None:
        self.now = 100.0
        self.a, self.w = Speaker(ME), Speaker(ME)
        for speaker in (self.a, self.w)[not up :]:
            self.establish(speaker)
        self.play = Play(Case("g/c", "RFC 1", "", acts, level=level), {"a": self.a, W: self.w}, patience=5)
        if up:
            self.play._up.add("a")

    def establish(self, speaker: Speaker) -> None:
        """Bring a session up."""
        speaker.connect(Opening())
        speaker.connected()
        speaker.received(THEIRS.octets(ME) + KEEPALIVE_MESSAGE, self.now)

    def after(self, seconds: float = 0.0) -> Any:
        """Return the verdict after some time, in which it looked once at the beginning."""
        first = self.play.turn(self.now)
        self.now += seconds
        return first or self.play.turn(self.now)

    def hears(self, update: Update) -> None:
        """Let the witness hear an UPDATE."""
        self.w.received(update.octets(ME), self.now)


def test_nothing_to_do_is_a_pass() -> None:
    """An empty case."""
    assert Scene().after().result is Result.PASS


def test_what_does_not_come_in_time_fails() -> None:
    """With what is missing; where the RFC is weaker, it differs."""
    assert Scene(Hears(W, P)).after(4.9) is None
    found = Scene(Hears(W, P)).after(5.1)
    assert (found.result, found.seen) == (Result.FAIL, "the witness has not heard of 10.1.0.0/24")
    assert Scene(Hears(W, P), level=Level.SHOULD).after(5.1).result is Result.DIFFERS
    assert Scene(Hears(W, P, within=1)).after(1.1).result is Result.FAIL


def test_what_comes_right_passes() -> None:
    """Also when it was wrong at first."""
    scene = Scene(Hears(W, P, like=Update((P,), more=(MED,)), by="a"))
    scene.hears(Update((P,)))
    assert scene.after(SETTLED / 2) is None
    scene.hears(Update((P,), more=(MED,)))
    assert scene.after().result is Result.PASS


def test_what_stays_wrong_is_not_waited_for() -> None:
    """The difference is told."""
    scene = Scene(Hears(W, P, like=Update((P,)), by="a"))
    scene.hears(Update((P,), more=(MED,)))
    assert scene.after(SETTLED * 2).seen == "the witness heard MULTI_EXIT_DISC 7 was added"


def test_only_what_a_case_is_about_is_compared() -> None:
    """And what must not be there."""
    scene = Scene(Hears(W, P, like=Update((P,)), by="a", codes=(2, 3), has=(MED,)), Hears(W, P, lacks=(4,)))
    scene.hears(Update((P,), more=(MED,)))
    assert scene.after(SETTLED * 2).seen == "the witness heard MULTI_EXIT_DISC 7 was passed on"


def test_what_must_not_be_heard_is_waited_for_a_moment() -> None:
    """Then it was not heard."""
    scene = Scene(Never(W, P))
    assert scene.after(QUIET / 2) is None
    scene.hears(Update((P,)))
    assert "heard of 10.1.0.0/24: ORIGIN 00" in scene.after().seen
    assert Scene(Never(W, P)).after(QUIET * 2).result is Result.PASS


@pytest.mark.parametrize(("updates", "result"), [(1, Result.PASS), (2, Result.FAIL), (0, Result.FAIL)])
def test_what_is_kept_is_not_told_twice(updates: int, result: Result) -> None:
    """Nor withdrawn."""
    scene = Scene(Keeps(W, P))
    for _ in range(updates):
        scene.hears(Update((P,)))
    assert scene.after(QUIET * 2).result is result


def test_what_is_lost_is_withdrawn() -> None:
    """In time."""
    scene = Scene(Loses(W, P))
    scene.hears(Update((P,)))
    assert scene.after(1) is None
    scene.hears(Update(withdrawn=(P,)))
    assert scene.after().result is Result.PASS


def test_a_session_that_ends_for_no_reason_is_the_end() -> None:
    """Whatever the case is about."""
    scene = Scene(Hears(W, P))
    scene.a.received(encode_notification(Notify(3, 6)), scene.now)
    assert scene.after().seen.startswith("the session of a (AS 4200000012) ended with NOTIFICATION 3/6")
    scene = Scene(Hears(W, P))
    scene.w.received(bytes(19), scene.now)
    assert scene.after().seen.startswith("the witness was told what is no BGP message")


@pytest.mark.parametrize(
    ("notify", "result"), [(Notify(2, 6), Result.PASS), (Notify(2, 5), Result.FAIL), (None, Result.FAIL)]
)
def test_a_session_that_must_end_ends_so_and_not_otherwise(notify: Notify | None, result: Result) -> None:
    """By its NOTIFICATION."""
    scene = Scene(Ended("a", ((2, 6), (6, None))))
    assert scene.after(0.1) is None
    scene.a.received(encode_notification(notify) if notify else b"", scene.now)
    scene.a.lost()
    assert scene.after().result is result


def test_the_data_of_a_notification_may_matter() -> None:
    """Where the RFC says what they are."""
    scene = Scene(Ended("a", ((2, 1),), data=b"\0\4"))
    scene.a.received(encode_notification(Notify(2, 1, b"\4")), scene.now)
    assert scene.after().seen == "the data of the NOTIFICATION are 04, not 0004"


def test_a_session_that_should_have_ended_and_carries_routes_will_not_end() -> None:
    """Nothing more is waited for."""
    scene = Scene(Ended("a", ((3, None),)))
    assert scene.after(SETTLED * 1.5) is None
    scene.w.received(bytes(scene.a.outbox[-len(Update((ip_network("10.0.0.0/32"),)).octets(ME)) :]), scene.now)
    assert scene.after().seen.endswith("stays open, and what it says is passed on")


def test_alive_is_who_is_passed_on() -> None:
    """By a prefix that nobody had before."""
    scene = Scene(Alive("a"))
    scene.a.outbox.clear()
    assert scene.after() is None
    scene.w.received(bytes(scene.a.outbox), scene.now)
    assert scene.after().result is Result.PASS


def test_who_is_not_let_in_tries_again() -> None:
    """As long as there is time."""
    scene = Scene(Connect("a"), Up("a"), up=False)
    for _ in range(3):
        assert scene.after(PAUSE * 2) is None
        assert scene.a.wants
        scene.a.failed()
    assert scene.after(5).seen.startswith("no session with a")


def test_who_is_refused_does_not() -> None:
    """Unless a case says that it may take its time."""
    scene = Scene(Connect("a"), Up("a"), up=False)
    assert scene.after() is None
    scene.a.received(encode_notification(Notify(2, 2)), scene.now)
    assert "was refused with NOTIFICATION 2/2" in scene.after().seen
    scene = Scene(Connect("a"), Up("a", sooner_or_later=True), up=False)
    assert scene.after() is None
    scene.a.received(encode_notification(Notify(2, 2)), scene.now)
    assert scene.after() is None


def test_what_is_not_offered_is_not_judged() -> None:
    """A capability, and its value."""
    assert Scene(Offers("a", 9)).after().result is Result.NOT_SUPPORTED
    assert Scene(Offers("a", 65, b"\0\0\0\1")).after().result is Result.FAIL


def test_an_open_says_who_the_device_is() -> None:
    """Version, AS and identifier."""
    scene = Scene(Introduces("a"))
    assert scene.after().result is Result.PASS
    scene = Scene(Introduces("a"))
    scene.a.received(Opening(asn=7, hold_time=2).octets(ME), scene.now)
    assert (
        scene.after().seen == "its OPEN says AS 7, AS 7 of four octets, a hold time of 2 s, the identifier 10.99.0.12"
    )


def test_keepalives_come_often_enough() -> None:
    """None later than the hold time after the one before."""
    scene = Scene(Beats("a", 3, within=200))
    assert scene.after() is None
    scene.a.keepalives += [101.0, 102.0]
    assert scene.after().result is Result.PASS
    scene = Scene(Beats("a", 3, within=200))
    scene.a.keepalives += [scene.now + 95]
    assert scene.after().seen == "95.0 s between two KEEPALIVEs, the hold time is 90 s"


def test_what_is_said_is_written_for_the_session() -> None:
    """An UPDATE with AS numbers as wide as was agreed on, octets as they are; after a pause."""
    scene = Scene(Say("a", b"xyz"), Pause(1), Say("a", Update((P,), more=(attribute(4, "00000001"),))))
    scene.a.outbox.clear()
    assert scene.after(0.9) is None
    assert scene.a.outbox == b"xyz"
    assert scene.after(0.2) or scene.after()
    scene.w.received(bytes(scene.a.outbox[3:]), scene.now)
    assert key(P) in scene.w.hearing.routes
