"""UPDATEs that are wrong: what each error may cost, the attribute, the route or the session, and never more.

RFC 7606 (which error costs what), RFC 4271 6.3, RFC 7607. Where the session stays, it is proved by what is said afterwards.
"""

from __future__ import annotations

from typing import Final

from routing.bgp.attributes import Attribute, Code
from routing.bgp.values import Family
from routing.interop.octets import Update, attribute
from routing.interop.script import W6, Alive, Case, Ended, Hears, Level, Loses, Never, Say, W, join
from routing.interop.world import P6, P, Part

_GOOD: Final = Update((P,))
_GOOD6: Final = Update((P6,), family=Family.IPV6)
_MED: Final = attribute(Code.MULTI_EXIT_DISC, "00000007")
_WELL_KNOWN: Final = 0x40


def _withdrawn(name: str, rfc: str, text: str, said: Update, level: Level = Level.MUST) -> Case:
    """Return the case that a route is treated as withdrawn, the one that was there before as well; the session stays."""
    acts = (*join("a"), Say("a", _GOOD), Hears(W, P), Say("a", said), Alive("a"), Loses(W, P, within=1.5))
    again = (Say("a", _GOOD), Hears(W, P))
    return Case(
        f"errors/{name}", rfc, f"{text}: the route is withdrawn, the session stays", (*acts, *again), level=level
    )


def _discarded(name: str, rfc: str, text: str, *more: Attribute, code: int | None = None) -> Case:
    """Return the case that an attribute is discarded and the route stays."""
    lacks = (more[0].code if code is None else code,)
    acts = (*join("a"), Say("a", Update((P,), more=(*more, _MED))), Hears(W, P, has=(_MED,), lacks=lacks), Alive("a"))
    return Case(f"errors/{name}", rfc, f"{text}: it is discarded, the route stays", acts)


def _reset(name: str, rfc: str, text: str, said: Update, *notifications: tuple[int, int | None]) -> Case:
    family = said.family
    good, prefix, witness = (_GOOD, P, W) if family is Family.IPV4 else (_GOOD6, P6, W6)
    ended = Ended("a", notifications)
    acts = (*join("a"), Say("a", good), Hears(witness, prefix), Say("a", said), ended, Loses(witness, prefix))
    return Case(f"errors/{name}", rfc, f"{text}: the session is reset", acts, {"a": Part(family)})


def _changed(code: int, value: str, flags: int | None = None) -> Update:
    return Update((P,), change={code: attribute(code, value, flags)})


_REACH: Final = "000201" + "10" + "20010db8" + "00" * 10 + "0099" + "00"
_DISCARD_7606: Final = "RFC 7606 7"

