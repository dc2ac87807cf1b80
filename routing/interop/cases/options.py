"""What a device may offer: long messages, roles; and what it does where no policy is configured.

RFC 8654, RFC 9234, RFC 8212. Who does not offer it is not judged by it.
"""

from __future__ import annotations

from typing import Final

from routing.bgp.attributes import Code
from routing.interop.octets import EXTENDED_MESSAGE, ROLE, Opening, Update, attribute
from routing.interop.script import (
    Alive,
    Case,
    Connect,
    Ended,
    Hears,
    Keeps,
    Level,
    Loses,
    Never,
    Offers,
    Say,
    Up,
    W,
    join,
)
from routing.interop.world import ASN, P, Part

_LONG: Final = Opening(extended_message=True)
_COMMUNITIES: Final = attribute(Code.COMMUNITIES, b"".join((0xFDE80000 + n).to_bytes(4, "big") for n in range(2500)))
_HUGE: Final = Update((P,), more=(_COMMUNITIES,))
_OTC: Final = 35
_RS, _RS_CLIENT, _CUSTOMER = b"\x01", b"\x02", b"\x03"
_OPTIONAL_TRANSITIVE: Final = 0xC0
_CLIENT: Final = Opening(capabilities=((ROLE, _RS_CLIENT),))
_ROLES: Final = {"a": Part(role=True)}

CASES: Final = (
    Case(
        "options/long-message",
        "RFC 8654 4",
        "an UPDATE of ten thousand octets is read, and passed on to who takes it",
        (
            *join("a", "b", opening=_LONG),
            Offers("a", EXTENDED_MESSAGE),
            Say("a", _HUGE),
            Hears("b", P, like=_HUGE, by="a", codes=(Code.COMMUNITIES,)),
        ),
        {"a": Part(), "b": Part()},
    ),
    Case(
        "options/too-long-message",
        "RFC 8654 4",
        "who cannot be told it loses the route that was there before",
        (
            *join("a", opening=_LONG),
            Offers("a", EXTENDED_MESSAGE),
            Say("a", Update((P,))),
            Hears(W, P),
            Say("a", _HUGE),
            Alive("a"),
            Loses(W, P, within=1.5),
        ),
        level=Level.SHOULD,
    ),
    Case(
        "options/role",
        "RFC 9234 4.1",
        "the OPEN says that the device is a route server",
        (*join("a", opening=_CLIENT), Offers("a", ROLE, _RS)),
        _ROLES,
    ),
    Case(
        "options/role-mismatch",
        "RFC 9234 4.2",
        "a customer is no client of a route server: 2/11",
        (
            *join("b", opening=_CLIENT),
            Offers("b", ROLE),
            Connect("a", Opening(capabilities=((ROLE, _CUSTOMER),))),
            Ended("a", ((2, 11),)),
        ),
        {"a": Part(role=True), "b": Part(role=True)},
    ),
    Case(
        "options/otc-added",
        "RFC 9234 5",
        "a route to a client carries OTC with the AS of the route server",
        (
            *join("a"),
            *join("b", opening=_CLIENT),
            Offers("b", ROLE),
            Say("a", Update((P,))),
            Hears("b", P, has=(attribute(_OTC, ASN.to_bytes(4, "big"), _OPTIONAL_TRANSITIVE),)),
        ),
        {"a": Part(), "b": Part(role=True)},
    ),
    Case(
        "options/otc-leak",
        "RFC 9234 5",
        "a route of a client that carries OTC already is a leak, and not used",
        (
            *join("a", opening=_CLIENT),
            Offers("a", ROLE),
            Say("a", Update((P,), more=(attribute(_OTC, "0000fe50", _OPTIONAL_TRANSITIVE),))),
            Alive("a"),
            Never(W, P),
        ),
        _ROLES,
    ),
    Case(
        "options/no-policy-in",
        "RFC 8212 3",
        "without import policy nothing is accepted",
        (*join("a", "b"), Say("a", Update((P,))), Alive("b"), Never(W, P)),
        {"a": Part(no_policy=True), "b": Part()},
    ),
    Case(
        "options/no-policy-out",
        "RFC 8212 3",
        "without export policy nothing is sent",
        (Connect("a"), Up("a"), *join("b"), Say("b", Update((P,))), Hears(W, P), Keeps(W, P), Never("a", P)),
        {"a": Part(no_policy=True), "b": Part()},
    ),
)
