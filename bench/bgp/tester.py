"""The clients of an exchange: one epoll loop that speaks for all of them, in the namespace where it is made.

What a client says was encoded before. What it hears is stamped when it is read and looked at when nothing more is there
to be read, so that looking delays no server. Sessions are opened all at once; who is refused tries again.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from bench.bgp.exchange import PORT, Client
from bench.bgp.inbox import Inbox
from bench.bgp.messages import ALIVE, NOTIFICATION, REFRESH, opening
from bench.feeder import KEEPALIVE, OPEN
from routing.bgp.values import Address, Family

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHUNK: Final = 1 << 18
_AGAIN, _ALIVE_EVERY, _GLANCE = 0.5, 30.0, 0.02
#: Who has no session after so long begins anew: a full queue of a server lets connections hang for a minute.
_PATIENCE: Final = 8.0
#: What is read and not looked at yet may fill so much memory.
_MOST_PENDING: Final = 1 << 30
#: A server that has said nothing for so long will not be held up by looking.
_PAUSE: Final = 0.002
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR


class Failed(Exception):  # noqa: N818 - a finding about the server, no error of ours
    """A server did not do what it should have done in the time it had."""


class State(Enum):
    """States of RFC 4271 8.2.2, as far as the tester knows them."""

    IDLE = auto()
    CONNECT = auto()
    OPENSENT = auto()
    OPENCONFIRM = auto()
    ESTABLISHED = auto()


@dataclass(slots=True, eq=False)
class Session:
    """One client's session; who asks for its table again (RFC 2918) is sent `table`."""

    client: Client
    family: Family
    inbox: Inbox
    table: bytes = b""
    socket: socket.socket | None = None
    state: State = State.IDLE
    out: memoryview = field(default_factory=lambda: memoryview(b""))
    pending: list[tuple[float, bytes]] = field(default_factory=list)
    again: float = 0.0


