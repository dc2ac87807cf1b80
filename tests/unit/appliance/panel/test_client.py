"""The client makes of every answer a value or an error of ours."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import (
    EdgewayError,
    EngineError,
    Finding,
    InternalError,
    KernelError,
    OperatorError,
    PeerError,
)
from appliance.panel.api import _error
from appliance.panel.client import Client


@contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[list[bytes]]:
    """Listen, keep what is asked once, and answer with these octets; None: with nothing."""
    asked: list[bytes] = []
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(_request(connection))
            if answer is None:
                done.wait(30)
            else:
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            done.set()
            thread.join(30)


def _request(connection: socket.socket) -> bytes:
    """Read a request whole: who answers half of one and closes breaks the pipe of who still writes."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(1 << 16)
    head, _, body = read.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body


def reply(value: object, status: str = "200 OK") -> bytes:
    """Return an HTTP answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a socket that is not there."""
    return tmp_path / "api.sock"


def test_a_view_is_asked_for_by_name_and_options(path: Path) -> None:
    """Options that are empty are not given."""
    with answering(path, reply([{"vpc": "red"}])) as asked:
        assert Client(path).show("routes", prefix="2001:db8::/32", neighbor="") == [{"vpc": "red"}]
    assert asked[0].startswith(b"GET /show/routes?prefix=2001%3Adb8%3A%3A%2F32 HTTP/1.1\r\n")


def test_a_name_is_part_of_one_path(path: Path) -> None:
    """Whatever stands in it."""
    with answering(path, reply([])) as asked:
        Client(path).show("../reload?x")
    assert asked[0].startswith(b"GET /show/..%2Freload%3Fx HTTP/1.1\r\n")


def test_an_intent_is_posted_as_json(path: Path) -> None:
    """With where it came from."""
    with answering(path, reply({"changed": {}})) as asked:
        assert Client(path).post("reload", {"text": "zone: ü", "file": "x"}) == {"changed": {}}
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /reload HTTP/1.1\r\n")
    assert json.loads(body) == {"text": "zone: ü", "file": "x"}


def test_without_a_daemon_the_error_says_what_to_do(path: Path) -> None:
    """Nothing there, or something that is no socket of a daemon."""
    client = Client(path)
    assert not client.answers
    with pytest.raises(OperatorError, match=r"No such file or directory .*edgeway run FILE --node NODE"):
        client.show("status")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert not client.answers
    with pytest.raises(OperatorError, match=r"no daemon answers at .*Connection refused"):
        client.show("status")


def test_a_path_that_is_too_long_for_a_socket_is_no_daemon(path: Path) -> None:
    """The kernel's limit is 107 octets."""
    client = Client(path / ("x" * 120))
    assert not client.answers
    with pytest.raises(OperatorError, match="no daemon answers"):
        client.show("status")


def test_a_daemon_that_is_silent_is_not_an_absent_one(path: Path) -> None:
    """It may be busy: trying again can help."""
    with answering(path, None), pytest.raises(EngineError, match=r"has not answered within 0.05 s") as caught:
        Client(path, timeout=0.05).show("status")
    assert caught.value.retry


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[", b"garbage\r\n"])
def test_a_daemon_that_goes_away_in_the_middle_is_told_as_that(path: Path, answer: bytes) -> None:
    """It was killed, perhaps."""
    with answering(path, answer), pytest.raises(EngineError, match="went away during the call"):
        Client(path).show("status")


def test_an_answer_that_is_not_json_is_a_bug(path: Path) -> None:
    """With the beginning of what it was."""
    with answering(path, reply(b"<html>", "502 Bad Gateway")), pytest.raises(InternalError, match="502 <html>"):
        Client(path).show("status")


def _retry(make: Callable[[str], EdgewayError]) -> EdgewayError:
    return make("it broke")


@pytest.mark.parametrize(
    "error",
    [
        OperatorError((Finding(3, 5, "zone.as", "wrong", "right it", file="x.yaml"), Finding(0, 0, "", "and this"))),
        KernelError("routes", "10.0.0.0/8", 16),
        KernelError("routes", "10.0.0.0/8", 22),
        _retry(EngineError),
        _retry(PeerError),
        _retry(InternalError),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_daemon_is_the_same_error_here(path: Path, error: EdgewayError) -> None:
    """Class, words, who must act and whether trying again can help."""
    with answering(path, reply(_error(error), "503 Service Unavailable")), pytest.raises(EdgewayError) as caught:
        Client(path).show("status")
    same: Any = caught.value
    assert type(same) is type(error)
    assert str(same) == str(error)
    assert (same.who, same.retry) == (error.who, error.retry)
    assert vars(same) == vars(error)
