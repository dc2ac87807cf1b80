"""Graceful restart: a neighbour whose connection breaks is helped, for as long as it said and no longer.

RFC 4724 2, 4.1 and 4.2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from routing.bgp.capabilities import Restart
from routing.bgp.encode import end_of_rib
from routing.bgp.messages import encode_notification
from routing.bgp.notify import shutdown
from routing.bgp.values import Family
from routing.interop.octets import RESTART, Opening, Update
from routing.interop.script import (
    Act,
    Alive,
    Case,
    Connect,
    EndOfRib,
    Hears,
    HearsAll,
    Keeps,
    Leave,
    Loses,
    Offers,
    Pause,
    Say,
    Up,
    W,
    join,
)
from routing.interop.world import P, Part, Q

_END: Final = end_of_rib(0x000101)
_BACK: Final = Restart(15, restarting=True, families=((Family.IPV4, True),))

#: Seconds within which somebody who comes back must be let in again.
_LATE: Final = 15.0


def _opening(seconds: int) -> Opening:
    return Opening(restart=Restart(seconds, families=((Family.IPV4, True),)))


def _gone(seconds: int) -> tuple[Act, ...]:
    """A neighbour with two routes, whose connection breaks."""
    begun = (*join("a", opening=_opening(seconds)), Offers("a", RESTART), Say("a", Update((P, Q))), Say("a", _END))
    return (*begun, HearsAll(W, (P, Q)), Leave("a"))


_TWO: Final = {"a": Part(), "b": Part()}

CASES: Final = (
    Case(
        "restart/end-of-rib",
        "RFC 4724 4.2",
        "End-of-RIB follows the first routes",
        (*join("a", opening=_opening(15)), Offers("a", RESTART), Say("a", _END), EndOfRib("a", Family.IPV4)),
    ),
    Case(
        "restart/kept",
        "RFC 4724 4.2",
        "the routes of a neighbour that restarts stay",
        (*_gone(15), *join("b"), Alive("b"), Keeps(W, P), Keeps(W, Q), Connect("a"), Up("a", within=_LATE)),
        _TWO,
    ),
    Case(
        "restart/back",
        "RFC 4724 4.2",
        "when it is back, what it says again stays, and the rest goes with its End-of-RIB",
        (
            *_gone(15),
            Connect("a", replace(_opening(15), restart=_BACK)),
            Up("a", within=_LATE),
            Say("a", Update((P,))),
            Say("a", _END),
            Loses(W, Q),
            Hears(W, P),
            Keeps(W, P, times=2),
        ),
    ),
    Case(
        "restart/back-without",
        "RFC 4724 4.2",
        "when it is back and does not speak of restarts any more, its old routes go at once",
        (*_gone(15), Connect("a"), Up("a", within=_LATE), Alive("a"), Loses(W, P, within=1.5), Loses(W, Q)),
    ),
    Case(
        "restart/expired",
        "RFC 4724 4.2",
        "who does not come back within its restart time is given up",
        # Somebody else speaks: who looks at its clocks only when something comes is not late.
        (*_gone(2), *join("b"), Pause(3), Alive("b"), Loses(W, P), Loses(W, Q)),
        _TWO,
    ),
    Case(
        "restart/not-kept-after-cease",
        "RFC 4724 4",
        "a NOTIFICATION is no restart: the routes go",
        (
            *join("a", opening=_opening(15)),
            Offers("a", RESTART),
            Say("a", Update((P,))),
            Say("a", _END),
            Hears(W, P),
            Leave("a", encode_notification(shutdown(2))),
            Loses(W, P),
        ),
    ),
)
