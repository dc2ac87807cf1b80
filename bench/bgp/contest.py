"""One server among its clients: started, all sessions up, and then phase after phase of something said and awaited."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.bgp import usage
from bench.bgp.dut import Dut
from bench.bgp.exchange import Exchange
from bench.bgp.ground import CLIENTS, Ground, ground
from bench.bgp.inbox import Inbox, span
from bench.bgp.tables import Table
from bench.bgp.tester import Failed, Session, Tester

#: How long one waits for all sessions.
CONNECTED: Final = 240.0
#: A server rests when it has computed less than so much in each look for so long; it need not rest for ever.
_NOISE, _QUIET, _LOOK, _MOST = 0.0005, 0.5, 0.02, 10.0

#: Octets of prefixes that are announced to a client, and withdrawn.
Goal = tuple[int, int]
#: What each client announces, by its number.
Tables = Mapping[int, Table]


@dataclass(frozen=True, slots=True)
class Phase:
    """From the first octet sent until the last client knows: seconds; CPU seconds until the server rests, its memory.

    `more` is how many octets of prefixes came besides what was expected, to those of whom something was expected.
    """

    seconds: float
    cpu: float
    mib: float
    updates: int = 0
    more: int = 0


@dataclass
class Contest:
    """A server that runs, and its clients' sessions in the order of their numbers."""

    dut: Dut
    ground: Ground
    home: Path
    tester: Tester
    roots: tuple[int, ...]
    established: float = 0.0
    pids: list[int] = field(default_factory=list)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Return the session of each client."""
        return self.tester.sessions

    def connect(self, within: float) -> None:
        """Establish all sessions, and let what follows from that end."""
        self.established = self.tester.connect(within)
        self.pids = usage.tree(*self.roots)
        self.settle()
        # FRR at times closes a session that has just been established; a client comes again.
        if self.tester.forgive():
            self.established += self.tester.connect(within)
            self.settle()

    def start_up(self) -> Phase:
        """Return what it took until all sessions were established: the time of the sessions, CPU and memory of all."""
        return Phase(self.established, usage.cpu(*self.pids), usage.peak(*self.pids))

    def settle(self) -> None:
        """Serve the sessions until the server rests."""
        end = time.monotonic() + _MOST
        done, last = usage.cpu(*self.pids), time.monotonic()
        while (now := time.monotonic()) - last < _QUIET and now < end:
            self.tester.rest(_LOOK)
            spent = usage.cpu(*self.pids)
            if spent - done > _NOISE:
                last = time.monotonic()
            done = spent

    def phase(
        self, what: str, words: Mapping[Session, bytes], goals: Mapping[Session, Goal], within: float = 0.0
    ) -> Phase:
        """Say something, wait until everybody knows who should."""
        for session in self.sessions:
            session.inbox.expect(*goals.get(session, (0, 0)))
        heard, updates = _heard(goals), _updates(self.sessions)
        before, begun = usage.cpu(*self.pids), time.monotonic()
        for session, octets in words.items():
            self.tester.send(session, octets)
        waiting = list(goals)
        self.tester.until(lambda: _all_reached(waiting), within or self.dut.within, what)
        ended = max(session.inbox.reached or begun for session in goals)
        self.settle()
        return Phase(
            seconds=ended - begun,
            cpu=usage.cpu(*self.pids) - before,
            mib=usage.peak(*self.pids),
            updates=_updates(self.sessions) - updates,
            more=_heard(goals) - heard - sum(map(sum, goals.values())),
        )


def _all_reached(waiting: list[Session]) -> bool:
    while waiting and waiting[-1].inbox.reached is not None:
        waiting.pop()
    return not waiting


def _heard(sessions: Iterable[Session]) -> int:
    return sum(session.inbox.announced + session.inbox.withdrawn for session in sessions)


def _updates(sessions: tuple[Session, ...]) -> int:
    return sum(session.inbox.updates for session in sessions)


#: Where a server is told what it is to be.
_HOME: Final = "server"


@contextmanager
def contest(dut: Dut, at: Exchange, tables: Tables, inbox: type[Inbox] = Inbox) -> Iterator[Contest]:
    """Start a server and establish all sessions; end it. Tables tell whose announcements are whose."""
    with ground(at) as place:
        home = place.directory / _HOME
        home.mkdir(mode=0o700)
        roots = _start(dut, place, home, at)
        sessions = [Session(client, at.family, inbox(_own(tables, client.number))) for client in at.clients]
        with place.namespaces.in_namespace(CLIENTS):
            tester = Tester(at.server, sessions)
            try:
                made = Contest(dut, place, home, tester, roots)
                made.connect(CONNECTED)
                yield made
            except Failed as failure:
                raise Failed(f"{failure}; {place.words()}") from failure
            finally:
                tester.close()


def _own(tables: Tables, number: int) -> tuple[bytes, bytes] | None:
    return span(tables[number].prefixes) if number in tables else None


def _start(dut: Dut, place: Ground, home: Path, at: Exchange) -> tuple[int, ...]:
    """Start its processes; return those that are measured."""
    roots = []
    for command in dut.commands(home, at):
        child = place.start(*command.argv)
        if command.measured:
            roots.append(child.pid)
        if command.ready is not None:
            place.wait(command.ready.exists, f"{dut.name} starts")
    place.wait(lambda: place.listens(at), f"{dut.name} listens")
    # Who listens may still be reading who its clients are.
    time.sleep(1.0)
    return tuple(roots)
