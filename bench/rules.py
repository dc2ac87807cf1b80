"""`python -m bench rules`: what a rule table costs each packet and in memory, beside the ways that people use instead.

- A packet that is judged anew (no earlier decision helps) where the last of 10, 1,000, 10,000 rules matches: ours, one
  rule after the other in nft and in iptables-nft, and jumps into chains that hold a rule each.
- Kernel memory and loading time of 100 workloads with 1,000 of 10,000 rules each: ours, and a chain for each workload.
  Of ten workloads each that have the same rules, as the tiers of an application do, and of workloads of which no two have.

Every variant has a router of its own; they take turns.
"""

from __future__ import annotations

import shutil
import statistics
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from appliance.model.facts import Namespace
from bench import rulesets
from bench.compare import Row, Rows, held_to, said, seconds, times, turns
from bench.memory import account
from bench.packets import Generator, Stream, pinned
from bench.place import Place, place
from bench.road import Road, build
from bench.rulesets import Simple, workload
from bench.ruletable import edgeway

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OURS, DIFFERENT, COPIES = "Edgeway", "Edgeway, no two alike", "nft, a chain for each workload"
#: The price of a packet with the most rules, against that with the fewest; memory against that of copies.
PRICE_GROWS, MEMORY = 1.25, 0.1
SIZES = (10, 1_000, 10_000)
#: Nanoseconds that one measurement takes: many short ones, because what disturbs the machine lasts longer.
_SPAN: Final = 0.02e9
_LEAST, _MOST, _TRY = 50, 50_000, 50
#: Measurements of a variant in a round, of which the least counts.
_TRIES = 10
_WORKLOADS, _EACH, _EVERY = 100, 1_000, 10_000
#: Kinds of workload where ten workloads each are alike.
_TEN = 10


@dataclass(frozen=True, slots=True)
class Way:
    """A way to write rules down, and to load what was written."""

    name: str
    write: Callable[[Sequence[Simple]], str]
    loader: tuple[str, ...] = ("nft", "-f")

    def load(self, at: Place, road: Road, size: int) -> float:
        """Load so many rules; return the seconds that it took, and see that packets pass which the last one allows."""
        file = at.directory / "rules"
        file.write_text(self.write(rulesets.rules(size)))
        took = seconds(partial(at.run, *self.loader, str(file), ns=road.ns))
        road.proves(last(size))
        return took


def ways() -> list[Way]:
    """Return those that this machine has."""
    found = [
        Way(OURS, lambda some: edgeway([some])),
        Way("nft, rule after rule", rulesets.linear),
        Way("nft, jumps to shared chains", rulesets.jumps),
    ]
    if shutil.which("iptables-nft-restore"):
        found.append(Way("iptables-nft", rulesets.iptables, ("iptables-nft-restore",)))
    else:
        said("rules: iptables-nft is not installed, so it is not compared")
    return found


def last(size: int) -> Stream:
    """Return packets that only the last rule allows."""
    return rulesets.rules(size)[-1].stream(workload(0))


def per_packet(at: Place, generator: Generator, rounds: int) -> Rows:
    """Measure packets that only the last rule allows."""
    found = ways()
    roads: dict[tuple[str, int], Callable[[int], float]] = {}
    took: dict[tuple[str, int], float] = {}
    for way in found:
        for size in SIZES:
            said(f"rules: {way.name}, {size:,}")
            road = build(at, f"r{len(roads)}", generator)
            took[way.name, size] = way.load(at, road, size)
            roads[way.name, size] = partial(road.send, last(size))
    said("rules: packets")
    with pinned():
        seen = turns({key: partial(send, _count(send)) for key, send in roads.items()}, rounds, _TRIES)
    return [_row(way.name, seen, took[way.name, SIZES[-1]]) for way in found]


def _row(name: str, seen: Mapping[tuple[str, int], Sequence[float]], took: float) -> Row:
    """Return medians, and by how much the price grows with the number of rules."""
    grown = times(seen[name, SIZES[-1]], seen[name, SIZES[0]])
    return {
        "what": "ns a packet, last rule matches",
        "by": name,
        **{f"{size:,} rules": round(statistics.median(seen[name, size])) for size in SIZES},
        "load s": round(took, 2),
        **held_to(grown, PRICE_GROWS if name == OURS else None),
    }


def _count(send: Callable[[int], float]) -> int:
    """Return how many packets take as long as one measurement shall."""
    send(_TRY)
    return int(min(_MOST, max(_LEAST, _SPAN / send(_TRY))))


def indexes(kinds: int) -> list[list[Simple]]:
    """Choose the rules of each workload; the first ten kinds have every rule between them."""
    every, some = range(_EVERY), range(kinds)
    chosen = [every[kind::_TEN] if kind < _TEN else sorted(Random(kind).sample(every, _EACH)) for kind in some]
    made = rulesets.rules(_EVERY)
    return [[made[rule] for rule in chosen[number % kinds]] for number in range(_WORKLOADS)]


def memory(at: Place, rounds: int) -> Rows:
    """Load the rules of many workloads, in turns; return what they cost. Copies cost the same, alike or not."""
    alike, different = indexes(_TEN), indexes(_WORKLOADS)
    texts = {OURS: edgeway(alike), DIFFERENT: edgeway(different), COPIES: rulesets.copies(alike)}
    held: dict[str, list[tuple[int, float]]] = {name: [] for name in texts}
    for number in range(rounds):
        said(f"rules: memory, round {number + 1} of {rounds}")
        for name, text in texts.items():
            held[name].append(_load(at, text))
    return [_cost(name, some, held[COPIES]) for name, some in held.items()]


def _load(at: Place, text: str) -> tuple[int, float]:
    """Load rules into a namespace that holds nothing else; return octets and seconds."""
    file = at.directory / "rules"
    file.write_text(text)
    ns = Namespace("held")
    at.namespaces.create(ns)
    try:
        with account() as ours:
            command = [*at.enter(ns), "nft", "-f", str(file)]
            if ours is None:
                return 0, seconds(partial(at.run, *command))
            took = ours.run(command)
            return ours.settled(), took
    finally:
        at.namespaces.delete(ns)


def _cost(name: str, some: Sequence[tuple[int, float]], copies: Sequence[tuple[int, float]]) -> Row:
    """Return medians, and how much less than copies it is; the promise is about workloads that are alike."""
    sizes = [size for size, _ in some]
    row: Row = {
        "what": f"{_WORKLOADS} workloads, {_EACH:,} of {_EVERY:,} rules each",
        "by": name,
        "MB": round(statistics.median(sizes) / 1e6, 1),
        "load s": round(statistics.median(took for _, took in some), 2),
    }
    if name == COPIES or not all(sizes):
        return row
    return row | held_to(times(sizes, [size for size, _ in copies]), MEMORY if name == OURS else None)


def run(rounds: int = 5) -> Rows:
    """Measure both."""
    with place() as at, Generator(at.namespaces) as generator:
        return per_packet(at, generator, rounds) + memory(at, rounds)
