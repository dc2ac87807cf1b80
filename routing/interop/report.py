"""Results as rows: a table with a column for each device, what was seen where it is not as it should be, and JSON.

Called by the command line and by the test that keeps the results. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from routing.interop.run import Row
from routing.interop.script import Case, Result
from routing.interop.world import Member, World

#: By device, in the order in which they were asked.
Results = Mapping[str, Sequence[Row]]

_TOLD: Final = frozenset({Result.FAIL, Result.DIFFERS, Result.ERROR})
_BAD: Final = frozenset({Result.FAIL, Result.ERROR})


def table(results: Results) -> list[dict[str, str]]:
    """Return a row for each case, with a column for each device."""
    by_case = _by_case(results)
    return [
        {"case": case.name, "RFC": case.rfc.removeprefix("RFC "), "": case.level.value}
        | {name: row.verdict.result.value for name, row in rows.items()}
        for case, rows in by_case
    ]


def counts(results: Results) -> list[dict[str, str | int]]:
    """Return how often each result came, a row for each device."""
    found = {name: Counter(row.verdict.result for row in rows) for name, rows in results.items()}
    return [
        {
            "device": name,
            **{result.value: count[result] for result in Result},
            "seconds": round(_seconds(results[name])),
        }
        for name, count in found.items()
    ]


def _seconds(rows: Iterable[Row]) -> float:
    return sum(row.seconds for row in rows)


def details(results: Results) -> list[dict[str, str]]:
    """Say what was seen where something is not as the RFC has it."""
    return [
        {
            "device": name,
            "case": row.case.name,
            "result": row.verdict.result.value,
            "RFC": row.case.rfc.removeprefix("RFC "),
            "what must be": row.case.text,
            "seen": row.verdict.seen,
        }
        for name, rows in results.items()
        for row in rows
        if row.verdict.result in _TOLD
    ]


def document(results: Results) -> dict[str, Any]:
    """Return everything for programs."""
    return {
        "counts": counts(results),
        "cases": [
            described(case)
            | {
                "results": {
                    name: {
                        "result": row.verdict.result.value,
                        "seen": row.verdict.seen,
                        "seconds": round(row.seconds, 3),
                    }
                    for name, row in rows.items()
                }
            }
            for case, rows in _by_case(results)
        ],
    }


def described(case: Case) -> dict[str, str]:
    """Describe a case."""
    needs = [knob.value for knob in sorted(case.knobs, key=lambda knob: knob.value)]
    return {
        "case": case.name,
        "RFC": case.rfc.removeprefix("RFC "),
        "level": case.level.value,
        "what must be": case.text,
        "needs": ", ".join(needs),
    }


def neighbors(world: World) -> list[dict[str, str | int]]:
    """Return what a configuration written by hand must hold: the device first, then every neighbour."""
    own: list[dict[str, str | int]] = [
        {
            "who": "the router",
            "address": str(address),
            "AS": world.asn,
            "family": family.name,
            "also": f"id {world.router_id}",
        }
        for family, address in world.addresses.items()
    ]
    others: list[dict[str, str | int]] = [
        {"who": m.name, "address": str(m.address), "AS": m.asn, "family": m.family.name, "also": _special(m)}
        for m in world.members
    ]
    return [*own, *others]


def _special(member: Member) -> str:
    said = {
        "no policy": member.no_policy,
        f"gets no route whose path begins with {member.shuns}": member.shuns is not None,
        "role: route server": member.role,
    }
    return ", ".join(what for what, so in said.items() if so)


def failed(results: Results) -> bool:
    """Tell whether a MUST is broken anywhere, or could not be looked at."""
    return any(row.verdict.result in _BAD for rows in results.values() for row in rows)


def _by_case(results: Results) -> list[tuple[Case, dict[str, Row]]]:
    cases: dict[str, tuple[Case, dict[str, Row]]] = {}
    for name, rows in results.items():
        for row in rows:
            cases.setdefault(row.case.name, (row.case, {}))[1][name] = row
    return list(cases.values())
