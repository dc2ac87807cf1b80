"""The daemon's side door into the engine's process: requests and events as JSON lines on a Unix socket (`wire`).

Called by the process's epoll loop, beside which it must never be felt: whatever is long is done in steps, and `work` does
some of them a turn. A long answer is made only as fast as it is read; a watcher that does not read is cut off, comes again and
starts with everything. The request `apply` is followed by the lines of a speaker (`speaker_text`), which are read one a step.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final, Protocol

from appliance.model.errors import EdgewayError
from routing.bgp.values import Speaker
from routing.engines import answers
from routing.engines.answers import Shows, Watcher
from routing.engines.native.connection import Connection
from routing.engines.native.log import log
from routing.engines.native.loop import FULL, PAUSE
from routing.engines.speaker_text import Draft
from routing.engines.views import News

#: Seconds that one `work` may take, and between two signs of life while a speaker is taken in.
SLICE, SIGN = 0.01, 1.0
#: Octets of an answer that may wait.
AHEAD: Final = 1 << 18
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR


class Core(Shows, Protocol):
    """What is done with the engine's core."""

    def configure(self, speaker: Speaker, now: float) -> Iterator[None]:
        """Become another speaker, in steps."""
        ...

    def cease(self, subcode: int, now: float) -> None:
        """Part from all neighbours."""
        ...

    def watch(self, *, on: bool) -> None:
        """Make news of best paths, or not."""
        ...


@dataclass(slots=True, eq=False)
class Change:
    """A speaker that is to be taken in, and who waits for that."""

    connection: Connection
    speaker: Speaker
    steps: Iterator[None] | None = None
    signed: float = 0.0


