"""Sockets and clock of the engine's process: one epoll loop.

Called by `routing.engines.native.__main__`. A turn reads what there is, up to a budget, so that a burst is worked out in
batches and nobody waits long; then `Core.settle` says what is to be written. What a neighbour does not take yet stays queued as
references to buffers that all its equals share; one that takes nothing while much is queued falls behind (design 0008).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count
from typing import Protocol

from routing.bgp.values import Address
from routing.engines.native.core import Core, Dial, Hang, Trust, Write
from routing.engines.native.log import log
from routing.engines.native.outbox import Buffer

BGP_PORT = 179
#: Octets read from one socket at once, and from all in one turn.
READ, TURN = 1 << 18, 1 << 21
#: So much of a turn's budget is left when little was read.
QUIET = TURN - (1 << 14)
#: Octets that may wait for a neighbour before it falls behind.
HIGH = 16 << 20
#: How long an opening connection may leave octets unacknowledged, milliseconds; RFC 4271's own timer takes four minutes.
SILENCE = 30_000
#: Buffers for one system call; the kernel takes 1024.
GATHER = 128
#: Events of one turn: more than there are connections.
EVENTS = 4096
#: Connections accepted in one turn, and seconds without accepting any when there is no room for another one.
ACCEPTS, PAUSE = 256, 1.0
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: How the process ends when it cannot go on: EX_SOFTWARE of sysexits.h.
FAILED = 70
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_BROKEN = select.EPOLLHUP | select.EPOLLERR


class Side(Protocol):
    """What else the loop serves: the daemon (`service`)."""

    def filenos(self) -> dict[int, int]:
        """Return the descriptors to watch, with their epoll events."""
        ...

    def ready(self, fileno: int, events: int) -> None:
        """Serve a descriptor."""
        ...

    def work(self) -> bool:
        """Do a bounded slice of what is left to do; tell whether there is more."""
        ...

    def settled(self, now: float) -> None:
        """Take note that a turn is over."""
        ...

    def deadline(self) -> float | None:
        """Return when `settled` has something to do next."""
        ...


@dataclass(slots=True, eq=False)
class Wire:
    """One TCP connection; `dialling` until it stands. Its number is never another's, as a descriptor may be."""

    number: int
    socket: socket.socket
    address: Address
    dialling: bool = False
    waiting: deque[Buffer] = field(default_factory=deque)
    #: Octets in `waiting`, and how many of the first are written.
    size: int = 0
    sent: int = 0
    armed: bool = False
    behind: bool = False


