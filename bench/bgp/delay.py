"""`python -m bench delay`: how long a change takes to the last client, whatever kind of change it is.

Kinds: the first to announce, the last to withdraw, a better way that comes, a better way that goes. All are one batch of
prefixes among twenty clients; none may take longer than announcing (RFC 7947 2.3.1 makes the last two the hard ones).

Probes: one client changes one prefix at a time while another one churns a thousand prefixes a second; the delay is from
the octet sent to the last client out, of a few hundred probes that do not wait for each other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

from bench.bgp.contest import Contest, Phase, contest
from bench.bgp.dut import Dut
from bench.bgp.duts import OURS, REFERENCE, everybody
from bench.bgp.exchange import exchange
from bench.bgp.inbox import Recorder
from bench.bgp.report import Bounds, Seen, rounds, rows, three
from bench.bgp.tables import Space, Table, plain
from bench.bgp.tester import Failed, Session
from bench.compare import Row, Rows, times
from routing.bgp.values import Family

ANNOUNCED, WITHDRAWN, BETTER, WORSE = "announced", "withdrawn", "a better way comes", "the better way goes"
P50, P99 = "p50", "p99"
#: As quick as announcing, but for what disturbs the machine; and never behind the reference.
_AS_QUICK, _BEHIND = 1.25, 1.0
_CLIENTS, _BATCH, _CYCLES = 20, 10_000, 5
#: So many prefixes change at once, so often; probes, so often; what is waited for after the last one.
_CHURN, _STEP, _POOL = 10, 0.01, 1_000
_PROBES, _BETWEEN, _AFTER = 300, 0.03, 3.0


def kinds(made: Contest, size: int) -> dict[str, list[Phase]]:
    """Have two clients announce the same prefixes, one of them by the longer way, and each take them back."""
    first, second, *others = made.sessions
    prefixes = Space(Family.IPV4).take(size)
    near, far = (plain(session.client, prefixes, detour=detour) for session, detour in ((first, 0), (second, 1)))
    found: dict[str, list[Phase]] = {ANNOUNCED: [], WITHDRAWN: [], BETTER: [], WORSE: []}
    come, gone = dict.fromkeys(others, (near.octets, 0)), dict.fromkeys(others, (0, near.octets))
    for _ in range(_CYCLES):
        found[ANNOUNCED].append(made.phase(ANNOUNCED, {first: near.announced()}, come))
        found[WITHDRAWN].append(made.phase(WITHDRAWN, {first: near.withdrawn()}, gone))
        made.phase(ANNOUNCED, {second: far.announced()}, come)
        found[BETTER].append(made.phase(BETTER, {first: near.announced()}, come))
        found[WORSE].append(made.phase(WORSE, {first: near.withdrawn()}, come))
        made.phase(WITHDRAWN, {second: far.withdrawn()}, gone)
    return found


def as_quick(seen: Mapping[str, Seen]) -> Rows:
    """Return how many times as long as announcing the other kinds take, each server by itself."""
    found: Rows = []
    for name, phases in seen.items():
        if not phases:
            continue
        base = [phase.seconds for phase in phases[ANNOUNCED]]
        for kind in (WITHDRAWN, BETTER, WORSE):
            ratio = times([phase.seconds for phase in phases[kind]], base)
            row: Row = {"what": f"{kind}, beside announced", "by": name, "x s": three(ratio)}
            if name == OURS:
                row |= {"bound": f"<= {_AS_QUICK:g}", "met": ratio <= _AS_QUICK}
            found.append(row)
    return found


class Prober:
    """Two clients that speak without waiting: one churns, one probes."""

    def __init__(self, made: Contest) -> None:
        """The first churns, the second probes, all others hear both."""
        space = Space(Family.IPV4)
        self._made = made
        self._churner, self._prober = made.sessions[:2]
        pool = plain(self._churner.client, space.take(_POOL), _CHURN)
        groups = [Table(pool.family, (group,)) for group in pool.groups]
        # Each group is announced, and a whole turn later withdrawn: half of what is said is either.
        self._steps = [table.announced() for table in groups] + [table.withdrawn() for table in groups]
        self._probes = [plain(self._prober.client, [prefix]) for prefix in space.take(_PROBES)]

    def run(self) -> list[float]:
        """Send all probes; return the delay of each."""
        begun, step, sent = time.monotonic(), 0, list[float]()
        tester = self._made.tester
        while len(sent) < _PROBES:
            now = time.monotonic() - begun
            if now >= step * _STEP:
                tester.send(self._churner, self._steps[step % len(self._steps)])
                step += 1
            if now >= (len(sent) + 0.5) * _BETWEEN:
                sent.append(time.monotonic())
                tester.send(self._prober, self._probes[len(sent) - 1].announced())
            tester.poll(max(0.0, min(step * _STEP, (len(sent) + 0.5) * _BETWEEN) - (time.monotonic() - begun)))
        tester.rest(_AFTER)
        return [self._last(probe.prefixes[0]) - at for probe, at in zip(self._probes, sent, strict=True)]

    def _last(self, prefix: bytes) -> float:
        """Return when the last client was told."""
        return max(_told(session, prefix) for session in self._made.sessions if session is not self._prober)


def _told(session: Session, prefix: bytes) -> float:
    assert isinstance(session.inbox, Recorder)
    at = session.inbox.spoken.get(prefix)
    if at is None:
        raise Failed(f"client {session.client.number} was not told of a probe within {_AFTER:g} s")
    return at


def probes(made: Contest) -> dict[str, list[Phase]]:
    """Return the median delay and that of the slowest of a hundred."""
    delays = sorted(Prober(made).run())
    start = made.start_up()
    return {
        name: [Phase(delays[int(len(delays) * share)], start.cpu, start.mib)]
        for name, share in ((P50, 0.5), (P99, 0.99))
    }


def _kinds(dut: Dut, size: int) -> dict[str, list[Phase]]:
    with contest(dut, exchange(_CLIENTS), {}) as made:
        return kinds(made, size)


def _probes(dut: Dut) -> dict[str, list[Phase]]:
    with contest(dut, exchange(_CLIENTS), {}, Recorder) as made:
        return probes(made)


def _delays(seen: Mapping[str, Seen]) -> Rows:
    """Return milliseconds, and how many times the reference's."""
    found: Rows = []
    for what in (P50, P99):
        reference = [phase.seconds for phase in seen.get(REFERENCE, {}).get(what, [])]
        for name, phases in seen.items():
            delays = [phase.seconds for phase in phases.get(what, [])]
            row: Row = {"what": f"one update to the last client, {what}", "by": name}
            if delays:
                row["ms"] = three(statistics.median(delays) * 1e3)
            if delays and name != REFERENCE and len(delays) == len(reference):
                ratio = times(delays, reference)
                row["x s"] = three(ratio)
                row |= {"bound": f"<= {_BEHIND:g}", "met": ratio <= _BEHIND} if name == OURS else {}
            found.append(row)
    return found


def run(count: int = 3, duts: Sequence[Dut] | None = None, scale: float = 1.0) -> Rows:
    """Measure both; a scale below one makes the batches smaller."""
    some = everybody() if duts is None else duts
    size = int(_BATCH * scale)
    what = f"{size:,} prefixes, {_CLIENTS} clients"
    able = [dut for dut in some if dut.most >= size * _CLIENTS * _CYCLES * 6]
    seen = rounds(what, able, count, lambda dut: _kinds(dut, size))
    quick = {kind: Bounds(_BEHIND) for kind in (ANNOUNCED, WITHDRAWN, BETTER, WORSE)}
    return rows(what, seen, quick) + as_quick(seen) + _delays(rounds("probes", some, count, _probes))
