"""The loop of the native engine with real sockets on loopback, a clock that stands, and what it serves replaced by notes.

For tests of `routing.engines.native.loop`; it turns when the test says so.
"""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path

from routing.bgp.values import Address
from routing.engines.native.core import Action, Hang, Write
from routing.engines.native.loop import Loop
from tests.support.waiting import eventually

HERE = IPv4Address("127.0.0.1")
BIG = b"x" * 65536


class Notes:
    """A core that does what the test says, and writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.actions: list[Action] = []
        self.heard: dict[int, bytes] = {}
        self.unwanted: set[Address] = set()
        self.due: float | None = None
        self.order: list[int] = []
        self.failure: Exception | None = None
        #: To whom it has a last word.
        self.last: list[int] = []

    def accepted(self, connection: int, address: Address, local: Address, now: float) -> bool:
        """Take note."""
        self.told.append(("accepted", connection, address, local, now))
        return address not in self.unwanted

    def connected(self, connection: int, address: Address, local: Address, now: float) -> bool:
        """Take note."""
        self.told.append(("connected", connection, address, local, now))
        return address not in self.unwanted

    def connect_failed(self, address: Address, why: str, now: float) -> None:
        """Take note."""
        self.told.append(("failed", address, why, now))

    def received(self, connection: int, data: bytes, now: float) -> None:
        """Take note, or fail."""
        if self.failure is not None:
            raise self.failure
        self.heard[connection] = self.heard.get(connection, b"") + data
        self.order.append(connection)

    def disconnected(self, connection: int, now: float) -> None:
        """Take note."""
        self.told.append(("disconnected", connection))

    def written(self, connection: int, octets: int, now: float, *, waiting: bool) -> None:
        """Take note."""
        self.told.append(("written", connection, octets, waiting))

    def fall_behind(self, connection: int) -> None:
        """Take note."""
        self.told.append(("behind", connection))

    def catch_up(self, connection: int) -> None:
        """Take note."""
        self.told.append(("caught up", connection))

    def deadline(self) -> float | None:
        """Return what the test says."""
        return self.due

    def tick(self, now: float) -> None:
        """Take note; that was all that was due."""
        self.told.append(("tick", now))
        self.due = None

    def leave(self, now: float) -> None:
        """Take note, and write a last word to whom the test wants."""
        self.told.append(("leave", now))
        self.actions += [action for to in self.last for action in (Write(to, b"farewell"), Hang(to))]

    def settle(self) -> list[Action]:
        """Return what the test wants done."""
        actions, self.actions = self.actions, []
        return actions

    def of(self, *kinds: str) -> list[tuple[object, ...]]:
        """Return what was told of these kinds."""
        return [note for note in self.told if note[0] in kinds]


class Bench:
    """A loop that listens on loopback, and clients of it. It turns when the test says so."""

    def __init__(self, stack: ExitStack) -> None:
        self.now = 100.0
        self.notes = Notes()
        self.quiet: list[float] = []
        # As much of a core as it calls.
        self.loop = Loop(self.notes, clock=lambda: self.now, quiet=self.quiet.append)  # type: ignore[arg-type]
        stack.callback(self.loop.close)
        self.port = self.listen(HERE)
        self._stack = stack

    def listen(self, address: Address) -> int:
        """Listen on a free port."""
        self.loop.listen(address, 0)
        (*_, listener) = self.loop._listeners.values()
        port: int = listener.getsockname()[1]
        return port

    def client(self, last: int = 1, *, buffer: int | None = None) -> tuple[socket.socket, int]:
        """Connect from 127.0.1.x; return the socket and the loop's number for it. `buffer`: octets that it takes unread."""
        made = self._stack.enter_context(socket.socket())
        if buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            for listener in self.loop._listeners.values():
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        made.bind((f"127.0.1.{last}", 0))
        made.connect((str(HERE), self.port))
        made.setblocking(False)
        before = len(self.notes.of("accepted"))
        self.until(lambda: len(self.notes.of("accepted")) > before)
        number = self.notes.told[-1][1]
        assert isinstance(number, int)
        return made, number

    def turn(self) -> bool:
        """Serve what there is."""
        return self.loop.turn(0)

    def until(self, probe: Callable[[], object]) -> None:
        """Turn until something is so."""

        def turned() -> object:
            self.turn()
            return probe()

        eventually(turned, pause=0.01)

    def do(self, *actions: Action) -> None:
        """Have the core want something, and turn once."""
        self.notes.actions += actions
        self.turn()

    def read(self, client: socket.socket, size: int) -> bytes:
        """Let a client read so much, turning meanwhile."""
        found = bytearray()

        def enough() -> bool:
            with suppress(BlockingIOError):
                while len(found) < size and (data := client.recv(size - len(found))):
                    found.extend(data)
            return len(found) >= size

        self.until(enough)
        return bytes(found)

    def open(self, number: int) -> bool:
        """Tell whether a connection is kept."""
        return number in self.loop._numbered


def ended(client: socket.socket) -> bool:
    """Tell whether the other end has closed; what was written before is skipped."""
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


@contextmanager
def out_of_descriptors() -> Iterator[None]:
    """Let the process have no more files than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    with ExitStack() as stack:
        # Holes below the highest are filled.
        while (filled := os.dup(0)) < highest:
            stack.callback(os.close, filled)
        stack.callback(os.close, filled)
        resource.setrlimit(resource.RLIMIT_NOFILE, (filled + 1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Daemon:
    """Another side with a socket and something to do."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.far, self.near = socket.socketpair()
        self.events = select.EPOLLIN
        self.calls: list[tuple[object, ...]] = []
        self.left = 0
        self.due: float | None = None

    def filenos(self) -> dict[int, int]:
        """Return the socket, while there is anything to watch."""
        return {self.near.fileno(): self.events} if self.events else {}

    def ready(self, fileno: int, events: int) -> None:
        """Take note and read."""
        self.calls.append(("ready", fileno, events))
        self.near.recv(10)

    def work(self) -> bool:
        """Do one of the things that are left."""
        self.left -= self.left > 0
        return self.left > 0

    def settled(self, now: float) -> None:
        """Take note; end a loop that has nothing more to do."""
        self.calls.append(("settled", now))
        if self.left == 0 and self.due is None:
            self.loop.stop()

    def deadline(self) -> float | None:
        """Return what the test says."""
        return self.due
