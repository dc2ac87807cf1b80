from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Network
from itertools import count, repeat
from pathlib import Path
from typing import Any, Self

import pytest

from appliance.model.errors import EngineError
from routing.bgp.nlri import pack
from routing.bgp.routeserver import Bests
from routing.bgp.values import Announcement, Family, ImportPolicy, PrefixRule, Speaker
from routing.engines import answers, wire
from routing.engines.engine import Best, Synced
from routing.engines.native import connection, control
from routing.engines.native.connection import listen
from routing.engines.native.control import Control
from routing.engines.speaker_text import Draft, lines
from tests.support.fake_core import FakeCore, attributes, neighbor, speaker
from tests.support.looping import out_of_descriptors
from tests.support.waiting import eventually

MANY = [IPv4Network((0x0A000000 + (n << 8), 24)) for n in range(20_000)]
ALL_ROUTES = {"method": "routes", "prefix": None, "neighbor": None}


class Door:
    """A control on a socket, turned as the process's loop turns it, and clients of it."""

    def __init__(self, path: Path, core: FakeCore) -> None:
        self.path, self.core = path, core
        self.listener = listen(path)
        self.ticks: Iterator[float] = repeat(0.0)
        self.control = Control(core, self.listener, clock=lambda: next(self.ticks))
        self._epoll = select.epoll()
        self._watched: dict[int, int] = {}
        self._clients = ExitStack()
        self._watch()

    def __enter__(self) -> Self:
        """Serve."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        self.control.close()
        self._epoll.close()
        self._clients.close()

    def turn(self, timeout: float = 0) -> bool:
        """Serve what is ready; tell whether work is left."""
        for fileno, events in self._epoll.poll(timeout):
            self.control.ready(fileno, events)
        more = self.control.work()
        self.control.publish(self.core.news())
        self._watch()
        return more

    def until_idle(self) -> None:
        """Turn until nothing is left to do, and nothing is ready any more."""
        idle = 0
        while idle < 3:
            idle = 0 if self.turn(0.01) else idle + 1

    def connect(self) -> socket.socket:
        """Return a client."""
        client = self.client()
        client.connect(str(self.path))
        return client

    def client(self) -> socket.socket:
        """Return one that has yet to connect."""
        client = self._clients.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        return client

    def send(self, client: socket.socket, *requests: dict[str, Any] | bytes) -> None:
        """Send requests and other lines, serving meanwhile."""
        data = b"".join(
            line if isinstance(line, bytes) else json.dumps({"id": 1, **line}).encode() + b"\n" for line in requests
        )
        while data:
            try:
                data = data[client.send(data[: 1 << 16]) :]
            except BlockingIOError:
                self.turn()

    def hear(self, client: socket.socket, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Serve until the client has heard such a line, or its end; return all lines."""
        heard = bytearray()

        def enough() -> bool:
            self.turn()
            try:
                while data := client.recv(1 << 20):
                    heard.extend(data)
            except (BlockingIOError, ConnectionResetError) as error:
                whole = heard.rstrip(b"\n").rpartition(b"\n")[2]
                return isinstance(error, ConnectionResetError) or (heard.endswith(b"\n") and until(json.loads(whole)))
            return True

        eventually(enough, pause=0)
        # What was cut off in the middle of a line is no line.
        return [json.loads(line) for line in heard.splitlines(keepends=True) if line.endswith(b"\n")]

    def ask(self, *requests: dict[str, Any] | bytes) -> list[dict[str, Any]]:
        """Ask by a connection of its own; return the lines of the answer."""
        client = self.connect()
        self.send(client, *requests)
        heard = self.hear(client, lambda line: "part" not in line)
        client.close()
        return heard

    def apply(self, wanted: Speaker) -> list[dict[str, Any]]:
        """Tell a speaker."""
        return self.ask(*telling(wanted))

    def _watch(self) -> None:
        wanted = self.control.filenos()
        for fileno in self._watched.keys() - wanted.keys():
            self._epoll.unregister(fileno)
        for fileno, events in wanted.items():
            if fileno not in self._watched:
                self._epoll.register(fileno, events)
            else:
                self._epoll.modify(fileno, events)
        self._watched = wanted


def telling(wanted: Speaker) -> list[dict[str, Any] | bytes]:
    """Return the request to become a speaker."""
    return [{"method": "apply"}, *(line + b"\n" for line in lines(wanted))]


def watched(door: Door) -> bool:
    """Tell whether news of best paths are made."""
    return door.core.server.watched


