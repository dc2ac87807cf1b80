"""Rounds and rows: servers take turns, and what is shown are medians, and ratios round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from bench.bgp.contest import Phase
from bench.bgp.dut import Dut
from bench.bgp.duts import OURS, REFERENCE
from bench.bgp.tester import Failed
from bench.compare import Row, Rows, said

#: What one server showed: of each phase, in the order of measuring.
Seen = dict[str, list[Phase]]
#: A server whose phases take longer together is measured once.
_LONG: Final = 20.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """At most so many times what the reference needs."""

    seconds: float | None = None
    cpu: float | None = None
    mib: float | None = None


def rounds(
    what: str, duts: Sequence[Dut], count: int, once: Callable[[Dut], Mapping[str, Sequence[Phase]]]
) -> dict[str, Seen]:
    """Have servers take turns, the order reversed every second round; who fails or takes long has no more of them."""
    seen: dict[str, Seen] = {dut.name: {} for dut in duts}
    left = list(duts)
    for number in range(count):
        for dut in left if number % 2 == 0 else left[::-1]:
            said(f"{what}: round {number + 1} of {count}, {dut.name}")
            try:
                found = once(dut)
            except Failed as failure:
                said(f"{what}: {dut.name}: {failure}")
                left = [other for other in left if other is not dut]
                continue
            for name, phases in found.items():
                seen[dut.name].setdefault(name, []).extend(phases)
            took = sum(phase.seconds for phases in found.values() for phase in phases)
            if took > _LONG and number + 1 < count:
                said(f"{what}: {dut.name} takes {took:.0f} s, so this was its only round")
                left = [other for other in left if other is not dut]
    return seen


def rows(what: str, seen: Mapping[str, Seen], bounds: Mapping[str, Bounds]) -> Rows:
    """Return a row for each phase and server, with what was promised of ours."""
    found = []
    for phase, bound in bounds.items():
        reference = seen.get(REFERENCE, {}).get(phase, [])
        for name, phases in seen.items():
            row: Row = {"what": f"{what}: {phase}", "by": name}
            if some := phases.get(phase):
                row |= measured(some) | ratios(some, reference, bound if name == OURS else None)
            elif name == OURS:
                row["met"] = False
            found.append(row)
    return found


def measured(some: Sequence[Phase]) -> Row:
    """Return medians."""
    row: Row = {
        "s": three(statistics.median(phase.seconds for phase in some)),
        "CPU s": three(statistics.median(phase.cpu for phase in some)),
        "MiB": round(statistics.median(phase.mib for phase in some)),
        "UPDATEs": round(statistics.median(phase.updates for phase in some)),
    }
    return row if not any(phase.more for phase in some) else row | {"more octets": max(phase.more for phase in some)}


def ratios(some: Sequence[Phase], reference: Sequence[Phase], bound: Bounds | None) -> Row:
    """Return how many times the reference's each is, round by round, and whether that is as it should be."""
    pairs = [(one, other) for one, other in zip_longest(some, reference) if one and other]
    if not pairs or some is reference:
        return {}
    found = {
        "x s": statistics.median(one.seconds / other.seconds for one, other in pairs),
        "x CPU": statistics.median(one.cpu / max(other.cpu, 1e-6) for one, other in pairs),
        "x MiB": statistics.median(one.mib / other.mib for one, other in pairs),
    }
    row: Row = {name: three(value) for name, value in found.items()} | {"rounds": len(pairs)}
    if bound is None:
        return row
    most = {"x s": bound.seconds, "x CPU": bound.cpu, "x MiB": bound.mib}
    kept = {name: found[name] <= value for name, value in most.items() if value is not None}
    words = ", ".join(f"{name[2:]} {value:g}" for name, value in most.items() if value is not None)
    return row | {"bound": f"<= {words}", "met": all(kept.values())} if kept else row


def three(value: float) -> float:
    """Round to three digits that tell something."""
    return float(f"{value:.3g}")
