from __future__ import annotations

import pytest

from routing.bgp.messages import KEEPALIVE_MESSAGE, MARKER, encode_notification, message
from routing.bgp.notify import Notify
from routing.interop.hearing import Unreadable, key
from routing.interop.octets import FOUR_OCTET, Opening, Update
from routing.interop.speaker import Speaker, capabilities
from routing.interop.world import P
from tests.unit.routing.interop.test_octets import ME

THEIRS = Opening(hold_time=9).octets(ME)


@pytest.fixture
def speaker() -> Speaker:
    """Return one that is connected."""
    made = Speaker(ME)
    made.connect(Opening())
    made.connected()
    return made


def test_it_says_its_open_first_and_answers_theirs(speaker: Speaker) -> None:
    """Then it waits for a KEEPALIVE."""
    assert speaker.outbox == Opening().octets(ME)
    speaker.received(THEIRS, 1.0)
    assert speaker.outbox.endswith(KEEPALIVE_MESSAGE)
    assert (speaker.established, speaker.keepalives) == (False, [])
    speaker.received(KEEPALIVE_MESSAGE, 2.0)
    assert (speaker.established, speaker.keepalives) == (True, [2.0])
    assert (speaker.hold_time, speaker.width) == (9, 4)


def test_something_else_may_be_said_in_the_place_of_open() -> None:
    """A case about that."""
    made = Speaker(ME)
    made.connect(Opening(), instead=b"GET /")
    made.connected()
    assert made.outbox == b"GET /"


def test_it_lives_on_its_keepalives_or_does_not(speaker: Speaker) -> None:
    """Every third of the hold time; a case may have it fall silent."""
    speaker.received(THEIRS + KEEPALIVE_MESSAGE, 0.0)
    speaker.outbox.clear()
    for now in (0.0, 1.0, 2.9, 3.1):
        speaker.tick(now)
    assert speaker.outbox == KEEPALIVE_MESSAGE * 2
    speaker.opening = Opening(lively=False)
    speaker.tick(100.0)
    assert speaker.outbox == KEEPALIVE_MESSAGE * 2


def test_it_hears_routes_in_pieces(speaker: Speaker) -> None:
    """TCP keeps no boundaries."""
    octets = THEIRS + KEEPALIVE_MESSAGE + Update((P,)).octets(ME)
    for octet in octets:
        speaker.received(bytes((octet,)), 0.0)
    assert key(P) in speaker.hearing.routes


def test_a_notification_is_remembered_and_the_connection_dropped(speaker: Speaker) -> None:
    """RFC 4271 8.2.2."""
    speaker.received(encode_notification(Notify(6, 2)), 0.0)
    assert speaker.notified == Notify(6, 2)
    assert speaker.hangs
    speaker.lost()
    assert speaker.ended


@pytest.mark.parametrize(
    "octets",
    [
        bytes(19),
        MARKER + b"\x10\x01\x02",
        message(2, b"\0\x09\0\0"),
        message(1, b"\4"),
        message(2, bytes.fromhex("0000000540010500")),
    ],
    ids=["marker", "too long", "lengths", "OPEN", "attributes"],
)
def test_what_is_no_bgp_is_a_fault_of_the_device(speaker: Speaker, octets: bytes) -> None:
    """It is told, and not raised."""
    speaker.received(octets, 0.0)
    assert speaker.fault


def test_a_new_connection_knows_nothing_of_the_old_one(speaker: Speaker) -> None:
    """What was heard is forgotten, what waited is not said."""
    speaker.received(THEIRS + KEEPALIVE_MESSAGE + Update((P,)).octets(ME), 0.0)
    speaker.say(b"something")
    speaker.connect(Opening())
    assert (speaker.wants, speaker.open, speaker.established, bytes(speaker.outbox)) == (True, False, False, b"")
    assert not speaker.hearing.routes


@pytest.mark.parametrize("form", ["one", "each", "long"])
def test_capabilities_are_found_in_every_form(form: str) -> None:
    """RFC 5492 4, RFC 9072."""
    found = capabilities(Opening(form=form).octets(ME)[19:])
    assert found[FOUR_OCTET] == ME.asn.to_bytes(4, "big")


def test_parameters_that_are_cut_off_are_no_open() -> None:
    """Their length says more than there is."""
    with pytest.raises(Unreadable):
        capabilities(bytes(9) + b"\4" + b"\2\x09\1\4")


def test_who_fails_to_connect_has_ended(speaker: Speaker) -> None:
    """And may try again."""
    speaker.failed()
    assert (speaker.ended, speaker.open) == (True, False)
    speaker.again()
    assert (speaker.ended, speaker.wants) == (False, True)
