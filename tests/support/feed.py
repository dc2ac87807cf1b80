"""A feed of many routes that looks like the real one and is the same at every run.

Mixed prefix lengths, about five prefixes to an attribute set, paths of two to six, communities of both kinds, a MED now
and then. `bird_include` writes it as BIRD configuration, for a lab: include the file and every route is originated.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from routing.bgp.values import Address, Attributes, Family, Network, Origin
from tests.support.routers.bird import statics
from tests.support.routers.common import Route, sequence

# The share of each prefix length, roughly that of a full table of today.
_LENGTHS = {
    Family.IPV4: {24: 60, 23: 10, 22: 11, 21: 5, 20: 4, 19: 3, 18: 2, 17: 1, 16: 2},
    Family.IPV6: {48: 48, 47: 2, 46: 3, 44: 9, 40: 9, 36: 4, 32: 14, 29: 4},
}
_FIRST = {Family.IPV4: (int(IPv4Address("11.0.0.0")), 32), Family.IPV6: (int(IPv6Address("2a00::")), 128)}
_ORIGINS = (Origin.IGP,) * 17 + (Origin.INCOMPLETE,) * 2 + (Origin.EGP,)


def routes(count: int, family: Family, first_as: int, next_hop: Address, seed: int = 1) -> list[Route]:
    """Return `count` distinct routes as one neighbour would announce them."""
    dice = random.Random(f"{family.name} {seed}")
    prefixes = _prefixes(dice, count, family)
    made: list[Route] = []
    while len(made) < count:
        attributes = _attributes(dice, first_as, next_hop)
        size = min(1 + int(dice.expovariate(1 / 4.5)), 40)
        made += [Route(found, attributes) for found in prefixes[len(made) : len(made) + size]]
    return made


def bird_include(count: int, family: Family, first_as: int, next_hop: Address, seed: int = 1) -> str:
    """Return the feed as BIRD configuration text: static routes with their attributes."""
    return statics(routes(count, family, first_as, next_hop, seed))


def _prefixes(dice: random.Random, count: int, family: Family) -> list[Network]:
    """Return distinct prefixes, none inside another, in random order: each begins where the one before ends."""
    lengths, (at, width) = _LENGTHS[family], _FIRST[family]
    kind = IPv4Network if family is Family.IPV4 else IPv6Network
    found: list[Network] = []
    for length in dice.choices(list(lengths), list(lengths.values()), k=count):
        size = 1 << (width - length)
        at = -(-at // size) * size
        found.append(kind((at, length)))
        at += size
    dice.shuffle(found)
    return found


def _attributes(dice: random.Random, first_as: int, next_hop: Address) -> Attributes:
    asns = [first_as, *_path(dice)]
    return Attributes(
        next_hop=next_hop,
        origin=dice.choice(_ORIGINS),
        as_path=sequence(*asns),
        med=dice.choice((None, None, None, 0, dice.randrange(1000))),
        communities=tuple(
            sorted({(dice.choice(asns) & 0xFFFF, dice.randrange(65000)) for _ in range(dice.choice((0, 1, 2, 3, 8)))})
        ),
        large_communities=tuple(
            sorted(
                {
                    (dice.choice(asns), dice.randrange(9), dice.randrange(1 << 32))
                    for _ in range(dice.choice((0, 0, 0, 1, 3)))
                }
            )
        ),
    )


def _path(dice: random.Random) -> Iterator[int]:
    """Yield one to five ASes, the last one sometimes prepended; documentation and reserved numbers do not occur."""
    length = dice.choices((1, 2, 3, 4, 5), (10, 30, 35, 18, 7))[0]
    last = 0
    for _ in range(length):
        last = dice.choice((dice.randrange(1000, 23000), dice.randrange(131072, 400000)))
        yield last
    if length < 4 and dice.random() < 0.1:
        yield last
