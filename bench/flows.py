"""`python -m bench flows`: an instruction for one flow beside a scan of all, and what the fast path costs a packet.

- One instruction with 10, 1,000, 100,000 and 1,000,000 live flow records: `NftPort.apply` of one `Instruction` (its row
  and the bump of the engine, one transaction) beside `conntrack -D` of the exact flow, `conntrack -F`, and a dump that
  the kernel filters and that finds nothing. The port waits between commits (design 0004), so single ones are measured
  when none is under way, and those in a row by themselves.
- A packet of an established flow through the program beside `ct state established accept` at the same hook.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from appliance.kernel.conntrack import KernelConntrack
from bench.compare import Row, Rows, held_to, said, seconds, times, turns
from bench.judged import NONE, Judged, flow
from bench.packets import TCP, Generator, pinned
from bench.place import place
from bench.road import FLOW, FLOW6, Road, build, many_records
from services.flows.program import JUDGE_HOOK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.packets import Stream
    from bench.place import Place

SIZES = (10, 1_000, 100_000, 1_000_000)
STREAMS: Final = {
    "one UDP flow": FLOW,
    "1,000 UDP flows": replace(FLOW, source_port=FLOW.source_port + 1, flows=1_000),
    "1,000 UDP flows over IPv6": replace(FLOW6, flows=1_000),
    "1,000 TCP connections": replace(FLOW, protocol=TCP, flows=1_000),
}
#: The time with the most records against that with the fewest; a scan of the most against it; the fast path's price.
FLAT, QUICKER, PRICE = 1.5, 1_000, 1.1
ONE, MANY, ROW = "Edgeway, one instruction", "Edgeway, 100 in one plan", "Edgeway, ten in a row, each"
DELETE, FLUSH, DUMP = "conntrack -D, the exact flow", "conntrack -F", "a dump that the kernel filters"
PLAIN, OURS = "ct state established accept", "Edgeway, the whole program"
#: Instructions a round, and the seconds between them: more than an RCU grace period.
_SINGLE, _PAUSE = 20, 0.02
_IN_A_ROW, _MANY = 10, 100
_PACKETS, _TRIES = 20_000, 12
Seen = dict[str, dict[int, list[float]]]


def instructions(at: Place, generator: Generator, rounds: int) -> Rows:
    """Measure with few and many live records in turn."""
    judged = Judged.build(build(at, "judged", generator))
    seen: Seen = defaultdict(lambda: defaultdict(list))
    with many_records(SIZES[-1]):
        for number in range(rounds):
            for size in SIZES:
                said(f"flows: round {number + 1} of {rounds}, {size:,} records")
                _fill(judged.road, size)
                for what, took in _change(at, judged, size).items():
                    seen[what][size] += took
    ours, scan = seen[ONE], seen[DELETE][SIZES[-1]]
    scan_by = statistics.median(scan) / statistics.median(ours[SIZES[-1]])
    promised = {
        ONE: held_to(statistics.median(ours[SIZES[-1]]) / statistics.median(ours[SIZES[0]]), FLAT),
        DELETE: held_to(scan_by, least=QUICKER),
    }
    return [_row(what, by_size, promised.get(what, {})) for what, by_size in seen.items()]


def _fill(road: Road, size: int) -> None:
    """Have so many live records, both directions seen, and no others."""
    road.establish(replace(FLOW, flows=size))
    assert road.records() == size, f"{road.records()} records instead of {size}"


def _change(at: Place, judged: Judged, size: int) -> dict[str, list[float]]:
    """Measure what there is to do about one flow; no record is left."""
    some = [flow(FLOW, number) for number in range(min(size, _MANY))]
    took = {ONE: [_instruct(judged, [stream], _PAUSE) for stream in some[:_SINGLE]]}
    judged.relent(some[:_SINGLE])
    time.sleep(_PAUSE)
    took[ROW] = [statistics.mean(_instruct(judged, [stream]) for stream in some[:_IN_A_ROW])]
    judged.relent(some[:_IN_A_ROW])
    if size >= _MANY:
        took[MANY] = [_instruct(judged, some, _PAUSE)]
        judged.relent(some)
    conntrack = KernelConntrack(at.namespaces)
    took[DUMP] = [seconds(lambda: list(conntrack.dump(judged.road.ns, mark=NONE[0], mask=NONE[1])))]
    took[DELETE] = [_conntrack(judged.road, "-D", *_tuple(some[0]))]
    took[FLUSH] = [_conntrack(judged.road, "-F")]
    return took


def _instruct(judged: Judged, some: Sequence[Stream], pause: float = 0.0) -> float:
    """Instruct about flows that live: that have sent a packet since the last bump; return the seconds."""
    for stream in some:
        judged.road.send(stream, 1)
    time.sleep(pause)
    return seconds(partial(judged.instruct, some))


def _conntrack(road: Road, *words: str) -> float:
    """Run the program conntrack in a router; return the seconds that it takes, its start included."""
    with road.place.namespaces.in_namespace(road.ns):
        return seconds(partial(subprocess.run, ["conntrack", *words], check=True, capture_output=True))


def _tuple(stream: Stream) -> tuple[str, ...]:
    """Name a flow as the program conntrack does."""
    ends = ("-s", str(stream.source), "-d", str(stream.destination))
    return ("-p", "udp", *ends, "--sport", str(stream.source_port), "--dport", str(stream.destination_port))


def _row(what: str, by_size: Mapping[int, list[float]], promised: Row) -> Row:
    """Return medians."""
    medians = {f"{size:,} records": _ms(by_size[size]) for size in SIZES}
    return {"what": "ms", "by": what, **medians, **promised}


def _ms(some: list[float]) -> float | None:
    return round(statistics.median(some) * 1e3, 3) if some else None


def fast_path(at: Place, generator: Generator, rounds: int) -> Rows:
    """Measure packets of flows that were judged, and of flows that conntrack calls established."""
    judged, plain = Judged.build(build(at, "fast", generator)), build(at, "plain", generator)
    plain.nft(
        f"table inet plain {{\nchain judge {{\n{JUDGE_HOOK}\nct state established accept\nct state new accept\n}}\n}}\n"
    )
    rows: Rows = []
    for what, first in STREAMS.items():
        said(f"flows: packets of {what}")
        variants = {}
        for name, road in ((PLAIN, plain), (OURS, judged.road)):
            last = road.establish(first)
            road.proves(last)
            variants[name] = partial(road.send, last, _PACKETS)
        with pinned():
            seen = turns(variants, rounds, _TRIES)
        promised = held_to(times(seen[OURS], seen[PLAIN]), PRICE)
        for name, values in seen.items():
            row = {"what": f"ns a packet, {what}", "by": name, "ns": round(statistics.median(values))}
            rows.append(row | (promised if name == OURS else {}))
    return rows


def run(rounds: int = 5) -> Rows:
    """Measure both."""
    with place() as at, Generator(at.namespaces) as generator:
        return fast_path(at, generator, rounds) + instructions(at, generator, rounds)
