from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from routing.engines.answers import Watcher
from routing.engines.engine import Synced
from routing.engines.native import connection
from routing.engines.native.connection import Connection, listen


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """Give a connection and its other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield Connection(ours), theirs


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    """The process becomes another user; the daemon is the owner. What a killed process left is in nobody's way."""
    path = tmp_path / "rib.sock"
    with listen(path):
        assert path.stat().st_mode & 0o777 == 0o600
    with listen(path) as again, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        again.accept()[0].close()


def test_lines_come_whole_however_they_were_sent(ends: tuple[Connection, socket.socket]) -> None:
    """In pieces, or several at once."""
    ours, theirs = ends
    assert ours.read()
    for piece, lines in ((b"on", []), (b"e\ntwo\n\nfo", [b"one", b"two", b""]), (b"ur\n", [b"four"])):
        theirs.send(piece)
        assert ours.read()
        found = []
        while (line := ours.line()) is not None:
            found.append(line)
        assert found == lines


def test_what_waits_is_written_as_the_other_end_reads(ends: tuple[Connection, socket.socket]) -> None:
    """And the loop is to call for that."""
    ours, theirs = ends
    ours.outbox += b"x" * 3_000_000
    read = 0
    while ours.outbox:
        assert ours.events & select.EPOLLOUT
        before = len(ours.outbox)
        assert ours.send()
        read += len(theirs.recv(1 << 20)) if len(ours.outbox) == before else 0
    assert 0 < read < 3_000_000
    assert not ours.events & select.EPOLLOUT
    ours.watcher = Watcher(routes=True)
    assert not ours.events & select.EPOLLOUT
    ours.watcher.put([Synced()])
    assert ours.events & select.EPOLLOUT


def test_it_is_not_read_while_lines_wait(
    ends: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But what is no line yet must become one."""
    monkeypatch.setattr(connection, "CHUNK", 10)
    ours, theirs = ends
    theirs.send(b"a" * 19 + b"\n" + b"b" * 15)
    while len(ours.inbox) < 20:
        assert ours.events & select.EPOLLIN
        assert ours.read()
    assert not ours.events & select.EPOLLIN
    assert ours.line() == b"a" * 19
    assert ours.events & select.EPOLLIN


def test_the_end_is_noticed_in_both_directions(
    ends: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is what will never be a line."""
    monkeypatch.setattr(connection, "LIMIT", 5)
    ours, theirs = ends
    theirs.send(b"endless")
    assert not ours.read()
    theirs.close()
    assert not ours.read()
    ours.outbox += b"x"
    assert not ours.send()
