"""`python -m bench reload`: what a change of policy does to those whom it does not concern.

700 clients announce 400,000 routes. One of them changes one route every 10 ms, another one listens. Then the import
policy of all clients changes: a range that holds one of a hundred routes is refused from now on. The stall is the longest
time in which the listener hears nothing of the one that goes on; complete is when it has lost all that is refused.

BIRD asks every client for its table again, and is given it (RFC 2918). OpenBGPD keeps what it sent to each client, so
its memory sets how many routes it can be given here: those that remember so much take part in a smaller exchange.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import pairwise
from typing import Final

from bench.bgp import usage
from bench.bgp.contest import Contest, Phase, Tables, contest
from bench.bgp.dut import Dut, Lack
from bench.bgp.duts import OURS, REFERENCE, everybody
from bench.bgp.exchange import Exchange, exchange
from bench.bgp.inbox import Inbox
from bench.bgp.messages import Path, announcements
from bench.bgp.native import Told
from bench.bgp.report import rounds, three
from bench.bgp.routes import announce
from bench.bgp.tables import ORIGINS, REFUSED, Space, plain
from bench.bgp.tester import Failed
from bench.compare import Row, Rows, said, times
from routing.bgp.values import Family, PrefixRule

STALL, COMPLETE, BEFORE = "stall", "complete", "before"
_CLIENTS, _ROUTES, _FEWER = 700, 400_000, 50_000
_SHARE, _EVERY, _WARM, _WITHIN = 0.01, 0.01, 2.0, 900.0
#: The range that is refused.
_RANGE: Final = PrefixRule(ip_network((REFUSED[Family.IPV4], 8)), 8, 32)


class Listener(Inbox):
    """When one prefix was spoken of."""

    def __init__(self, own: tuple[bytes, bytes] | None = None) -> None:
        """Listen to nothing yet."""
        super().__init__(own)
        self.prefix = b""
        self.heard: list[float] = []

    def _announce(self, buffer: bytes, start: int, end: int, attributes: tuple[int, int]) -> None:
        super()._announce(buffer, start, end, attributes)
        if self.prefix and buffer.startswith(self.prefix, start):
            self.heard.append(self._at)


@dataclass(frozen=True)
class Scene:
    """An exchange before and after, its tables, and the octets of what is refused then, by client."""

    before: Exchange
    after: Exchange
    tables: Tables
    refused: Mapping[int, int]

    @property
    def routes(self) -> int:
        """Return how many there are."""
        return sum(len(table.prefixes) for table in self.tables.values())


def scene(clients: int, routes: int) -> Scene:
    """Make up an exchange; of each client's prefixes one of a hundred lies in the range."""
    at = exchange(clients)
    space, range_ = Space(at.family), Space(at.family, first=REFUSED[at.family])
    each = routes // clients
    doomed = max(1, round(each * _SHARE))
    tables, refused = {}, {}
    for client in at.clients:
        within = range_.take(doomed)
        tables[client.number] = plain(client, [*space.take(each - doomed), *within])
        refused[client.number] = sum(map(len, within))
    return Scene(at, replace(at, refused=(_RANGE,)), tables, refused)


class Ticker:
    """The first client changes its first route every 10 ms."""

    def __init__(self, made: Contest, prefix: bytes) -> None:
        """Encode both ways that it has."""
        self._made, self._begun, self._count = made, time.monotonic(), 0
        client = made.sessions[0].client
        self._words = [announcements(Path((client.asn, ORIGINS + way), client.address), [prefix]) for way in (1, 2)]

    def until(self, end: float) -> None:
        """Go on until a time."""
        while (now := time.monotonic()) < end:
            due = self._begun + self._count * _EVERY
            if now >= due:
                self._count += 1
                self._made.tester.send(self._made.sessions[0], self._words[self._count % 2])
            self._made.tester.poll(max(0.0, min(due + _EVERY, end) - time.monotonic()))