class Loop:
    """All connections of one speaker."""

    def __init__(
        self,
        core: Core,
        clock: Callable[[], float] = time.monotonic,
        quiet: Callable[[float], None] = lambda now: None,  # noqa: ARG005 - nothing to do
    ) -> None:
        """Serve `core`, and call `quiet` after turns that brought little; `listen` and `run` come next."""
        self._core, self._clock, self._quiet = core, clock, quiet
        self._epoll = select.epoll()
        self._listeners: dict[int, socket.socket] = {}
        self._wires: dict[int, Wire] = {}
        self._numbered: dict[int, Wire] = {}
        self._number = count()
        self._dialling: dict[Address, Wire] = {}
        self._fresh: dict[Wire, None] = {}
        self._late: dict[int, int] = {}
        self._deaf_until: float | None = None
        self._side: Side | None = None
        self._watched: dict[int, int] = {}
        self._stopped = False
        # A poll that a signal interrupts is taken up again.
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._woken, _IN)

    def listen(self, address: Address, port: int) -> None:
        """Accept connections; the address need not be there yet."""
        family = _family(address)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(*_FREEBIND[family], 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(address), port))
        listener.listen(1024)
        listener.setblocking(False)  # noqa: FBT003 - as the library has it
        self._listeners[listener.fileno()] = listener
        self._epoll.register(listener, _IN)

    def serve(self, side: Side) -> None:
        """Serve the daemon as well."""
        self._side = side
        self._watch(side.filenos())

    def stop(self) -> None:
        """End `run` after this turn; a signal handler may call it."""
        self._stopped = True
        os.eventfd_write(self._woken, 1)

    def run(self) -> None:
        """Turn until stopped, and take leave.

        What fails while consequences are worked out leaves nobody knows which of them untold: to go on would be to tell
        neighbours a table that is not ours. The process ends, without a NOTIFICATION: whoever agreed on graceful restart
        keeps our routes until the next process tells them anew (RFC 4724 4.2).
        """
        more = False
        try:
            while not self._stopped:
                more = self.turn(0 if more else self._patience())
            now = self._clock()
            self._core.leave(now)
            self._settle(now)
        except Exception as error:
            log("engine-failed", error=traceback.format_exc())
            raise SystemExit(FAILED) from error

    def turn(self, timeout: float) -> bool:
        """Wait for something at most so long, seconds (-1: for ever), and serve it; tell whether work is left."""
        ready = self._epoll.poll(timeout, EVENTS)
        now = self._clock()
        left = self._serve(ready, now)
        if self._deaf_until is not None and self._deaf_until <= now:
            self._hark(None)
        due = self._core.deadline()
        if due is not None and due <= now:
            self._core.tick(now)
        more = self._side is not None and self._side.work()
        self._settle(now)
        if left > QUIET and not more:
            self._quiet(now)
        if self._side is not None:
            self._side.settled(now)
            self._watch(self._side.filenos())
        return more

    def close(self) -> None:
        """Close every socket."""
        for listener in self._listeners.values():
            listener.close()
        for wire in self._wires.values():
            wire.socket.close()
        self._epoll.close()
        os.close(self._woken)

    def _patience(self) -> float:
        times = (self._core.deadline(), None if self._side is None else self._side.deadline(), self._deaf_until)
        due = min((time for time in times if time is not None), default=None)
        return -1 if due is None else max(0.0, due - self._clock())

    def _serve(self, ready: list[tuple[int, int]], now: float) -> int:
        """Serve descriptors up to a budget; return what is left of that.

        The kernel reports in the same order again: who had to wait is served first in the next turn.
        """
        if self._late:
            ready.sort(key=lambda event: self._late.get(event[0], EVENTS))
        left, served = TURN, 0
        for fileno, events in ready:
            if left <= 0:
                break
            left -= self._ready(fileno, events, now)
            served += 1
        self._late = {fileno: place for place, (fileno, _) in enumerate(ready[served:])}
        return left

    def _ready(self, fileno: int, events: int, now: float) -> int:
        """Serve one descriptor; return how many octets were read."""
        wire = self._wires.get(fileno)
        if wire is None:
            if fileno in self._listeners:
                self._accept(self._listeners[fileno], now)
            elif self._side is not None and fileno in self._watched:
                self._side.ready(fileno, events)
            return 0
        if wire.dialling:
            self._dialled(wire, now)
            return 0
        if events & _OUT:
            self._flush(wire, now)
        if events & (_IN | _BROKEN) and wire.number in self._numbered:
            return self._read(wire, now)
        return 0

    # -- in

    def _accept(self, listener: socket.socket, now: float) -> None:
        for _ in range(ACCEPTS):
            try:
                accepted, remote = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in FULL:
                    # It stays ready, and would keep us from sleeping.
                    log("cannot-accept", error=error.strerror)
                    self._hark(now + PAUSE)
                    return
                # That connection is gone already.
                continue
            wire = self._wire(accepted, ip_address(remote[0].partition("%")[0]))
            self._add(wire, _IN)
            if not self._core.accepted(wire.number, wire.address, _local(accepted), now):
                self._drop(wire)

    def _hark(self, deaf_until: float | None) -> None:
        """Accept connections, or none for a while."""
        self._deaf_until = deaf_until
        for listener in self._listeners.values():
            self._epoll.modify(listener, _IN if deaf_until is None else 0)

    def _dial(self, dial: Dial, now: float) -> None:
        late = self._dialling.pop(dial.address, None)
        if late is not None:
            self._drop(late)
        try:
            made = _connecting(dial)
        except OSError as error:
            self._core.connect_failed(dial.address, os.strerror(error.errno or errno.EINVAL), now)
            return
        wire = self._dialling[dial.address] = self._wire(made, dial.address)
        wire.dialling = True
        self._add(wire, _OUT)

    def _dialled(self, wire: Wire, now: float) -> None:
        del self._dialling[wire.address]
        code = wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._drop(wire)
            self._core.connect_failed(wire.address, os.strerror(code), now)
            return
        wire.dialling = False
        self._epoll.modify(wire.socket, _IN)
        if not self._core.connected(wire.number, wire.address, _local(wire.socket), now):
            self._drop(wire)

    def _read(self, wire: Wire, now: float) -> int:
        try:
            data = wire.socket.recv(READ)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self._lost(wire, now)
            return 0
        try:
            self._core.received(wire.number, data, now)
        except Exception:  # noqa: BLE001 - whatever a neighbour sends is no reason to fail the others
            log("neighbor-dropped", address=str(wire.address), error=traceback.format_exc())
            if wire.number in self._numbered:
                self._lost(wire, now)
        return len(data)

    def _drain(self, wire: Wire, now: float) -> None:
        """Take in what a neighbour said before its connection broke: perhaps the NOTIFICATION that says why."""
        while wire.number in self._numbered and self._read(wire, now):
            pass
        if wire.number in self._numbered:
            self._lost(wire, now)

    # -- out

    def _settle(self, now: float) -> None:
        while actions := self._core.settle():
            for action in actions:
                match action:
                    case Write():
                        self._queue(action)
                    case Hang():
                        self._hang(action.connection)
                    case Dial():
                        self._dial(action, now)
                    case Trust():
                        self._trust(action.connection)
            fresh, self._fresh = self._fresh, {}
            for wire in fresh:
                if wire.number in self._numbered and not wire.armed:
                    self._flush(wire, now)

    def _queue(self, write: Write) -> None:
        wire = self._numbered.get(write.connection)
        if wire is None:
            return
        wire.waiting.append(write.data)
        wire.size += len(write.data)
        self._fresh[wire] = None
        if wire.size > HIGH and wire.armed and not wire.behind:
            wire.behind = True
            self._core.fall_behind(write.connection)

    def _flush(self, wire: Wire, now: float) -> None:
        before = wire.size
        try:
            while wire.waiting:
                self._write(wire)
        except BlockingIOError:
            pass
        except OSError:
            self._drain(wire, now)
            return
        if wire.armed or wire.waiting:
            self._core.written(wire.number, before - wire.size, now, waiting=bool(wire.waiting))
        self._arm(wire, wanted=bool(wire.waiting))
        if wire.behind and not wire.waiting:
            wire.behind = False
            self._core.catch_up(wire.number)

    @staticmethod
    def _write(wire: Wire) -> None:
        """Write as much as one call takes."""
        waiting = wire.waiting
        some = [waiting[number] for number in range(min(len(waiting), GATHER))]
        if wire.sent:
            some[0] = memoryview(some[0])[wire.sent :]
        done = wire.socket.sendmsg(some)
        wire.size -= done
        done += wire.sent
        while waiting and done >= len(waiting[0]):
            done -= len(waiting.popleft())
        wire.sent = done

    def _arm(self, wire: Wire, *, wanted: bool) -> None:
        if wanted != wire.armed:
            wire.armed = wanted
            self._epoll.modify(wire.socket, _IN | _OUT if wanted else _IN)

    # -- connections

    def _wire(self, made: socket.socket, address: Address) -> Wire:
        made.setblocking(False)  # noqa: FBT003 - as the library has it
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE)
        return Wire(next(self._number), made, address)

    def _add(self, wire: Wire, events: int) -> None:
        self._wires[wire.socket.fileno()] = self._numbered[wire.number] = wire
        self._epoll.register(wire.socket, events)

    def _lost(self, wire: Wire, now: float) -> None:
        self._drop(wire)
        self._core.disconnected(wire.number, now)

    def _hang(self, number: int) -> None:
        """Close after the last word: what waited before it may be lost, as RFC 4271 6 has it."""
        wire = self._numbered.get(number)
        if wire is None:
            return
        with contextlib.suppress(OSError):
            while wire.waiting:
                self._write(wire)
        self._drop(wire)

    def _trust(self, number: int) -> None:
        wire = self._numbered.get(number)
        if wire is not None:
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)

    def _drop(self, wire: Wire) -> None:
        del self._wires[wire.socket.fileno()], self._numbered[wire.number]
        self._epoll.unregister(wire.socket)
        wire.socket.close()

    def _watch(self, wanted: dict[int, int]) -> None:
        """Have the descriptors of the side door watched as it wants."""
        for fileno in self._watched.keys() - wanted.keys():
            # Closed descriptors have left by themselves.
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(fileno)
        for fileno, events in wanted.items():
            if fileno not in self._watched:
                self._epoll.register(fileno, events)
            elif self._watched[fileno] != events:
                self._epoll.modify(fileno, events)
        self._watched = wanted


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP version


def _connecting(dial: Dial) -> socket.socket:
    """Return a socket that begins to connect; OSError if there is none, or no way."""
    family = _family(dial.address)
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if dial.local is not None:
            made.setsockopt(*_FREEBIND[family], 1)
            made.bind((str(dial.local), 0))
        code = made.connect_ex((str(dial.address), BGP_PORT))
    except OSError as error:
        code = error.errno or errno.EINVAL
    if code in (0, errno.EINPROGRESS):
        return made
    made.close()
    raise OSError(code, os.strerror(code))


def _local(connected: socket.socket) -> Address:
    return ip_address(connected.getsockname()[0].partition("%")[0])