def is_end(line: dict[str, Any]) -> bool:
    """Tell whether a line ends an answer."""
    return "part" not in line


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Give a door to a route server with two neighbours, one of which is up."""
    core = FakeCore(speaker(neighbor(1), neighbor(2)))
    core.up(1)
    core.news()
    with Door(tmp_path / "rib.sock", core) as door:
        yield door


def test_questions_are_answered_in_turn(door: Door) -> None:
    """Several on one connection as well; an unknown one is answered with an error."""
    door.core.say(1, MANY[:2])
    client = door.connect()
    door.send(client, {"method": "sessions"}, {"method": "fly", "id": 2}, {"method": "cease", "subcode": 2, "id": 3})
    heard = door.hear(client, lambda line: line["id"] == 3)
    names = [wire.session_from_json(item).name for item in heard[0]["part"]]
    assert names == ["n1", "n2"]
    assert heard[1:] == [
        {"id": 1, "result": True},
        {"id": 2, "error": "no such method: fly"},
        {"id": 3, "result": True},
    ]
    assert door.core.ceased == [2]
    part, end = door.ask({"method": "routes", "prefix": str(MANY[1]), "neighbor": "n1"})
    assert [wire.route_from_json(item).prefix for item in part["part"]] == [MANY[1]]
    assert end == {"id": 1, "result": True}


@pytest.mark.parametrize("nonsense", [b"what?\n", b"{}\n", b'{"id": 1, "method": "cease"}\n', b"\0" * 2000])
def test_nonsense_costs_its_connection_alone(door: Door, nonsense: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what never comes to the end of a line."""
    monkeypatch.setattr(connection, "LIMIT", 1000)
    other, client = door.connect(), door.connect()
    door.send(client, nonsense)
    assert all("error" in line for line in door.hear(client, lambda _: False))
    door.send(other, {"method": "sessions"})
    assert door.hear(other, is_end)[-1] == {"id": 1, "result": True}


def test_a_long_answer_is_made_as_fast_as_it_is_read(door: Door) -> None:
    """Whoever does not read holds up nobody and costs no memory."""
    door.core.say(1, MANY)
    slow = door.connect()
    door.send(slow, ALL_ROUTES)
    door.until_idle()
    (answered,) = [c for c in door.control._connections.values() if c.answer is not None]
    assert 0 < len(answered.outbox) <= control.AHEAD + 2 * answers.LONG
    assert door.ask({"method": "sessions"})[-1] == {"id": 1, "result": True}
    *parts, _ = door.hear(slow, is_end)
    assert {wire.route_from_json(item).prefix for part in parts for item in part["part"]} == set(MANY)


def test_no_turn_does_more_than_a_slice(door: Door) -> None:
    """With time that flies each turn does one step: neighbours are read, then taken in, one by one."""
    door.ticks = count(0.0)
    wanted = speaker(*(neighbor(n) for n in range(1, 31)))
    client = door.connect()
    door.send(client, *telling(wanted))
    turns = 0
    while door.core.server.speaker != wanted:
        door.turn()
        turns += 1
    assert turns >= 30
    *signs, end = door.hear(client, is_end)
    assert end == {"id": 1, "result": True}
    assert all(sign == {"id": 1, "part": []} for sign in signs)


def test_a_speaker_is_taken_in_once(door: Door) -> None:
    """An equal one changes nothing; of another one only what is new is read."""
    wanted = speaker(neighbor(1), neighbor(2), neighbor(3, imports=ImportPolicy((PrefixRule.exact(MANY[0]),))))
    assert door.apply(wanted) == [{"id": 1, "result": True}]
    assert door.core.server.speaker == wanted
    known, steps = door.core.server.speaker.neighbors, door.core.steps
    assert door.apply(wanted) == [{"id": 1, "result": True}]
    assert door.core.steps == steps
    other = replace(wanted, neighbors=wanted.neighbors[1:], announcements=(Announcement(MANY[0]),))
    assert door.apply(other) == [{"id": 1, "result": True}]
    assert [id(n) for n in door.core.server.speaker.neighbors] == [id(n) for n in known[1:]]


def test_what_the_process_started_with_is_known(tmp_path: Path) -> None:
    """A new daemon tells it once more."""
    draft = Draft()
    wanted = draft.read(lines(speaker(neighbor(1), neighbor(2))))
    core = FakeCore(wanted)
    with Door(tmp_path / "s", core) as door:
        door.control = Control(core, door.listener, draft)
        assert door.apply(wanted) == [{"id": 1, "result": True}]
    assert core.steps == 0


def test_speakers_are_taken_in_one_after_another(door: Door) -> None:
    """The last one told is the one it is, and everybody is answered."""
    first, second = speaker(neighbor(1)), speaker(neighbor(1), neighbor(5))
    clients = [door.connect(), door.connect()]
    for client, wanted in zip(clients, (first, second), strict=True):
        door.send(client, *telling(wanted))
        door.turn()
    assert [door.hear(client, is_end)[-1] for client in clients] == [{"id": 1, "result": True}] * 2
    assert door.core.server.speaker == second


def test_a_speaker_is_taken_in_whole_although_the_daemon_dies(door: Door) -> None:
    """Half of it would be nobody's wish."""
    door.ticks = count(0.0)
    wanted = speaker(neighbor(1), neighbor(5))
    client = door.connect()
    door.send(client, *telling(wanted))
    while not door.control._changes:
        door.turn()
    client.close()
    door.until_idle()
    assert door.core.server.speaker == wanted
    half = door.connect()
    door.send(half, *telling(speaker(neighbor(9)))[:-1])
    door.until_idle()
    half.close()
    door.until_idle()
    assert door.core.server.speaker == wanted, "what was never told whole is nothing"