def watch(made: Contest, some: Scene) -> dict[str, list[Phase]]:
    """Change the policy under somebody who listens."""
    listening = made.sessions[-1]
    listener = listening.inbox
    assert isinstance(listener, Listener)
    prefix = listener.prefix = some.tables[0].prefixes[0]
    made.dut.amend(made.home, some.after)
    ticker = Ticker(made, prefix)
    started = time.monotonic()
    ticker.until(started + _WARM)
    listener.expect(0, sum(some.refused.values()) - some.refused[listening.client.number])
    before, begun = usage.cpu(*made.pids), time.monotonic()
    child = subprocess.Popen(made.ground.inside(*made.dut.reload(made.home)), stdout=subprocess.DEVNULL)
    while listener.reached is None or child.poll() is None:
        ticker.until(time.monotonic() + _EVERY)
        if time.monotonic() - begun > _WITHIN:
            child.kill()
            raise Failed(f"the change is not complete after {_WITHIN:g} s")
    if child.wait():
        raise Failed(f"the change was refused: {made.ground.words()}")
    ticker.until(time.monotonic() + _WARM)
    cost = usage.cpu(*made.pids) - before, usage.peak(*made.pids)
    return {
        BEFORE: [Phase(longest(listener.heard, started, begun), 0.0, 0.0)],
        STALL: [Phase(longest(listener.heard, begun, time.monotonic()), *cost)],
        COMPLETE: [Phase(listener.reached - begun, *cost)],
    }


def longest(heard: Sequence[float], start: float, end: float) -> float:
    """Return the longest time between what was heard, from the start to the end."""
    moments = [start, *(at for at in heard if start <= at <= end), end]
    return max(after - before for before, after in pairwise(moments))


def _once(dut: Dut, some: Scene) -> dict[str, list[Phase]]:
    # Tables of two ranges tell nothing about whose a prefix is; nobody here sends anything back.
    with contest(dut, some.before, {}, Listener) as made:
        for session in made.sessions:
            session.table = some.tables[session.client.number].ended()
        announced = announce(made, some.tables, within=_WITHIN)
        said(f"reload: {dut.name} has told everybody after {announced.seconds:.1f} s")
        return watch(made, some)


def measure(count: int, duts: Sequence[Dut], some: Scene) -> Rows:
    """Measure one exchange."""
    what = f"{len(some.before.clients)} clients, {some.routes:,} routes"
    seen = rounds(what, duts, count, lambda dut: _once(dut, some))
    reference = {name: [phase.seconds for phase in phases] for name, phases in seen.get(REFERENCE, {}).items()}
    return [_row(what, name, phases, {} if name == REFERENCE else reference) for name, phases in seen.items()]


def _row(what: str, name: str, phases: Mapping[str, Sequence[Phase]], reference: Mapping[str, Sequence[float]]) -> Row:
    row: Row = {"what": what, "by": name}
    if not phases:
        return row
    seconds = {kind: [phase.seconds for phase in some] for kind, some in phases.items()}
    row |= {f"{kind} ms": three(statistics.median(seconds[kind]) * 1e3) for kind in (STALL, BEFORE)}
    row["complete s"] = three(statistics.median(seconds[COMPLETE]))
    row["CPU s"] = three(statistics.median(phase.cpu for phase in phases[COMPLETE]))
    row["MiB"] = round(statistics.median(phase.mib for phase in phases[COMPLETE]))
    for kind in (STALL, COMPLETE):
        if len(reference.get(kind, ())) == len(seconds[kind]):
            row[f"x {kind}"] = three(times(seconds[kind], reference[kind]))
    return row


def run(count: int = 1, duts: Sequence[Dut] | None = None, scale: float = 1.0) -> Rows:
    """Measure all who can be told anew; a scale below one makes it fewer clients and routes."""
    everyone = [Told() if dut.name == OURS else dut for dut in (everybody() if duts is None else duts)]
    able = [dut for dut in everyone if Lack.RELOAD not in dut.lacks]
    clients = max(10, int(_CLIENTS * scale))
    large, small = (scene(clients, int(routes * scale)) for routes in (_ROUTES, _FEWER))
    fits = [dut for dut in able if dut.most >= large.routes * clients]
    rest = [dut for dut in able if dut not in fits]
    found = measure(count, fits, large)
    return found + measure(count, [*fits, *rest], small) if rest else found