class Control:
    """All connections of the daemon."""

    def __init__(
        self,
        core: Core,
        listener: socket.socket,
        draft: Draft | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Answer for `core`; `draft` is the one that its speaker was read by, if there is one."""
        self._core, self._listener, self._draft, self._clock = core, listener, draft, clock
        self._connections: dict[int, Connection] = {}
        self._changes: deque[Change] = deque()
        #: Whether the core is all of its speaker.
        self._whole = True
        self._leaving: list[socket.socket] = []
        self._left: list[socket.socket] = []
        #: When connections are accepted again, while there is no room for another one.
        self._deaf_until: float | None = None

    # -- the loop

    def filenos(self) -> dict[int, int]:
        """Return the descriptors to watch, with their epoll events.

        What was among them and is no more stays open until the next call, so that its number is nobody else's meanwhile.
        """
        for left in self._left:
            left.close()
        if self._left or (self._deaf_until is not None and self._deaf_until <= self._clock()):
            self._deaf_until = None
        self._left, self._leaving = self._leaving, []
        wanted = {fileno: connection.events for fileno, connection in self._connections.items()}
        return wanted if self._deaf_until is not None else {self._listener.fileno(): select.EPOLLIN, **wanted}

    def deadline(self) -> float | None:
        """Return when `filenos` will want something else although nothing happens."""
        return self._deaf_until

    def ready(self, fileno: int, events: int) -> None:
        """Serve a descriptor."""
        connection = self._connections.get(fileno)
        if connection is None:
            if fileno == self._listener.fileno():
                self._accept()
            return
        if events & (select.EPOLLIN | _BROKEN):
            self._read(connection)
        if events & select.EPOLLOUT and connection.socket.fileno() in self._connections:
            self._send(connection)

    def publish(self, news: Iterable[News]) -> None:
        """Tell all watchers; let go of those too far behind. It is `work` that writes; `filenos` calls for that."""
        news = tuple(news)
        for connection in list(self._connections.values()):
            if connection.watcher is not None and not connection.watcher.put(news):
                log("watcher-cut-off")
                self._drop(connection)

    def work(self) -> bool:
        """Do a slice of what is left to do; tell whether there is more."""
        until = self._clock() + SLICE
        # However little time there is.
        while (more := self._turn()) and self._clock() < until:
            pass
        for connection in list(self._connections.values()):
            if connection.outbox:
                self._send(connection)
        return more or any(c.answer is not None and len(c.outbox) <= AHEAD for c in self._connections.values())

    def _turn(self) -> bool:
        """Do a step of everything; tell whether there was one."""
        # Not `any`, which would let those behind the first wait.
        busy = [self._try(connection) for connection in list(self._connections.values())]
        return self._change() or True in busy

    def close(self) -> None:
        """Close every socket."""
        for left in (self._listener, *self._left, *self._leaving, *(c.socket for c in self._connections.values())):
            left.close()
        self._connections.clear()

    # -- sockets

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:
            if error.errno in FULL:
                # It stays ready, and would keep the loop from sleeping.
                log("cannot-accept", error=error.strerror)
                self._deaf_until = self._clock() + PAUSE
            return
        accepted.setblocking(False)  # noqa: FBT003 - as the library has it
        self._connections[accepted.fileno()] = Connection(accepted)

    def _read(self, connection: Connection) -> None:
        if not connection.read():
            self._drop(connection)

    def _send(self, connection: Connection) -> None:
        if not connection.send():
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Let a connection go. A speaker it has told is taken in all the same: half of it would be nobody's wish."""
        del self._connections[connection.socket.fileno()]
        connection.answer = None
        self._leaving.append(connection.socket)
        # Unless the other end was first.
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)
        self._watch()

    # -- requests

    def _try(self, connection: Connection) -> bool:
        """Do a step for one connection; tell whether there was one. A request of nonsense costs its connection."""
        try:
            return self._step(connection)
        except EdgewayError as error:
            connection.answer = None
            connection.outbox += answers.end(connection.request, str(error))
        except Exception as error:  # noqa: BLE001 - BGP is served on whatever is asked
            log("request-failed", error=repr(error))
            connection.outbox += answers.end(connection.request, f"the engine cannot answer: {error!r}")
            self._send(connection)
            if connection.socket.fileno() in self._connections:
                self._drop(connection)
        return True

    def _step(self, connection: Connection) -> bool:
        if connection.applying or len(connection.outbox) > AHEAD:
            return False
        if connection.answer is not None:
            step = next(connection.answer, None)
            if step is None:
                connection.answer = None
            else:
                connection.outbox += step
            return True
        if connection.watcher:
            connection.answer = connection.watcher.news()
            return True
        line = connection.line()
        if line is None:
            return False
        if connection.draft is None:
            self._begin(connection, json.loads(line))
        else:
            self._told(connection, connection.draft, line)
        return True

    def _begin(self, connection: Connection, request: dict[str, Any]) -> None:
        number = connection.request = request["id"]
        match request["method"]:
            case "apply":
                connection.draft = Draft(self._draft)
            case "sessions":
                connection.answer = answers.sessions(self._core, number, self._clock())
            case "routes":
                prefix = ip_network(request["prefix"]) if request["prefix"] else None
                connection.answer = answers.routes(self._core, number, prefix, request["neighbor"])
            case "watch":
                connection.watcher = Watcher(routes=request.get("routes", True))
                self._watch()
                connection.answer = connection.watcher.begin(self._core)
            case "cease":
                self._core.cease(request["subcode"], self._clock())
                connection.outbox += answers.end(number)
            case method:
                raise EdgewayError(f"no such method: {method}")

    def _watch(self) -> None:
        watchers = (connection.watcher for connection in self._connections.values())
        self._core.watch(on=any(watcher is not None and watcher.routes for watcher in watchers))

    # -- another speaker

    def _told(self, connection: Connection, draft: Draft, line: bytes) -> None:
        """Take in a line of a speaker."""
        speaker = draft.add(line)
        if speaker is not None:
            self._draft, connection.draft, connection.applying = draft, None, True
            self._changes.append(Change(connection, speaker, signed=self._clock()))

    def _change(self) -> bool:
        """Do a step towards the speaker that was told first; tell whether there was one."""
        if not self._changes:
            return False
        change, now = self._changes[0], self._clock()
        error = ""
        try:
            if self._advance(change, now):
                return True
        except EdgewayError as refused:
            error = str(refused)
        except Exception as failed:  # noqa: BLE001 - BGP is served on whatever is wanted
            log("change-failed", error=repr(failed))
            error = f"the engine cannot be this: {failed!r}"
        self._changes.popleft()
        change.connection.applying = False
        change.connection.outbox += answers.end(change.connection.request, error)
        return True

    def _advance(self, change: Change, now: float) -> bool:
        if change.steps is None:
            known = self._whole and change.speaker == self._core.server.speaker
            change.steps = iter(()) if known else self._core.configure(change.speaker, now)
            self._whole = known
        if now - change.signed > SIGN:
            change.signed = now
            change.connection.outbox += answers.patience(change.connection.request)
        if next(change.steps, self) is None:
            return True
        self._whole = True
        return False
