"""`python -m bench many`: a thousand clients.

Beside BIRD: a thousand clients that announce 100 prefixes each, and how long it takes until all sessions are there. Ours
alone: what it costs to tell the same 100,000 routes to ten clients and to a thousand, and to have clients that are told
alike, or each by a policy of its own (one prefix that only this client is not sent).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from bench.bgp.contest import Phase, Tables, contest
from bench.bgp.dut import Dut, Lack
from bench.bgp.duts import OURS, REFERENCE, everybody
from bench.bgp.exchange import Client, Exchange, client, exchange
from bench.bgp.messages import network
from bench.bgp.report import Bounds, Seen, measured, rounds, rows, three
from bench.bgp.routes import ALL, able, alike, announce, deliveries
from bench.compare import Row, Rows
from routing.bgp.values import Family

SESSIONS: Final = "sessions established"
_CPU, _SECONDS = 0.05, 5.0
_CLIENTS, _EACH = 1_000, 100
#: Ten clients to a thousand; one policy to a thousand.
_GROWTH, _POLICIES = (10, 30, 100, 300, 1_000), (1, 10, 100, 1_000)
_WITHIN: Final = 600.0


def crowd(count: int, duts: Sequence[Dut], clients: int) -> Rows:
    """Measure many clients, beside the reference."""
    at = exchange(clients)
    tables, what = alike(at, _EACH), f"{clients:,} clients x {_EACH}"
    some = [dut for dut in able(duts, deliveries(at, tables), what) if dut.name in {OURS, REFERENCE}]
    seen = rounds(what, some, count, lambda dut: once(dut, at, tables))
    found = rows(what, seen, {ALL: Bounds(cpu=_CPU), SESSIONS: Bounds()})
    return [_in_time(row, seen) if row["what"].endswith(SESSIONS) and row["by"] == OURS else row for row in found]


def _in_time(row: Row, seen: Mapping[str, Seen]) -> Row:
    """Tell whether sessions were there in the time that was promised, each time."""
    took = [phase.seconds for phase in seen[OURS].get(SESSIONS, [])]
    return row | {"bound": f"<= {_SECONDS:g} s", "met": bool(took) and max(took) <= _SECONDS}


def once(dut: Dut, at: Exchange, tables: Tables, hidden: Mapping[int, int] | None = None) -> dict[str, list[Phase]]:
    """Have everybody come and announce."""
    with contest(dut, at, tables) as made:
        return {SESSIONS: [made.start_up()], ALL: [announce(made, tables, hidden, _WITHIN)]}


def growth(count: int, ours: Dut, largest: int) -> Rows:
    """Measure the same routes told to ever more clients."""
    total = largest * _EACH
    seen: dict[str, list[Phase]] = {}
    for clients in [number for number in _GROWTH if number <= largest]:
        at = exchange(clients)
        tables, what = alike(at, total // clients), f"{total:,} routes at {clients:,} clients"
        seen[what] = _alone(what, count, ours, partial(once, at=at, tables=tables))
    return _against_first(seen, "10 clients")


def policies(count: int, ours: Dut, clients: int) -> Rows:
    """Measure clients that differ in what they must not be sent."""
    at = exchange(clients)
    tables = alike(at, _EACH)
    prefixes = [prefix for table in tables.values() for prefix in table.prefixes]
    seen: dict[str, list[Phase]] = {}
    for kinds in [number for number in _POLICIES if number <= clients]:
        # Of every client's table at most one: the last of a table.
        secret = [prefixes[(kind % clients + 1) * _EACH - 1] for kind in range(kinds)]
        hiding = replace(at, clients=tuple(_hiding(number, secret[number % kinds]) for number in range(clients)))
        hidden = {number: _octets(tables, number, secret[number % kinds]) for number in range(clients)}
        what = f"{clients:,} clients, {kinds:,} export policies"
        seen[what] = _alone(what, count, ours, partial(once, at=hiding, tables=tables, hidden=hidden))
    return _against_first(seen, "1 policy")


def _alone(what: str, count: int, ours: Dut, measure: Callable[[Dut], dict[str, list[Phase]]]) -> list[Phase]:
    """Measure one server as often."""
    return rounds(what, [ours], count, measure)[ours.name].get(ALL, [])


def _hiding(number: int, prefix: bytes) -> Client:
    return client(number, Family.IPV4, (network(Family.IPV4, prefix),))


def _octets(tables: Tables, number: int, prefix: bytes) -> int:
    """Return how many octets less a client is sent: nothing, if the prefix is its own."""
    return 0 if prefix in tables[number].prefixes else len(prefix)


def _against_first(seen: Mapping[str, Sequence[Phase]], first: str) -> Rows:
    """Return a row for each, with how many times the first's cost it is."""
    found: Rows = []
    for what, phases in seen.items():
        row: Row = {"what": what, "by": OURS}
        if phases:
            row |= measured(phases)
            if found and "s" in found[0]:
                row |= {f"x {name} of {first}": three(row[name] / found[0][name]) for name in ("s", "CPU s")}
        found.append(row)
    return found


def run(count: int = 3, duts: Sequence[Dut] | None = None, scale: float = 1.0) -> Rows:
    """Measure everything; a scale below one makes it fewer clients."""
    some = everybody() if duts is None else duts
    clients = int(_CLIENTS * scale)
    found = crowd(count, some, clients)
    for ours in some:
        if ours.name == OURS and Lack.HIDDEN not in ours.lacks:
            found += growth(count, ours, clients) + policies(count, ours, clients)
    return found
