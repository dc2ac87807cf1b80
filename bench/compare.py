"""Turns: what is compared is measured alternately, so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict, deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Row = dict[str, Any]
Rows = list[Row]
K = TypeVar("K", bound=Hashable)


def turns(variants: Mapping[K, Callable[[], float]], rounds: int, tries: int = 1) -> dict[K, list[float]]:
    """Measure the variants alternately; of each round keep the least of so many tries: what disturbs only adds."""
    seen: dict[K, list[float]] = defaultdict(list)
    order = deque(variants)
    for _ in range(rounds):
        measured: dict[K, list[float]] = defaultdict(list)
        for _ in range(tries):
            for name in order:
                measured[name].append(variants[name]())
            order.rotate(-1)
        for name, values in measured.items():
            seen[name].append(min(values))
    return seen


def times(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how many times the other one is, round by round, and of that the median."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def held_to(ratio: float, most: float | None = None, *, least: float | None = None) -> Row:
    """Show a ratio, and whether it keeps what was promised, if anything was."""
    row: Row = {"ratio": round(ratio, 2) if ratio < 100 else round(ratio)}
    if most is not None:
        return row | {"bound": f"<= {most:g}", "met": ratio <= most}
    if least is not None:
        return row | {"bound": f">= {least:,g}", "met": ratio >= least}
    return row


def said(text: str) -> None:
    """Tell a person who waits what is being done; the results have standard output to themselves."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
