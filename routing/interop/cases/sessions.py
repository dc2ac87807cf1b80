"""How sessions begin, live and end when nothing is wrong: OPEN, capabilities, timers, refresh, the end.

RFC 4271 4.2, 6.8 and 8, RFC 2918, RFC 4486, RFC 5492, RFC 6286, RFC 6793, RFC 9003, RFC 9072.
"""

from __future__ import annotations

from typing import Final

from routing.bgp.attributes import Code
from routing.bgp.messages import encode_notification, encode_refresh, message
from routing.bgp.notify import shutdown
from routing.bgp.values import Family
from routing.interop.octets import FOUR_OCTET, REFRESH, Opening, Update, as_path, attribute
from routing.interop.script import (
    W6,
    Act,
    Alive,
    Beats,
    Case,
    Connect,
    Ended,
    Forget,
    Hears,
    Introduces,
    Leave,
    Level,
    Loses,
    Offers,
    Say,
    Stop,
    Up,
    W,
    join,
)
from routing.interop.world import ASN, P6, ROUTER_ID, P, Part

_SAID: Final = Update((P,))
_BIG: Final = 4200000999
_TWO: Final = {"a": Part(), "b": Part()}
_OLD: Final = Opening(four_octet=False)
_ROUTE_REFRESH: Final = 5


def _works(opening: Opening) -> tuple[Act, ...]:
    """A session with such an OPEN comes up and carries a route."""
    return (*join("a", opening=opening), Say("a", _SAID), Hears(W, P, like=_SAID, by="a", codes=(Code.AS_PATH,)))


