"""All cases, in the order in which they are run, and the world that they need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from appliance.model.errors import OperatorError
from routing.bgp.values import Family
from routing.interop.cases import errors, options, refusals, restart, routes, sessions, transparency
from routing.interop.script import W6, WITNESSES, Case, W
from routing.interop.world import Part, World

ALL: Final[tuple[Case, ...]] = (
    *sessions.CASES,
    *refusals.CASES,
    *transparency.CASES,
    *routes.CASES,
    *errors.CASES,
    *restart.CASES,
    *options.CASES,
    sessions.LAST,
)


def world(cases: Iterable[Case] = ALL) -> World:
    """Return who is on the LAN for these cases: everybody has the place that it has for all."""
    whole = World.of({WITNESSES: {W: Part(), W6: Part(Family.IPV6)}} | {case.name: case.cast for case in ALL})
    return whole.only({WITNESSES, *(case.name for case in cases)})


def chosen(names: Iterable[str]) -> tuple[Case, ...]:
    """Return the cases of these names, of groups or single ones; none named are all."""
    wanted = frozenset(names)
    unknown = wanted - {case.name for case in ALL} - {case.group for case in ALL}
    if unknown:
        raise OperatorError.of(
            f"there is no case or group {', '.join(sorted(unknown))}", "see `edgeway interop --list`"
        )
    return tuple(case for case in ALL if not wanted or case.name in wanted or case.group in wanted)
