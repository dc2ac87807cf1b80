"""Many BGP speakers in one thread: sockets, OPENs and received tables of neighbours that do as a test tells them.

One epoll for all, no thread and no clock of its own: a test calls `Crowd.turn` again and again. What a guest hears is read
by `routing.bgp.update`, which must find nothing wrong with it. Whatever ends a session without a reason the test has given
is a `surprise`. `Tended` is the engine that they are guests of.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from routing.bgp.attributes import downgrade, encode
from routing.bgp.encode import end_of_rib
from routing.bgp.hot import announce, split, withdraw
from routing.bgp.messages import (
    KEEPALIVE,
    KEEPALIVE_MESSAGE,
    NOTIFICATION,
    OPEN,
    SHORT_LIMIT,
    UPDATE,
    Notify,
    Open,
    decode_notification,
    decode_open,
    encode_open,
)
from routing.bgp.negotiation import LONG_LIMIT, Agreement, agree
from routing.bgp.nlri import each, pack
from routing.bgp.update import Format, read
from routing.bgp.values import Address, Attributes, Family, Network
from routing.engines.engine import Best, Event, Lost
from tests.support.engines import EngineOnLan, enter
from tests.support.lan import Lan

CODES = {family: family.value[0] << 8 | family.value[1] for family in Family}
READ = 1 << 18
_OUT, _IN, _BROKEN = select.EPOLLOUT, select.EPOLLIN, select.EPOLLHUP | select.EPOLLERR
#: What an engine says when the configuration has changed: RFC 4486 3 and 6, and 9, which may hold one of them.
_CONFIGURED = {(6, 3), (6, 6), (6, 9)}

Table = dict[tuple[Family, bytes], bytes]


@contextmanager
def maker(namespace: str) -> Iterator[Callable[[socket.AddressFamily], socket.socket]]:
    """Make TCP sockets that stand in a namespace while we stay where we are."""
    with ThreadPoolExecutor(1, initializer=enter, initargs=(namespace,)) as pool:
        yield lambda family: pool.submit(socket.socket, family, socket.SOCK_STREAM).result()


def add_addresses(lan: Lan, member: str, addresses: Iterable[Address]) -> None:
    """Give a member more addresses."""
    lines = "".join(f"address add {a}/{24 if a.version == 4 else 64} dev eth0\n" for a in addresses)
    subprocess.run(["ip", "-n", lan.namespace(member), "-batch", "-"], input=lines, text=True, check=True)


@lru_cache(maxsize=1 << 14)
def understood(
    withdrawn: bytes, attributes: bytes, nlri: bytes, format_: Format
) -> tuple[tuple[tuple[Family, bytes | None, tuple[bytes, ...]], ...], Family | None]:
    """Read an UPDATE: what becomes of which prefixes, or of which family it is the End-of-RIB. Nothing may be wrong."""
    update = read(withdrawn, attributes, nlri, format_)
    assert not update.malformed, f"malformed: {update.detail}: {attributes.hex()}"
    assert not update.detail, f"{update.detail}: {attributes.hex()}"
    gone = [(family, None, tuple(each(prefixes))) for family, prefixes in update.withdrawn]
    come = [(family, octets, tuple(each(prefixes))) for family, octets, prefixes in update.announced]
    return (*gone, *come), update.end_of_rib


@dataclass(eq=False)
class Guest:
    """One speaker: its end of at most one connection, what it said in this session and what it heard.

    `said`: what it announces now, None where it was malformed. `excused`: the session is to end, and that is why;
    `touched`: it may end, by a change of what the other end is.
    """

    crowd: Crowd
    address: Address
    server: Address
    open: Open
    tcp: socket.socket | None = None
    theirs: Open | None = None
    established: bool = False
    since: float = 0.0
    reading: bool = True
    excused: str = ""
    touched: bool = False
    ended: list[Notify | None] = field(default_factory=list)
    table: Table = field(default_factory=dict)
    ends: set[Family] = field(default_factory=set)
    said: dict[Network, Attributes | None] = field(default_factory=dict)
    heard: int = 0
    _agreed: Agreement | None = None
    _rest: bytes = b""
    _outbox: bytearray = field(default_factory=bytearray)
    _due: float = 0.0

    # -- the connection

    def connect(self, said: Open, *, instead: bytes = b"") -> None:
        """Begin a session, or say something else in the place of OPEN."""
        assert self.tcp is None
        family = socket.AF_INET if self.address.version == 4 else socket.AF_INET6
        made = self.tcp = self.crowd.make(family)
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((str(self.address), 0))
        self.open, self.theirs, self._agreed, self._rest, self._due = said, None, None, b"", 0.0
        self.established, self.reading, self.excused, self.touched = False, True, "", False
        self._outbox.clear()
        self._outbox += instead or encode_open(said)
        self._forget()
        code = made.connect_ex((str(self.server), 179))
        if code not in (0, errno.EINPROGRESS):
            self._close()
            return
        self.crowd.add(self, made)

    def close(self, *, last: bytes = b"") -> None:
        """End it, after last octets."""
        if self.tcp is not None:
            with contextlib.suppress(OSError):
                self.tcp.send(bytes(self._outbox) + last)
            self._close()

    def _close(self) -> None:
        if self.tcp is not None:
            self.crowd.remove(self.tcp)
            self.tcp.close()
        self.tcp, self.established = None, False
        self._forget()

    def _forget(self) -> None:
        self.table.clear()
        self.said.clear()
        self.ends.clear()

    # -- out

    def write(self, data: bytes) -> None:
        """Send octets, as soon as they go."""
        self._outbox += data
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self.tcp is None:
            return
        try:
            if self._outbox:
                del self._outbox[: self.tcp.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._over(None)
            return
        self.arm()

    def silent(self) -> bool:
        """Tell whether nothing waits to be sent."""
        return not self._outbox

    def arm(self) -> None:
        """Have the socket polled for what it can do."""
        if self.tcp is not None:
            self.crowd.poll(self.tcp, (_IN if self.reading else 0) | (_OUT if self._outbox else 0))

    def stop_reading(self) -> None:
        """Read nothing any more."""
        self.reading = False
        self.arm()

    def read_on(self) -> None:
        """Read again."""
        self.reading = True
        self.arm()

    @property
    def format(self) -> Format:
        """What was agreed on, as this end has it."""
        assert self._agreed is not None
        return self._agreed.format

    def as_seen(self) -> Agreement:
        """Return what was agreed on, as the other end has it."""
        assert self.theirs is not None
        return agree(self.theirs, self.open, self.open.asn, self.server)

    def announcement(self, attributes: Attributes, prefixes: list[Network], more: bytes = b"") -> bytes:
        """Write UPDATEs that announce prefixes of one family; `more` attributes stand at the end as octets."""
        octets = encode(attributes, Family.of(prefixes[0]))
        if not self.format.four_octet:
            octets = downgrade(octets)
        return announce(octets + more, pack(prefixes), self.format.limit)

    def announce(self, attributes: Attributes, prefixes: list[Network]) -> None:
        """Announce prefixes of one family."""
        self.write(self.announcement(attributes, prefixes))
        self.said.update(dict.fromkeys(prefixes, attributes))

    def withdraw(self, prefixes: list[Network]) -> None:
        """Withdraw prefixes of one family."""
        self.write(withdraw(CODES[Family.of(prefixes[0])], pack(prefixes), self.format.limit))
        for prefix in prefixes:
            self.said.pop(prefix, None)

    def say_end(self) -> None:
        """Say End-of-RIB of each family."""
        self.write(b"".join(end_of_rib(CODES[family]) for family in self.format.families))

    def keep_alive(self, now: float) -> None:
        """Say KEEPALIVE when it is time."""
        if self._agreed is not None and self._agreed.hold_time and self._due <= now:
            self._due = now + self._agreed.hold_time / 3
            self.write(KEEPALIVE_MESSAGE)

    # -- in

    def ready(self, events: int) -> None:
        """Serve the socket."""
        if events & _OUT:
            self.flush()
        if events & (_IN | _BROKEN) and self.tcp is not None:
            self._read(self.tcp)

    def _read(self, made: socket.socket) -> None:
        try:
            data = made.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._over(None)
            return
        self.heard += len(data)
        buffer = self._rest + data if self._rest else data
        found, consumed, fault = split(buffer, LONG_LIMIT if self.open.extended_message else SHORT_LIMIT)
        assert fault is None, f"{self.address} heard a bad header: {fault}"
        self._rest = buffer[consumed:]
        for message in found:
            self._hear(message)

    def _hear(self, message: tuple[Any, ...]) -> None:
        if self.tcp is None:
            return
        kind = message[0]
        if kind == UPDATE:
            self._update(*message[1:])
        elif kind == OPEN:
            self.theirs = decode_open(message[1])
            self._agreed = agree(self.open, self.theirs, self.theirs.asn, self.address)
            self.write(KEEPALIVE_MESSAGE)
        elif kind == KEEPALIVE and not self.established:
            self.established, self.since = True, time.monotonic()
        elif kind == NOTIFICATION:
            self._over(decode_notification(message[1]))

    def _update(self, withdrawn: bytes, attributes: bytes, nlri: bytes) -> None:
        told, end = understood(withdrawn, attributes, nlri, self.format)
        if end is not None:
            self.ends.add(end)
        for family, octets, prefixes in told:
            if octets is None:
                for prefix in prefixes:
                    self.table.pop((family, prefix), None)
            else:
                self.table.update({(family, prefix): octets for prefix in prefixes})

    def _over(self, notify: Notify | None) -> None:
        self.ended.append(notify)
        # What was said last is lost if something of ours was under way.
        configured = self.touched and (notify is None or (notify.code, notify.subcode) in _CONFIGURED)
        if self.established and not (self.excused or configured):
            self.crowd.surprises.append(f"{self.address} after {time.monotonic() - self.since:.1f} s: {notify}")
        self._close()


class Crowd:
    """All guests, and what happened to them for no reason."""

    def __init__(self, make: Callable[[socket.AddressFamily], socket.socket]) -> None:
        """Begin without guests; `make` makes their sockets."""
        self.make = make
        self.guests: list[Guest] = []
        self.surprises: list[str] = []
        self._epoll = select.epoll()
        self._at: dict[int, Guest] = {}

    def close(self) -> None:
        """Close every socket."""
        for guest in self.guests:
            guest.close()
        self._epoll.close()

    def guest(self, address: Address, server: Address, said: Open) -> Guest:
        """Add a guest."""
        made = Guest(self, address, server, said)
        self.guests.append(made)
        return made

    def turn(self, timeout: float = 0.05) -> None:
        """Serve whoever is ready, or wait for one."""
        now = time.monotonic()
        for guest in self.guests:
            guest.keep_alive(now)
        for fileno, events in self._epoll.poll(timeout, 256):
            if fileno in self._at:
                self._at[fileno].ready(events)

    def until(self, probe: Callable[[], object], *, within: float = 30.0, what: str = "the condition holds") -> None:
        """Turn until something is so. An AssertionError of the probe means: not yet."""
        deadline = time.monotonic() + within
        while True:
            cause: AssertionError | None = None
            try:
                if probe():
                    return
            except AssertionError as error:
                cause = error
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within:g} s: {what}; {cause or ''}") from cause
            self.turn()

    # -- for guests

    def add(self, guest: Guest, made: socket.socket) -> None:
        """Poll a socket."""
        self._at[made.fileno()] = guest
        self._epoll.register(made, _IN | _OUT)

    def poll(self, made: socket.socket, events: int) -> None:
        """Poll a socket for something else."""
        if made.fileno() in self._at:
            self._epoll.modify(made, events)

    def remove(self, made: socket.socket) -> None:
        """Poll a socket no more."""
        if self._at.pop(made.fileno(), None) is not None:
            self._epoll.unregister(made)


class Tended(EngineOnLan):
    """An engine whose events are not kept: only what they say of best paths so far, and how often it was lost."""

    losses = 0

    async def _collect(self, batches: AsyncIterator[tuple[Event, ...]]) -> None:
        async for batch in batches:
            for event in batch:
                if isinstance(event, Best):
                    self._note(event)
                elif isinstance(event, Lost):
                    self.losses += 1
                    self.best = {}

    @property
    def watching(self) -> bool:
        """Tell whether events are still collected."""
        return self._watching is not None and not self._watching.done()

    @property
    def directory(self) -> Path:
        """Return where the engine keeps its files."""
        return Path(self._directory.name)

    @property
    def pid(self) -> int:
        """Return the process."""
        return int((self.directory / "native.pid").read_text().split(maxsplit=1)[0])

    @property
    def resident(self) -> int:
        """Return the memory of the process, octets."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))

    @property
    def spent(self) -> float:
        """Return how long the process has computed, seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def complaints(self, but: str = "") -> list[str]:
        """Return what the log says that it never should, but for one thing that it may."""
        words = ("neighbor-dropped", "request-failed", "change-failed", "watcher-cut-off", "Traceback", "Error")
        lines = (self.directory / "native.log").read_text().splitlines()
        return [line for line in lines if any(word in line for word in words if word != but)]