CASES: Final = (
    Case(
        "sessions/open",
        "RFC 4271 4.2",
        "the OPEN says version 4, the right AS and identifier, a hold time of 0 or at least 3 s",
        (*join("a"), Introduces("a")),
    ),
    Case(
        "sessions/ipv6",
        "RFC 4760 8",
        "a session over IPv6 carries IPv6 routes",
        (*join("a"), Say("a", Update((P6,), family=Family.IPV6)), Hears("w6", P6)),
        {"a": Part(Family.IPV6)},
    ),
    Case(
        "sessions/four-octet-as",
        "RFC 6793 4.1",
        "an AS number of four octets is a neighbour's, and stays in its path",
        (
            Connect("a"),
            Up("a"),
            Offers("a", FOUR_OCTET, ASN.to_bytes(4, "big")),
            Say("a", _SAID),
            Hears(W, P, like=_SAID, by="a", codes=(Code.AS_PATH,)),
        ),
        {"a": Part(four_octet=True)},
    ),
    Case(
        "sessions/old-speaker-hears",
        "RFC 6793 4.2.2",
        "who knows two octets only is told AS_TRANS, and the truth in AS4_PATH",
        (
            *join("a"),
            *join("b", opening=_OLD),
            Say("a", Update((P,), change={Code.AS_PATH: as_path(_BIG, 64700)})),
            Hears(
                "b",
                P,
                has=(
                    as_path(23456, 64700, width=2),
                    attribute(Code.AS4_PATH, as_path(_BIG, 64700).value),
                ),
            ),
        ),
        _TWO,
    ),
    Case(
        "sessions/old-speaker-tells",
        "RFC 6793 4.2.3",
        "AS_PATH and AS4_PATH of who knows two octets only become one path",
        (
            *join("a", opening=_OLD),
            Say("a", Update((P,), beyond=(_BIG,), more=(attribute(Code.AS4_PATH, as_path(_BIG).value),))),
            Hears(W, P, like=Update((P,), beyond=(_BIG,)), by="a", codes=(Code.AS_PATH,), lacks=(Code.AS4_PATH,)),
        ),
    ),
    Case(
        "sessions/no-capabilities",
        "RFC 4271 4.2",
        "an OPEN without optional parameters is one for IPv4",
        _works(Opening(form="none", four_octet=False)),
    ),
    Case(
        "sessions/unknown-capability",
        "RFC 5492 3",
        "a capability that nobody knows is no reason to refuse",
        _works(Opening(capabilities=((239, b"whatever"),))),
    ),
    Case(
        "sessions/repeated-capability",
        "RFC 5492 4",
        "a capability may stand there twice",
        _works(Opening(capabilities=((REFRESH, b""),))),
    ),
    Case(
        "sessions/parameters",
        "RFC 5492 4",
        "each capability may stand in a parameter of its own",
        _works(Opening(form="each")),
    ),
    Case(
        "sessions/long-open",
        "RFC 9072 2",
        "optional parameters may have the extended form",
        _works(Opening(form="long")),
        level=Level.MAY,
    ),
    Case(
        "sessions/same-identifier",
        "RFC 6286 2.1",
        "another AS may have the identifier that we have",
        _works(Opening(identifier=ROUTER_ID)),
    ),
    Case(
        "sessions/hold-time-zero",
        "RFC 4271 4.2",
        "a hold time of 0 may be agreed on",
        _works(Opening(hold_time=0)),
        level=Level.MAY,
    ),
    Case(
        "sessions/keepalive",
        "RFC 4271 4.4",
        "KEEPALIVEs come within the hold time of 3 s",
        (*join("a", opening=Opening(hold_time=3)), Beats("a", 4, within=8)),
    ),
    Case(
        "sessions/hold-timer",
        "RFC 4271 6.5",
        "who says nothing for the hold time is told so (4/0), and its routes go",
        (
            *join("a", opening=Opening(hold_time=3, lively=False)),
            Say("a", _SAID),
            Hears(W, P),
            Ended("a", ((4, None),), within=8),
            *join("b"),
            Alive("b"),
            Loses(W, P),
        ),
        _TWO,
    ),
    Case(
        "sessions/collision",
        "RFC 4271 6.8",
        "a second connection beside an established session is closed, the session stays",
        (*join("a"), Alive("a"), Connect("again"), Ended("again"), Say("a", _SAID), Hears(W, P), Alive("a")),
        twins={"again": "a"},
    ),
    Case(
        "sessions/refresh",
        "RFC 2918 4",
        "after ROUTE-REFRESH everything is told again",
        (
            *join("a", "b"),
            Offers("b", REFRESH),
            Say("a", _SAID),
            Hears("b", P),
            Forget("b"),
            Say("b", encode_refresh(Family.IPV4)),
            Alive("a"),
            Hears("b", P, like=_SAID, by="a", codes=(Code.AS_PATH, Code.NEXT_HOP)),
        ),
        _TWO,
    ),
    Case(
        "sessions/refresh-other-family",
        "RFC 2918 4",
        "a request for a family that was not offered is ignored",
        (*join("a"), Offers("a", REFRESH), Say("a", message(_ROUTE_REFRESH, bytes.fromhex("00190041"))), Alive("a")),
    ),
    Case(
        "sessions/shutdown",
        "RFC 9003 2",
        "a shutdown with a word to the operator ends the session, and its routes go",
        (
            *join("a"),
            Say("a", _SAID),
            Hears(W, P),
            Leave("a", encode_notification(shutdown(2, "maintenance of \N{GREEK SMALL LETTER ALPHA}, back at noon"))),
            Loses(W, P),
            *join("b"),
            Alive("b"),
        ),
        _TWO,
    ),
    Case(
        "sessions/lost",
        "RFC 4271 8.2.2",
        "a connection that breaks takes its routes with it",
        (*join("a"), Say("a", _SAID), Hears(W, P), Leave("a"), Loses(W, P)),
    ),
)

#: The end of the device itself: after all others.
LAST: Final = Case(
    "sessions/stop",
    "RFC 4486 4",
    "who is stopped says so (Cease)",
    (Stop(), Ended(W, ((6, None),)), Ended(W6, ((6, None),))),
    {},
    level=Level.SHOULD,
)
