"""`python -m bench routes`: a route server's daily work beside what one would use instead, and the memory it takes.

Everybody announces a table and must have everybody else's; then the first client takes its table back and announces it
again, some times. CPU and memory are the server's; the time ends when the last client has the last prefix. Two clients
and one full table of the Internet's kind show what is left when there is nothing to share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.bgp.contest import Contest, Phase, Tables, contest
from bench.bgp.dut import Dut
from bench.bgp.duts import everybody
from bench.bgp.exchange import Exchange, exchange
from bench.bgp.report import Bounds, rounds, rows
from bench.bgp.tables import Space, plain, realistic
from bench.compare import Rows, said
from routing.bgp.values import Family

ALL, BACK, AGAIN = "all routes", "withdrawn", "announced again"
_MEMORY: Final = 1.5
_CYCLES: Final = 5
#: Who needs so long for once is not asked again.
_SLOW: Final = 2.0
#: What churn may take.
_CHURN: Final = Bounds(0.7, 0.7, _MEMORY)


@dataclass(frozen=True, slots=True)
class Work:
    """An exchange, what its clients announce, how often the first of them takes its table back, what this may take."""

    name: str
    at: Exchange
    tables: Callable[[], Tables]
    most: float
    cycles: int = 0

    @property
    def bounds(self) -> dict[str, Bounds]:
        """Return the bounds of each phase."""
        found = {ALL: Bounds(self.most, self.most, _MEMORY)}
        return found | {BACK: _CHURN, AGAIN: _CHURN} if self.cycles else found


def alike(at: Exchange, each: int) -> Tables:
    """Return tables of so many prefixes for every client."""
    space = Space(at.family)
    return {client.number: plain(client, space.take(each)) for client in at.clients}


def internet(at: Exchange, count: int) -> Tables:
    """Return a table like the Internet's for the first client."""
    space = Space(at.family, mixed=True)
    return {0: realistic(at.clients[0], space.take(count))}


def works(scale: float = 1.0) -> list[Work]:
    """Return what is measured; a scale below one makes tables shorter."""
    ten, hundred, two, ten6 = exchange(10), exchange(100), exchange(2), exchange(10, Family.IPV6)
    many, some, full = int(10_000 * scale), int(1_000 * scale), int(200_000 * scale)
    return [
        Work(f"10 clients x {many:,}", ten, lambda: alike(ten, many), 0.4, _CYCLES),
        Work(f"100 clients x {some:,}", hundred, lambda: alike(hundred, some), 0.1),
        Work(f"1 client x {full:,}, realistic, to 1", two, lambda: internet(two, full), 0.7),
        Work(f"10 clients x {many:,}, IPv6", ten6, lambda: alike(ten6, many), 0.4, _CYCLES),
    ]


def deliveries(at: Exchange, tables: Tables) -> int:
    """Return how many prefixes all clients together are sent."""
    return sum(len(table.prefixes) for table in tables.values()) * (len(at.clients) - 1)


def announce(made: Contest, tables: Tables, hidden: Mapping[int, int] | None = None, within: float = 0.0) -> Phase:
    """Have everybody announce, and wait until everybody has what is not its own; so many octets are hidden from some."""
    total = sum(table.octets for table in tables.values())
    words = {made.sessions[number]: table.ended() for number, table in tables.items()}
    without = {number: table.octets for number, table in tables.items()}
    for number, octets in (hidden or {}).items():
        without[number] = without.get(number, 0) + octets
    goals = {session: (total - without.get(session.client.number, 0), 0) for session in made.sessions}
    return made.phase(ALL, words, {session: goal for session, goal in goals.items() if goal[0]}, within)


def churn(made: Contest, tables: Tables, cycles: int) -> dict[str, list[Phase]]:
    """Have the first client take its table back and announce it again."""
    first, *others = made.sessions
    table = tables[0]
    withdrawn, announced = table.withdrawn(), table.announced()
    found: dict[str, list[Phase]] = {BACK: [], AGAIN: []}
    for _ in range(cycles):
        found[BACK].append(made.phase(BACK, {first: withdrawn}, dict.fromkeys(others, (0, table.octets))))
        found[AGAIN].append(made.phase(AGAIN, {first: announced}, dict.fromkeys(others, (table.octets, 0))))
        if found[BACK][-1].seconds + found[AGAIN][-1].seconds > _SLOW:
            break
    return found


def _once(dut: Dut, work: Work, tables: Tables) -> dict[str, list[Phase]]:
    with contest(dut, work.at, tables) as made:
        found = {ALL: [announce(made, tables)]}
        return found | churn(made, tables, work.cycles) if work.cycles else found


def able(duts: Sequence[Dut], sent: int, what: str) -> list[Dut]:
    """Leave those out that one would wait for in vain."""
    for dut in duts:
        if dut.most < sent:
            said(f"{what}: {sent:,} deliveries are too many for {dut.name}")
    return [dut for dut in duts if dut.most >= sent]


def measure(work: Work, count: int, duts: Sequence[Dut]) -> Rows:
    """Measure one work."""
    tables = work.tables()
    able_ones = able(duts, deliveries(work.at, tables), work.name)
    return rows(work.name, rounds(work.name, able_ones, count, lambda dut: _once(dut, work, tables)), work.bounds)


def run(count: int = 5, duts: Sequence[Dut] | None = None, scale: float = 1.0) -> Rows:
    """Measure everything."""
    some = everybody() if duts is None else duts
    return [row for work in works(scale) for row in measure(work, count, some)]