class Tester:
    """All sessions of an exchange."""

    def __init__(self, server: Address, sessions: Sequence[Session]) -> None:
        """Open nothing yet."""
        self.sessions = tuple(sessions)
        self.refused = 0
        self._server = str(server)
        self._epoll = select.epoll()
        self._by_fd: dict[int, Session] = {}
        self._room = memoryview(bytearray(_CHUNK))
        self._pending = 0
        self._alive = time.monotonic() + _ALIVE_EVERY
        self._lost: list[str] = []
        self._looking: list[Session] = []

    def connect(self, within: float) -> float:
        """Establish all sessions; return how many seconds that took from the first SYN."""
        begun = time.monotonic()
        while waiting := [session for session in self.sessions if session.state is not State.ESTABLISHED]:
            now = time.monotonic()
            if now - begun > within:
                raise Failed(f"{len(waiting)} of {len(self.sessions)} sessions are not established after {within:g} s")
            for session in waiting:
                if session.state is not State.IDLE and now >= session.again:
                    self._drop(session, "hangs")
                if session.state is State.IDLE and now >= session.again:
                    self._dial(session)
            self.poll(_GLANCE)
        return time.monotonic() - begun

    def send(self, session: Session, data: bytes) -> None:
        """Send; what the kernel does not take at once follows."""
        session.out = memoryview(bytes(session.out) + data if session.out else data)
        self._flush(session)

    def leave(self, session: Session) -> None:
        """Have a client go for good, without a word."""
        self._drop(session, "it left")
        self.forgive()

    def forgive(self) -> int:
        """Forget that sessions were lost; return how many."""
        lost = len(self._lost)
        self._lost.clear()
        return lost

    def until(self, done: Callable[[], bool], within: float, what: str) -> None:
        """Serve the sessions until something is so."""
        end = time.monotonic() + within
        while not done():
            if self._lost:
                raise Failed(f"{what}: {self._lost[0]}")
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {within:g} s")
            self.poll(_GLANCE)

    def rest(self, seconds: float) -> None:
        """Serve the sessions for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.poll(min(left, _GLANCE))

    def poll(self, timeout: float) -> None:
        """Read what is there; look at it when that is all, for now; then wait for more."""
        events = self._epoll.poll(_PAUSE)
        if not events:
            self._look()
            events = self._epoll.poll(timeout)
        for fd, event in events:
            session = self._by_fd.get(fd)
            if session is not None:
                self._serve(session, event)
        if self._pending > _MOST_PENDING:
            self._look()
        if time.monotonic() > self._alive:
            self._keep_alive()

    def close(self) -> None:
        """Break everything off."""
        for session in self.sessions:
            if session.socket is not None:
                session.socket.close()
        self._epoll.close()

    def _serve(self, session: Session, event: int) -> None:
        if session.state is State.CONNECT:
            self._connected(session)
            return
        if event & select.EPOLLOUT:
            self._flush(session)
        if event & (select.EPOLLIN | _BROKEN) and session.socket is not None:
            self._read(session, session.socket)

    def _dial(self, session: Session) -> None:
        family = socket.AF_INET if session.family is Family.IPV4 else socket.AF_INET6
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((str(session.client.address), 0))
        made.connect_ex((self._server, PORT))
        session.socket, session.state, session.pending = made, State.CONNECT, []
        session.again = time.monotonic() + _PATIENCE
        self._by_fd[made.fileno()] = session
        self._epoll.register(made.fileno(), select.EPOLLOUT)

    def _connected(self, session: Session) -> None:
        assert session.socket is not None
        if session.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(session, "refused")
            return
        session.state = State.OPENSENT
        self._epoll.modify(session.socket.fileno(), select.EPOLLIN)
        self.send(session, opening(session.client, session.family))

    def _read(self, session: Session, source: socket.socket) -> None:
        try:
            data = bytes(self._room[: source.recv_into(self._room)])
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(session, errno.errorcode.get(error.errno or 0, str(error)))
            return
        if not data:
            self._look()
            self._drop(session, "the server closed the session")
            return
        if not session.pending:
            self._looking.append(session)
        session.pending.append((time.monotonic(), data))
        self._pending += len(data)

    def _look(self) -> None:
        """Look at everything that was read."""
        looking, self._looking, self._pending = self._looking, [], 0
        for session in looking:
            pending, session.pending = session.pending, []
            for at, data in pending:
                session.inbox.feed(data, at)
            for kind, body in session.inbox.others:
                self._heard(session, kind, body)
            session.inbox.others.clear()

    def _heard(self, session: Session, kind: int, body: bytes) -> None:
        if kind == OPEN and session.state is State.OPENSENT:
            session.state = State.OPENCONFIRM
            self.send(session, ALIVE)
        elif kind == KEEPALIVE and session.state is State.OPENCONFIRM:
            session.state = State.ESTABLISHED
        elif kind == REFRESH:
            self.send(session, session.table)
        elif kind == NOTIFICATION:
            self._drop(session, f"NOTIFICATION {body[0]}/{body[1]}")

    def _flush(self, session: Session) -> None:
        if session.socket is None:
            return
        try:
            while session.out:
                session.out = session.out[session.socket.send(session.out[:_CHUNK]) :]
        except BlockingIOError:
            self._epoll.modify(session.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
            return
        except OSError as error:
            self._drop(session, errno.errorcode.get(error.errno or 0, str(error)))
            return
        self._epoll.modify(session.socket.fileno(), select.EPOLLIN)

    def _drop(self, session: Session, why: str) -> None:
        """Let a session go; one that was not established is tried again."""
        if session.socket is None:
            return
        self._epoll.unregister(session.socket.fileno())
        del self._by_fd[session.socket.fileno()]
        session.socket.close()
        if session.state is State.ESTABLISHED:
            self._lost.append(f"client {session.client.number}: {why}")
        else:
            self.refused += 1
        session.socket, session.state, session.out = None, State.IDLE, memoryview(b"")
        session.again = time.monotonic() + _AGAIN
        session.inbox.forget()

    def _keep_alive(self) -> None:
        """Send KEEPALIVEs, never into the middle of something."""
        self._alive = time.monotonic() + _ALIVE_EVERY
        for session in self.sessions:
            if session.state is State.ESTABLISHED and not session.out:
                self.send(session, ALIVE)
