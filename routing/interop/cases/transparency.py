"""A route server is invisible: what one member says, the others hear as it was said.

RFC 7947 2.2 (each sentence with its own strength), RFC 4271 5 (attributes that nobody knows), RFC 4360, 8092, RFC 2545 3.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Final

from routing.bgp.attributes import OPTIONAL, PARTIAL, TRANSITIVE, Attribute, Code
from routing.bgp.values import Family
from routing.interop.octets import Update, attribute
from routing.interop.script import W6, Case, Hears, Level, Say, W, join
from routing.interop.world import P6, THIRD, P, Part

_V6: Final = {"a": Part(Family.IPV6)}
#: No registry has given this type to anybody.
_UNKNOWN: Final = 213


def _kept(name: str, rfc: str, text: str, said: Update, *codes: int, level: Level = Level.SHOULD) -> Case:
    """Return the case that these attributes of an UPDATE arrive."""
    heard = Hears(W, P, like=said, by="a", codes=codes)
    return Case(f"transparency/{name}", rfc, text, (*join("a"), Say("a", said), heard), level=level)


def _with(*more: Attribute) -> Update:
    return Update((P,), more=more)


def _unknown(flags: int, value: bytes = b"\x11\x22\x33") -> Attribute:
    return attribute(_UNKNOWN, value, flags)


_LINK_LOCAL: Final = IPv6Address("fe80::a").packed
_BY_LINK: Final = Update((P6,), family=Family.IPV6, link_local=_LINK_LOCAL)
_GLOBAL: Final = Update((P6,), family=Family.IPV6, hop=THIRD[Family.IPV6])

CASES: Final = (
    _kept(
        "next-hop", "RFC 7947 2.2.1", "NEXT_HOP is passed on unmodified", Update((P,)), Code.NEXT_HOP, level=Level.MUST
    ),
    _kept(
        "third-party-next-hop",
        "RFC 7947 2.2.1",
        "the NEXT_HOP of a third party is passed on unmodified",
        Update((P,), hop=THIRD[Family.IPV4]),
        Code.NEXT_HOP,
        level=Level.MUST,
    ),
    _kept(
        "as-path", "RFC 7947 2.2.2.1", "no AS is put in front of AS_PATH", Update((P,), beyond=(64700,)), Code.AS_PATH
    ),
    _kept(
        "long-as-path",
        "RFC 7947 2.2.2.1",
        "an AS_PATH of 300 numbers of four octets is passed on as it is",
        Update((P,), beyond=tuple(range(4200001000, 4200001299))),
        Code.AS_PATH,
    ),
    _kept(
        "med",
        "RFC 7947 2.2.3",
        "MULTI_EXIT_DISC is passed on as it is",
        _with(attribute(Code.MULTI_EXIT_DISC, "0000004d")),
        Code.MULTI_EXIT_DISC,
    ),
    _kept(
        "med-zero",
        "RFC 7947 2.2.3",
        "a MULTI_EXIT_DISC of 0 is passed on",
        _with(attribute(Code.MULTI_EXIT_DISC, "00000000")),
        Code.MULTI_EXIT_DISC,
    ),
    _kept(
        "origin",
        "RFC 7947 2.2",
        "ORIGIN is passed on as it is",
        Update((P,), change={Code.ORIGIN: attribute(Code.ORIGIN, "02")}),
        Code.ORIGIN,
    ),
    _kept(
        "aggregate",
        "RFC 7947 2.2",
        "ATOMIC_AGGREGATE and AGGREGATOR are passed on as they are",
        _with(attribute(Code.ATOMIC_AGGREGATE, b""), attribute(Code.AGGREGATOR, "0000fe50c0000263")),
        Code.ATOMIC_AGGREGATE,
        Code.AGGREGATOR,
    ),
    _kept("nothing-added", "RFC 7947 2.2", "nothing is added to a route of three attributes", Update((P,))),
    _kept(
        "communities",
        "RFC 7947 2.2.4",
        "communities are kept",
        _with(attribute(Code.COMMUNITIES, "fde80001" + "0000fde9" + "ffff0001")),
        Code.COMMUNITIES,
    ),
    _kept(
        "many-communities",
        "RFC 7947 2.2.4",
        "two hundred communities are kept",
        _with(attribute(Code.COMMUNITIES, b"".join((0xFDE80000 + n).to_bytes(4, "big") for n in range(200)))),
        Code.COMMUNITIES,
    ),
    _kept(
        "extended-communities",
        "RFC 7947 2.2.4",
        "extended communities are kept",
        _with(attribute(Code.EXTENDED_COMMUNITIES, "0002fde800000001" + "0102c000020a0005" + "0202fa56ea000007")),
        Code.EXTENDED_COMMUNITIES,
    ),
    _kept(
        "non-transitive-communities",
        "RFC 7947 2.2.4",
        "extended communities that are not transitive are kept",
        _with(attribute(Code.EXTENDED_COMMUNITIES, "4002fde800000001")),
        Code.EXTENDED_COMMUNITIES,
    ),
    _kept(
        "large-communities",
        "RFC 7947 2.2.4",
        "large communities are kept",
        _with(
            attribute(
                Code.LARGE_COMMUNITIES, "fa56ea00" + "00000000" + "ffffffff" + "0000fde8" + "00000002" + "00000003"
            )
        ),
        Code.LARGE_COMMUNITIES,
    ),
    Case(
        "transparency/unknown",
        "RFC 4271 5",
        "an unknown transitive attribute is passed on with its Partial bit set",
        (
            *join("a"),
            Say("a", _with(_unknown(OPTIONAL | TRANSITIVE))),
            Hears(W, P, has=(_unknown(OPTIONAL | TRANSITIVE | PARTIAL),)),
        ),
        # RFC 7947 2.2: such attributes "SHOULD NOT be updated by the route server".
        level=Level.SHOULD,
    ),
    Case(
        "transparency/unknown-partial",
        "RFC 4271 5",
        "one of 300 octets whose Partial bit is set is passed on as it is",
        (
            *join("a"),
            Say("a", _with(_unknown(OPTIONAL | TRANSITIVE | PARTIAL, bytes(300)))),
            Hears(W, P, has=(_unknown(OPTIONAL | TRANSITIVE | PARTIAL, bytes(300)),)),
        ),
    ),
    Case(
        "transparency/unknown-non-transitive",
        "RFC 4271 5",
        "an unknown attribute that is not transitive is ignored and not passed on",
        (*join("a"), Say("a", _with(_unknown(OPTIONAL))), Hears(W, P, lacks=(_UNKNOWN,))),
        # RFC 7947 2.2: also such attributes "SHOULD be passed on to other route server clients". Both cannot be kept.
        level=Level.MAY,
    ),
    Case(
        "transparency/ipv6",
        "RFC 7947 2.2",
        "IPv6: next hop, path, MULTI_EXIT_DISC and communities are kept, nothing is added",
        (
            *join("a"),
            Say(
                "a",
                _V6_SAID := Update(
                    (P6,),
                    family=Family.IPV6,
                    beyond=(64700,),
                    more=(attribute(Code.MULTI_EXIT_DISC, "00000005"), attribute(Code.COMMUNITIES, "fde80001")),
                ),
            ),
            Hears(W6, P6, like=_V6_SAID, by="a"),
        ),
        _V6,
        level=Level.SHOULD,
    ),
    Case(
        "transparency/ipv6-third-party",
        "RFC 7947 2.2.1",
        "IPv6: the next hop of a third party is passed on unmodified",
        (*join("a"), Say("a", _GLOBAL), Hears(W6, P6, like=_GLOBAL, by="a", codes=(Code.MP_REACH_NLRI,))),
        _V6,
    ),
    Case(
        "transparency/ipv6-link-local",
        "RFC 2545 3",
        "IPv6: the link-local next hop goes with the global one to who is on the same subnet",
        (*join("a"), Say("a", _BY_LINK), Hears(W6, P6, like=_BY_LINK, by="a", codes=(Code.MP_REACH_NLRI,))),
        _V6,
        level=Level.SHOULD,
    ),
)
