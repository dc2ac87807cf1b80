"""One connection of the daemon to the engine's process: lines in, octets out, nothing that waits for the other end.

Called by `control`, which also says what to answer.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from routing.engines.answers import Watcher
from routing.engines.speaker_text import Draft

#: Octets read or written at once.
CHUNK: Final = 1 << 18
#: No line may be longer.
LIMIT = 64 << 20


def listen(path: Path) -> socket.socket:
    """Listen on a socket that only our user, before it is another one, may open."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen()
    listener.setblocking(False)  # noqa: FBT003 - as the library has it
    return listener


@dataclass(slots=True, eq=False)
class Connection:
    """One connection of the daemon, and what it is being answered: the next request waits until that is done.

    `searched` octets of `inbox` hold no line end.
    """

    socket: socket.socket
    inbox: bytearray = field(default_factory=bytearray)
    searched: int = 0
    outbox: bytearray = field(default_factory=bytearray)
    answer: Iterator[bytes] | None = None
    request: int = 0
    draft: Draft | None = None
    applying: bool = False
    watcher: Watcher | None = None

    def line(self) -> bytes | None:
        """Take the next whole line."""
        end = self.inbox.find(b"\n", self.searched)
        if end < 0:
            self.searched = len(self.inbox)
            return None
        line = bytes(memoryview(self.inbox)[:end])
        del self.inbox[: end + 1]
        self.searched = 0
        return line

    @property
    def events(self) -> int:
        """What it is to be polled for; it is not read while lines wait, and news are to be written as well."""
        full = len(self.inbox) > CHUNK and self.inbox.find(b"\n", self.searched) >= 0
        return (0 if full else select.EPOLLIN) | (select.EPOLLOUT if self.outbox or self.watcher else 0)

    def read(self) -> bool:
        """Read what there is, up to a bound; tell whether the connection is still good."""
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.inbox += data
        return bool(data) and (len(self.inbox) <= LIMIT or self.inbox.find(b"\n") >= 0)

    def send(self) -> bool:
        """Write what the other end takes, up to a bound; tell whether the connection is still good."""
        try:
            with memoryview(self.outbox) as waiting:
                sent = self.socket.send(waiting[:CHUNK])
        except BlockingIOError:
            return True
        except OSError:
            return False
        del self.outbox[:sent]
        return True