CASES: Final = (
    _withdrawn("origin-value", "RFC 7606 7.1", "an ORIGIN of 3", _changed(Code.ORIGIN, "03")),
    _withdrawn("origin-length", "RFC 7606 7.1", "an ORIGIN of two octets", _changed(Code.ORIGIN, "0000")),
    _withdrawn("origin-flags", "RFC 7606 3 c", "an ORIGIN that says it is optional", _changed(Code.ORIGIN, "00", 0xC0)),
    _withdrawn("no-origin", "RFC 7606 3 d", "no ORIGIN", Update((P,), change={Code.ORIGIN: None})),
    _withdrawn("as-path", "RFC 7606 7.2", "an AS_PATH that is cut off", _changed(Code.AS_PATH, "02020000fde8")),
    _withdrawn(
        "as-path-type", "RFC 7606 7.2", "an AS_PATH of unknown segments", _changed(Code.AS_PATH, "09010000fde8")
    ),
    _withdrawn("no-as-path", "RFC 7606 3 d", "no AS_PATH", Update((P,), change={Code.AS_PATH: None})),
    _withdrawn("as-zero", "RFC 7607 2", "AS 0 in AS_PATH", Update((P,), beyond=(0,))),
    _withdrawn("next-hop-length", "RFC 7606 7.3", "a NEXT_HOP of three octets", _changed(Code.NEXT_HOP, "c00002")),
    _withdrawn("no-next-hop", "RFC 7606 3 d", "no NEXT_HOP", Update((P,), change={Code.NEXT_HOP: None})),
    _withdrawn("med-length", "RFC 7606 7.4", "a MULTI_EXIT_DISC of two octets", _changed(Code.MULTI_EXIT_DISC, "0001")),
    _withdrawn(
        "communities-length", "RFC 7606 7.8", "COMMUNITIES of five octets", _changed(Code.COMMUNITIES, "00" * 5)
    ),
    _withdrawn(
        "extended-communities-length",
        "RFC 7606 7.14",
        "EXTENDED_COMMUNITIES of seven octets",
        _changed(Code.EXTENDED_COMMUNITIES, "00" * 7),
    ),
    _withdrawn(
        "large-communities-length",
        "RFC 8092 6",
        "LARGE_COMMUNITIES of eleven octets",
        _changed(Code.LARGE_COMMUNITIES, "00" * 11),
    ),
    _withdrawn(
        "attribute-cut-off",
        "RFC 7606 4",
        "an attribute that is longer than all attributes together",
        Update((P,), tail=bytes.fromhex("c0080c00010001")),
    ),
    _discarded("aggregator", "RFC 7606 7.7", "an AGGREGATOR of six octets", attribute(Code.AGGREGATOR, "fde8c0000263")),
    _discarded(
        "atomic-aggregate", "RFC 7606 7.6", "an ATOMIC_AGGREGATE of one octet", attribute(Code.ATOMIC_AGGREGATE, "00")
    ),
    _discarded(
        "local-pref", "RFC 7606 7.5", "LOCAL_PREF of an external neighbour", attribute(Code.LOCAL_PREF, "00000064")
    ),
    _discarded(
        "originator-id",
        "RFC 7606 7.9",
        "ORIGINATOR_ID of an external neighbour",
        attribute(Code.ORIGINATOR_ID, "0a000001"),
    ),
    _discarded(
        "cluster-list",
        "RFC 7606 7.10",
        "CLUSTER_LIST of an external neighbour",
        attribute(Code.CLUSTER_LIST, "0a000001"),
    ),
    _discarded(
        "as4-path", "RFC 6793 4.1", "AS4_PATH of who knows four octets", attribute(Code.AS4_PATH, "02010000fde8")
    ),
    Case(
        "errors/twice",
        "RFC 7606 3 g",
        "an attribute that stands there twice: the first one counts, the route stays",
        (
            *join("a"),
            Say("a", Update((P,), more=(_MED, attribute(Code.MULTI_EXIT_DISC, "00000009")))),
            Hears(W, P, has=(_MED,)),
            Alive("a"),
        ),
    ),
    Case(
        "errors/never-heard",
        "RFC 7606 2",
        "a route that was malformed from the start is heard by nobody",
        (*join("a"), Say("a", _changed(Code.ORIGIN, "07")), Alive("a"), Never(W, P)),
    ),
    _reset(
        "unknown-well-known",
        "RFC 4271 6.3",
        "a well-known attribute that nobody knows",
        Update((P,), more=(attribute(213, "", _WELL_KNOWN),)),
        (3, 2),
    ),
    _reset(
        "prefix-length",
        "RFC 7606 5.3",
        "a prefix of 33 bits",
        Update(nlri=bytes.fromhex("210a01000000")),
        (3, 10),
        (3, 1),
    ),
    _reset(
        "two-reach",
        "RFC 7606 3 g",
        "MP_REACH_NLRI that stands there twice",
        Update((P6,), family=Family.IPV6, more=(attribute(Code.MP_REACH_NLRI, _REACH + "30" + "20010db80002"),)),
        (3, None),
    ),
    _reset(
        "reach-next-hop",
        "RFC 7606 7.11",
        "an IPv6 next hop of five octets",
        Update(
            (P6,),
            family=Family.IPV6,
            change={Code.MP_REACH_NLRI: attribute(Code.MP_REACH_NLRI, "00020105" + "20010db800" + "00")},
        ),
        (3, None),
    ),
)