@pytest.mark.parametrize("failure", [EngineError("not that"), ZeroDivisionError("not that")])
def test_a_speaker_that_failed_is_tried_again(door: Door, failure: Exception) -> None:
    """The daemon asks again, and what was half done must not count as done."""
    wanted = replace(door.core.server.speaker)
    door.core.failure = failure
    other = speaker(neighbor(1))
    (answer,) = door.apply(other)
    assert "not that" in answer["error"]
    door.core.server.speaker = other
    assert door.apply(other) == [{"id": 1, "result": True}]
    assert door.core.steps == 2
    assert door.apply(wanted) == [{"id": 1, "result": True}]
    assert door.core.server.speaker == wanted


def test_a_watcher_is_told_everything_and_then_what_happens(door: Door) -> None:
    """News of best paths are made only while somebody wants them."""
    assert not watched(door)
    client, other = door.connect(), door.connect()
    door.core.say(1, MANY[:3])
    door.core.news()
    door.send(client, {"method": "watch"})
    door.send(other, {"method": "watch", "routes": False})
    heard = door.hear(client, lambda line: {"kind": "synced"} in line["events"])
    told = [wire.event_from_json(item) for line in heard for item in line["events"]]
    assert [event for event in told if isinstance(event, Best)] == [Best(p, attributes(1), "n1") for p in MANY[:3]]
    assert watched(door)
    door.core.unsay(1, MANY[:1])
    assert door.hear(client, lambda _: True) == [{"events": [wire.event_to_json(Best(MANY[0], None))]}]
    door.core.unsay(1, MANY[1:2])
    door.turn()
    assert door._epoll.poll(10), "who only waits for something to happen is called for what was published last"
    client.close()
    door.until_idle()
    assert not watched(door)
    quiet = door.hear(other, lambda line: {"kind": "synced"} in line["events"])
    assert {item["kind"] for line in quiet for item in line["events"]} == {"session", "synced"}


def test_a_watcher_that_does_not_listen_is_cut_off(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes again and starts with everything; memory does not grow meanwhile."""
    monkeypatch.setattr(answers, "BEHIND", 500_000)
    client = door.connect()
    door.send(client, {"method": "watch"})
    door.hear(client, lambda line: {"kind": "synced"} in line["events"])
    news = Bests(Family.IPV4, pack(MANY), None)
    for _ in range(20):
        door.control.publish([news])
        door.turn()
    assert not door.control._connections
    assert "watcher-cut-off" in capsys.readouterr().err
    assert len(door.hear(client, lambda _: False)) > 0, "what was written is read, then comes the end"
    door.control.publish([Synced()])


def test_the_number_of_a_closed_connection_is_nobody_elses_at_once(door: Door) -> None:
    """The loop would take the next one for the one that it watches already."""
    client = door.connect()
    door.until_idle()
    (before,) = door.control._connections
    client.close()
    following = door.connect()
    door.until_idle()
    (after,) = door.control._connections
    assert after != before
    door.send(following, {"method": "sessions"})
    assert door.hear(following, is_end)[-1] == {"id": 1, "result": True}


def test_without_descriptors_the_others_are_answered_on(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """EMFILE: who waits to be accepted does not keep the loop from sleeping, and is accepted after a while."""
    now = [100.0]
    door.ticks = (now[0] for _ in count())
    known, waiting = door.connect(), door.client()
    door.until_idle()
    with out_of_descriptors():
        waiting.connect(str(door.path))
        for time in (101.0, 102.0):
            door.turn()
            assert door._epoll.poll(0) == [], "nothing is ready any more"
            assert door.control.deadline() == time
            door.send(known, {"method": "sessions"})
            assert door.hear(known, is_end)[-1] == {"id": 1, "result": True}
            now[0] = time
            door.turn()
    assert door.control.deadline() is None
    door.send(waiting, {"method": "sessions"})
    assert door.hear(waiting, is_end)[-1] == {"id": 1, "result": True}
    assert capsys.readouterr().err.count("cannot-accept") == 2


def test_the_descriptor_of_who_leaves_is_for_who_waits(door: Door) -> None:
    """At once, however long it is until it would be tried again."""
    known, waiting = door.connect(), door.client()
    door.until_idle()
    with out_of_descriptors():
        waiting.connect(str(door.path))
        door.turn()
        assert door.control.deadline() is not None
        known.shutdown(socket.SHUT_RDWR)
        door.send(waiting, {"method": "sessions"})
        assert door.hear(waiting, is_end)[-1] == {"id": 1, "result": True}


def test_lines_are_read_as_they_are_used(door: Door) -> None:
    """Requests that wait for the one before them stay in the socket."""
    client = door.connect()
    door.core.say(1, MANY)
    door.send(client, ALL_ROUTES)
    door.until_idle()
    waiting = 0
    request = b'{"id": 1, "method": "sessions", "more": "' + b"x" * 60_000 + b'"}\n'
    try:
        while waiting < 64:
            client.send(request)
            waiting += 1
            door.turn()
    except BlockingIOError:
        pass
    assert waiting < 64
    (asking,) = door.control._connections.values()
    assert len(asking.inbox) <= 2 * connection.CHUNK + len(request)
