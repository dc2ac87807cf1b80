from __future__ import annotations

import errno
import json
import os
import select
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from routing.bgp.values import Address
from routing.engines.engine import Session, SessionState
from routing.engines.files import Files
from routing.engines.native.connection import listen
from routing.engines.native.control import Control
from routing.engines.native.service import AGAIN, PAUSE, Service
from routing.engines.views import News
from tests.support.fake_core import FakeCore, at, neighbor, speaker

NUMBERS = range(1, 5)


class Eventful(FakeCore):
    """A core that has news when a session comes or goes, as the real one does."""

    def __init__(self, awaited: Iterable[Address] = ()) -> None:
        super().__init__(speaker(*(neighbor(number) for number in NUMBERS)), awaited)
        self.events: list[News] = []

    def come(self, number: int, now: float = 0) -> None:
        """Bring a session up."""
        self.up(number, now)
        self.events.append(Session(f"n{number}", at(number), SessionState.ESTABLISHED, ""))

    def go(self, number: int, now: float = 0) -> None:
        """Bring it down."""
        self.server.session_down(at(number), now, graceful=False)
        self.events.append(Session(f"n{number}", at(number), SessionState.ACTIVE, "gone"))

    def take_events(self) -> tuple[News, ...]:
        """Return what is new."""
        events, self.events = (*self.events, *self.news()), []
        return events


class Counted(Files):
    """Files that remember what was written; `failing` is what writing fails with."""

    written: list[tuple[Address, ...]]
    failing: int | None = None

    def write_established(self, addresses: Iterable[Address]) -> None:
        """Write."""
        if self.failing is not None:
            raise OSError(self.failing, os.strerror(self.failing))
        self.written.append(tuple(addresses))
        super().write_established(self.written[-1])


class Bench:
    """A service between a core, a control socket and files."""

    def __init__(self, place: Path, awaited: Iterable[Address] = ()) -> None:
        self.place = place
        self.core = Eventful(awaited)
        self.control = Control(self.core, listen(place / "rib.sock"))
        self.files = Counted.apart(place)
        self.files.written = []
        self.service = Service(self.core, self.control, self.files)  # type: ignore[arg-type] # as much of a core as it uses

    def kept(self) -> tuple[Address, ...]:
        """Return what the next process will read."""
        return Files.apart(self.place).established()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Make a service whose core has nobody to wait for and has said so."""
    made = Bench(tmp_path)
    made.service.settled(0)
    yield made
    made.control.close()


def test_who_is_up_is_kept_for_the_next_process(bench: Bench) -> None:
    """At once, when a session comes and when one goes."""
    bench.core.come(1)
    bench.core.come(2)
    bench.service.settled(10)
    assert bench.kept() == (at(1), at(2))
    bench.core.go(1)
    bench.service.settled(20)
    assert bench.kept() == (at(2),)


def test_many_that_come_together_are_few_files(bench: Bench) -> None:
    """One, and the rest after a pause: in it the deadline says when, and nothing is lost."""
    bench.files.written.clear()
    for number in NUMBERS:
        bench.core.come(number)
        bench.service.settled(10 + number / 100)
    assert bench.files.written == [(at(1),)]
    due = bench.service.deadline()
    assert due == 10.01 + PAUSE
    bench.service.settled(due)
    assert bench.kept() == tuple(at(number) for number in NUMBERS)
    assert bench.service.deadline() is None


def test_what_changes_nothing_is_not_written(bench: Bench) -> None:
    """A session that came and went between two files."""
    bench.core.come(1)
    bench.service.settled(10)
    bench.files.written.clear()
    bench.core.come(2)
    bench.core.go(2)
    bench.service.settled(20)
    bench.service.settled(21)
    assert bench.files.written == []
    assert bench.service.deadline() is None


def test_before_convergence_the_file_says_whom_the_process_before_knew(tmp_path: Path) -> None:
    """If this one dies too, all of them are still awaited by the next."""
    before = Files.apart(tmp_path)
    before.write_established([at(1), at(2)])
    bench = Bench(tmp_path, before.established())
    bench.core.come(1)
    bench.service.settled(5)
    assert bench.service.deadline() is None
    assert bench.kept() == (at(1), at(2))
    bench.core.server.tick(100)
    bench.service.settled(100)
    assert bench.kept() == (at(1),)
    bench.control.close()


def test_nobody_came_back_and_that_is_kept(tmp_path: Path) -> None:
    """The next process shall not wait for them once more."""
    before = Files.apart(tmp_path)
    before.write_established([at(1), at(2)])
    bench = Bench(tmp_path, before.established())
    bench.service.settled(0)
    assert bench.kept() == (at(1), at(2))
    bench.core.server.tick(100)
    bench.service.settled(100)
    assert bench.kept() == ()
    bench.control.close()


def test_a_full_disk_ends_no_session(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said in the log, and tried again later, whether or not anything happens until then."""
    bench.files.failing = errno.ENOSPC
    bench.core.come(1)
    bench.service.settled(10)
    assert "established-not-kept" in capsys.readouterr().err
    assert bench.service.deadline() == 10 + AGAIN
    bench.core.come(2)
    bench.service.settled(11)
    assert (bench.service.deadline(), capsys.readouterr().err) == (10 + AGAIN, "")
    bench.files.failing = None
    bench.service.settled(10 + AGAIN)
    assert bench.kept() == (at(1), at(2))
    assert bench.service.deadline() is None


def test_the_loop_is_woken_for_the_next_of_both(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, and the door that is shut for a while."""
    assert bench.service.deadline() is None
    monkeypatch.setattr(bench.control, "deadline", lambda: 7.0)
    assert bench.service.deadline() == 7.0
    monkeypatch.setattr(bench.service, "_due", 5.0)
    assert bench.service.deadline() == 5.0
    monkeypatch.setattr(bench.control, "deadline", lambda: 4.0)
    assert bench.service.deadline() == 4.0


def test_watchers_are_told_what_happens(bench: Bench) -> None:
    """Through the descriptors that it wants to be watched, and by the work that it has to do."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(bench.place / "rib.sock"))
        client.send(b'{"id": 1, "method": "watch"}\n')
        (listener,) = bench.service.filenos()
        bench.service.ready(listener, select.EPOLLIN)
        (connection,) = bench.service.filenos().keys() - {listener}
        bench.service.ready(connection, select.EPOLLIN)
        while bench.service.work():
            pass
        bench.core.come(3)
        bench.service.settled(10)
        while bench.service.work():
            pass
        client.settimeout(10)
        told = [event for line in client.recv(1 << 16).splitlines() for event in json.loads(line)["events"]]
    assert "192.0.2.3" in json.dumps(told[-1])


def test_a_quiet_turn_costs_the_watchers_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is published where nothing happened."""
    published: list[object] = []
    monkeypatch.setattr(bench.control, "publish", published.append)
    bench.service.settled(10)
    assert published == []
    bench.core.come(1)
    bench.service.settled(11)
    assert len(published) == 1
