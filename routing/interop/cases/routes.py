"""Which routes go to whom: changes, withdrawals, the best path, paths that must not be hidden, and a great many of them.

RFC 4271 3.1, 4.3, 9.1 and 9.2, RFC 7947 2.3.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from routing.bgp.attributes import Code
from routing.bgp.messages import SHORT_LIMIT, UPDATE, message
from routing.bgp.nlri import cut, pack
from routing.bgp.values import Family, Network
from routing.interop.octets import Update, attribute
from routing.interop.script import W6, Alive, Case, Hears, HearsAll, Keeps, Level, Loses, Never, Say, W, join
from routing.interop.world import ASN, P6, P, Part, Q

_SHORT: Final = Update((P,))
_LONG: Final = Update((P,), beyond=(64700, 64701))
_PATH: Final = (Code.AS_PATH, Code.NEXT_HOP)
_TWO: Final = {"a": Part(), "b": Part()}
_OWN: Final = Update((P,), beyond=(64700, ASN, 64701))
_MED: Final = Update((P,), more=(attribute(Code.MULTI_EXIT_DISC, "0000000a"),))

#: Ten thousand prefixes.
MANY: Final = tuple(IPv4Network((0x0A400000 + (n << 8), 24)) for n in range(10_000))
MANY6: Final = tuple(IPv6Network(((0x20010DB80000 + 0x1000 + n) << 80, 48)) for n in range(1_000))


def _pieces(prefixes: tuple[Network, ...], room: int) -> tuple[Update, ...]:
    """Say them in UPDATEs as long as they may be."""
    family = Family.of(prefixes[0])
    return tuple(Update(nlri=piece, family=family) for piece in cut(pack(prefixes), room))


def _withdrawals() -> tuple[Say, ...]:
    pieces = cut(pack(MANY), SHORT_LIMIT - 23)
    return tuple(Say("a", message(UPDATE, struct.pack("!H", len(p)) + p + b"\0\0")) for p in pieces)


CASES: Final = (
    Case(
        "routes/withdraw",
        "RFC 4271 4.3",
        "what is withdrawn is withdrawn from all; the other route of the UPDATE stays",
        (
            *join("a"),
            Say("a", Update((P, Q))),
            HearsAll(W, (P, Q)),
            Say("a", Update(withdrawn=(P,))),
            Loses(W, P),
            Keeps(W, Q),
        ),
    ),
    Case(
        "routes/withdraw-ipv6",
        "RFC 4760 4",
        "MP_UNREACH_NLRI withdraws",
        (
            *join("a"),
            Say("a", Update((P6,), family=Family.IPV6)),
            Hears(W6, P6),
            Say("a", Update(withdrawn=(P6,), family=Family.IPV6)),
            Loses(W6, P6),
            Alive("a"),
        ),
        {"a": Part(Family.IPV6)},
    ),
    Case(
        "routes/both",
        "RFC 4271 4.3",
        "one UPDATE may withdraw and announce",
        (*join("a"), Say("a", _SHORT), Hears(W, P), Say("a", Update((Q,), withdrawn=(P,))), Hears(W, Q), Loses(W, P)),
    ),
    Case(
        "routes/withdraw-unknown",
        "RFC 4271 4.3",
        "who withdraws what was never announced loses nothing",
        (*join("a"), Say("a", Update(withdrawn=(P,))), Alive("a")),
    ),
    Case(
        "routes/implicit-withdraw",
        "RFC 4271 3.1",
        "a new announcement replaces the one before",
        (
            *join("a"),
            Say("a", _MED),
            Hears(W, P, like=_MED, by="a", codes=_PATH),
            Say("a", _LONG),
            Hears(W, P, like=_LONG, by="a", codes=_PATH),
        ),
    ),
    Case(
        "routes/best-path",
        "RFC 4271 9.1.2.2",
        "of two paths the shorter one is told, whoever came first",
        (
            *join("a", "b"),
            Say("a", _LONG),
            Hears(W, P, like=_LONG, by="a", codes=_PATH),
            Say("b", _SHORT),
            Hears(W, P, like=_SHORT, by="b", codes=_PATH),
        ),
        _TWO,
    ),
    Case(
        "routes/next-best",
        "RFC 4271 9.1.2",
        "when the best path goes the other one is told, without a gap",
        (
            *join("a", "b"),
            Say("a", _LONG),
            Hears(W, P),
            Say("b", _SHORT),
            Hears(W, P, like=_SHORT, by="b", codes=_PATH),
            Say("b", Update(withdrawn=(P,))),
            Hears(W, P, like=_LONG, by="a", codes=_PATH),
        ),
        _TWO,
    ),
    Case(
        "routes/as-loop",
        "RFC 4271 9.1.2",
        "a path with the device's own AS is not used",
        (*join("a"), Say("a", _OWN), Alive("a"), Never(W, P)),
        level=Level.SHOULD,
    ),
    Case(
        "routes/not-back",
        "RFC 7947 2.1",
        "nobody is told its own route",
        (*join("a"), Say("a", _SHORT), Hears(W, P), Alive("a"), Never("a", P)),
        level=Level.MAY,
    ),
    Case(
        "routes/own-best",
        "RFC 7947 2.3.1",
        "who has the best path is told the other one: it is not hidden",
        (
            *join("a", "b"),
            Say("a", _SHORT),
            Hears("b", P, like=_SHORT, by="a", codes=_PATH),
            Say("b", _LONG),
            Hears("a", P, like=_LONG, by="b", codes=_PATH, within=4),
        ),
        _TWO,
        level=Level.MAY,
    ),
    Case(
        "routes/path-hiding",
        "RFC 7947 2.3.1",
        "who must not have the best path is told the next one: it is not hidden",
        (
            *join("a", "b", "c"),
            Say("b", _LONG),
            Hears("c", P, like=_LONG, by="b", codes=_PATH),
            Say("a", _SHORT),
            Hears(W, P, like=_SHORT, by="a", codes=_PATH),
            Alive("a"),
            Hears("c", P, like=_LONG, by="b", codes=_PATH, within=4),
        ),
        {"a": Part(), "b": Part(), "c": Part(shuns="a")},
        level=Level.MAY,
    ),
    Case(
        "routes/late-comer",
        "RFC 4271 9.2",
        "who comes later is told all that there is",
        (*join("a"), Say("a", _SHORT), Hears(W, P), *join("b"), Hears("b", P, like=_SHORT, by="a", codes=_PATH)),
        _TWO,
    ),
    Case(
        "routes/lengths",
        "RFC 4271 4.3",
        "prefixes of all lengths from 8 to 32 arrive",
        (
            *join("a"),
            Say("a", Update(lengths := tuple(IPv4Network((0x0B000000, n)) for n in range(8, 33)))),
            HearsAll(W, lengths),
        ),
    ),
    Case(
        "routes/host-bits",
        "RFC 4271 4.3",
        "bits behind the length do not matter",
        (*join("a"), Say("a", Update(nlri=bytes.fromhex("140a010f"))), Hears(W, IPv4Network("10.1.0.0/20"))),
    ),
    Case(
        "routes/many",
        "RFC 4271 9.2",
        "ten thousand prefixes in full messages arrive, and go",
        (
            *join("a"),
            *(Say("a", piece) for piece in _pieces(MANY, SHORT_LIMIT - 23 - 4 - 9 - 7)),
            HearsAll(W, MANY, within=60),
            *_withdrawals(),
            HearsAll(W, MANY, gone=True, within=60),
            Alive("a"),
        ),
    ),
    Case(
        "routes/many-different",
        "RFC 4271 9.2",
        "a thousand prefixes, each with attributes of its own, arrive",
        (
            *join("a"),
            *(
                Say("a", Update((prefix,), more=(attribute(Code.MULTI_EXIT_DISC, struct.pack("!L", n)),)))
                for n, prefix in enumerate(MANY[:1000])
            ),
            HearsAll(W, MANY[:1000], within=60),
            Hears(W, MANY[999], has=(attribute(Code.MULTI_EXIT_DISC, struct.pack("!L", 999)),)),
        ),
        level=Level.SHOULD,
    ),
    Case(
        "routes/many-ipv6",
        "RFC 4271 9.2",
        "a thousand IPv6 prefixes arrive",
        (
            *join("a"),
            *(Say("a", piece) for piece in _pieces(MANY6, SHORT_LIMIT - 80)),
            HearsAll(W6, MANY6, within=60),
        ),
        {"a": Part(Family.IPV6)},
    ),
)
