from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from routing.bgp.messages import KEEPALIVE_MESSAGE
from routing.bgp.values import Family
from routing.interop.cases import chosen, world
from routing.interop.octets import Opening
from routing.interop.place import Place, inside
from routing.interop.speaker import Speaker
from routing.interop.stage import Stage
from routing.interop.world import ASN

pytestmark = pytest.mark.kernel
WORLD = world(chosen(["sessions/open"]))
ME = WORLD.cast("sessions/open")["a"]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Make a LAN."""
    with Place(WORLD) as made:
        yield made


@pytest.fixture
def stage(place: Place) -> Iterator[Stage]:
    """Make a stage."""
    with closing(Stage(place, dict(WORLD.addresses))) as made:
        yield made


@pytest.fixture
def server(place: Place) -> Iterator[socket.socket]:
    """Listen where the device would."""
    with inside(place.device):
        made = socket.create_server((str(WORLD.addresses[Family.IPV4]), 179))
    with made:
        made.settimeout(10)
        yield made


def until(stage: Stage, speaker: Speaker, probe: Callable[[], bool]) -> None:
    """Turn until something is so."""
    for _ in range(500):
        if probe():
            return
        stage.turn([speaker], 0.02)
    pytest.fail("it never came")


def test_octets_go_both_ways_from_the_member_s_address(stage: Stage, server: socket.socket) -> None:
    """And the end of the connection is told."""
    speaker = Speaker(ME)
    speaker.connect(Opening())
    until(stage, speaker, lambda: speaker.open)
    theirs, (host, _) = server.accept()
    with theirs:
        assert host == str(ME.address)
        theirs.sendall(Opening(asn=ASN).octets(ME) + KEEPALIVE_MESSAGE)
        until(stage, speaker, lambda: speaker.established)
        assert theirs.recv(1000).startswith(Opening().octets(ME))
    until(stage, speaker, lambda: speaker.ended)
    assert not speaker.open


def test_who_hangs_up_says_first_what_is_left(stage: Stage, server: socket.socket) -> None:
    """Then closes."""
    speaker = Speaker(ME)
    speaker.connect(Opening(), instead=b"")
    until(stage, speaker, lambda: speaker.open)
    theirs, _ = server.accept()
    speaker.say(b"x" * 300_000)
    speaker.hang_up()
    with theirs:
        heard = 0
        while not speaker.ended:
            stage.turn([speaker], 0.01)
            heard += len(theirs.recv(1 << 20))
        while data := theirs.recv(1 << 20):
            heard += len(data)
    assert heard == 300_000


def test_nobody_there_is_told(stage: Stage) -> None:
    """A refused connection is no error: it may be too early."""
    speaker = Speaker(ME)
    speaker.connect(Opening())
    until(stage, speaker, lambda: speaker.ended)
    assert not speaker.open


def test_a_new_connection_takes_the_place_of_the_old_one(stage: Stage, server: socket.socket) -> None:
    """Of the same speaker."""
    speaker = Speaker(ME)
    for _ in range(2):
        speaker.connect(Opening())
        until(stage, speaker, lambda: speaker.open)
    first, second = server.accept()[0], server.accept()[0]
    with first, second:
        assert b"".join(iter(lambda: first.recv(1000), b"")) == Opening().octets(ME)
        second.sendall(Opening(asn=ASN).octets(ME) + KEEPALIVE_MESSAGE)
        until(stage, speaker, lambda: speaker.established)
