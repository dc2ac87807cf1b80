"""The sockets of the members: whatever a speaker wants done with its connection is done here, and what comes is given to it.

Called by `run` in a loop of its own; one thread, one poll for all. Nothing is decided here.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from routing.bgp.values import Address, Family
from routing.interop.place import Place
from routing.interop.speaker import Speaker
from routing.interop.world import PORT

_READ: Final = 1 << 18
_UNDER_WAY: Final = (0, errno.EINPROGRESS)


class Stage:
    """All speakers of the moment and their sockets; `servers` is where the device listens."""

    def __init__(self, place: Place, servers: dict[Family, Address]) -> None:
        """Begin with nobody."""
        self._place, self._servers = place, servers
        self._sockets: dict[Speaker, socket.socket] = {}
        self._poll = select.poll()

    def close(self) -> None:
        """Close every socket."""
        for speaker in list(self._sockets):
            self._drop(speaker)

    def turn(self, speakers: Iterable[Speaker], timeout: float) -> None:
        """Do what they want, then wait for whatever comes first, and read it."""
        now = time.monotonic()
        for speaker in speakers:
            if speaker.wants:
                self._connect(speaker)
            speaker.tick(now)
            self._write(speaker)
        by_number = {made.fileno(): speaker for speaker, made in self._sockets.items()}
        for number, events in self._poll.poll(timeout * 1000):
            speaker = by_number[number]
            if not speaker.open:
                self._arrived(speaker)
            elif events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._read(speaker)

    def _connect(self, speaker: Speaker) -> None:
        self._drop(speaker)
        made = self._sockets[speaker] = self._place.socket(speaker.me.family)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((str(speaker.me.address), 0))
        code = made.connect_ex((str(self._servers[speaker.me.family]), PORT))
        speaker.wants = False
        if code not in _UNDER_WAY:
            self._drop(speaker)
            speaker.failed()
            return
        self._poll.register(made, select.POLLOUT)

    def _arrived(self, speaker: Speaker) -> None:
        made = self._sockets[speaker]
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(speaker)
            speaker.failed()
            return
        speaker.connected()
        self._write(speaker)

    def _write(self, speaker: Speaker) -> None:
        made = self._sockets.get(speaker)
        if made is None or not speaker.open:
            return
        try:
            if speaker.outbox:
                del speaker.outbox[: made.send(speaker.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._read(speaker)  # a last word may have come
            return
        if speaker.hangs and not speaker.outbox:
            self._drop(speaker)
            speaker.lost()
            return
        self._poll.modify(made, select.POLLIN | (select.POLLOUT if speaker.outbox else 0))

    def _read(self, speaker: Speaker) -> None:
        try:
            data = self._sockets[speaker].recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            speaker.received(data, time.monotonic())
        else:
            self._drop(speaker)
            speaker.lost()

    def _drop(self, speaker: Speaker) -> None:
        made = self._sockets.pop(speaker, None)
        if made is not None:
            with suppress(KeyError):
                self._poll.unregister(made)
            made.close()
