"""What clients announce: prefixes that nobody else has, and the UPDATEs that say them.

Two kinds. Plain: prefixes of one length, as many with one attribute set as one says, paths of two. Realistic: the mix of
lengths, paths, communities and packing of a full table, from a generator that always says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Final

from bench.bgp.exchange import Client
from bench.bgp.messages import Path, announcements, end_of_rib, withdrawals
from routing.bgp.values import Address, Family

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Shares of the lengths of a full IPv4 table, of a hundred.
_MIX: Final = ((24, 60), (23, 10), (22, 12), (21, 5), (20, 5), (19, 3), (18, 2), (17, 1), (16, 2))
_PLAIN: Final = {Family.IPV4: 24, Family.IPV6: 48}
_WIDTH: Final = {Family.IPV4: 32, Family.IPV6: 128}
#: Where prefixes are taken from, and where bogons would begin.
_FIRST: Final = {Family.IPV4: 16 << 24, Family.IPV6: 0x2A00 << 112}
_END: Final = {Family.IPV4: 126 << 24, Family.IPV6: 0x3000 << 112}
#: A range of its own for what a changed policy refuses: IPv4 100.0.0.0/8, IPv6 2b00::/16.
REFUSED: Final = {Family.IPV4: 100 << 24, Family.IPV6: 0x2B00 << 112}
#: AS numbers of paths begin here where nothing else is said; no client has one of them.
ORIGINS: Final = 300_000
_POOL: Final = 20_000


class Space:
    """Gives out prefixes, ascending, each once."""

    def __init__(self, family: Family, *, mixed: bool = False, first: int | None = None) -> None:
        """Begin at a network."""
        self._family = family
        self._next = _FIRST[family] if first is None else first
        self._lengths = [length for length, share in _MIX for _ in range(share)] if mixed else [_PLAIN[family]]
        self._random = Random(1)

    def take(self, count: int) -> list[bytes]:
        """Return the next ones."""
        width, place, found = _WIDTH[self._family], self._next, []
        for length in self._random.choices(self._lengths, k=count):
            size = 1 << (width - length)
            place = -(-place // size) * size
            found.append(bytes([length]) + place.to_bytes(width // 8, "big")[: (length + 7) // 8])
            place += size
        if place > _END[self._family]:
            raise ValueError("no prefixes are left")
        self._next = place
        return found


@dataclass(frozen=True)
class Table:
    """What a client announces: groups of prefixes that share a path."""

    family: Family
    groups: tuple[tuple[Path, tuple[bytes, ...]], ...]

    @cached_property
    def prefixes(self) -> tuple[bytes, ...]:
        """Return all prefixes, ascending as they were given out."""
        return tuple(prefix for _, prefixes in self.groups for prefix in prefixes)

    @cached_property
    def octets(self) -> int:
        """Return how many octets all prefixes are on the wire."""
        return sum(map(len, self.prefixes))

    def announced(self) -> bytes:
        """Encode all of it."""
        return b"".join(announcements(path, prefixes) for path, prefixes in self.groups)

    def ended(self) -> bytes:
        """Encode all of it, and that this is all."""
        return self.announced() + end_of_rib(self.family)

    def withdrawn(self) -> bytes:
        """Encode that nothing of it is left."""
        return withdrawals(self.family, self.prefixes)


def plain(client: Client, prefixes: Sequence[bytes], pack: int = 100, *, detour: int = 0) -> Table:
    """Return a table of so many prefixes to an attribute set; a detour makes every path longer."""
    groups = []
    for number, start in enumerate(range(0, len(prefixes), pack)):
        asns = (client.asn, *((ORIGINS - 1,) * detour), ORIGINS + number)
        groups.append((Path(asns, client.address), tuple(prefixes[start : start + pack])))
    return Table(_family(client.address), tuple(groups))


def realistic(client: Client, prefixes: Sequence[bytes], pack: int = 5) -> Table:
    """Return a table like the Internet's, with so many prefixes to an attribute set in the mean."""
    random = Random(client.number)
    pool = [
        random.randrange(1000, 20000) if random.random() < 0.7 else random.randrange(131072, 400000)
        for _ in range(_POOL)
    ]
    groups, start = [], 0
    while start < len(prefixes):
        count = 1 + int(random.expovariate(1 / pack))
        groups.append((_path(client, random, pool), tuple(prefixes[start : start + count])))
        start += count
    return Table(_family(client.address), tuple(groups))


def _path(client: Client, random: Random, pool: list[int]) -> Path:
    beyond = random.sample(pool, random.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6)))
    if random.random() < 0.15:
        beyond += [beyond[-1]] * random.randrange(1, 4)
    return Path(
        (client.asn, *beyond),
        client.address,
        origin=random.choice((0, 0, 0, 0, 2)),
        med=random.choice((None, None, 0, 10, 100)),
        communities=_communities(random),
        large=tuple(
            sorted(
                (random.choice(pool), random.randrange(1000), random.randrange(1000))
                for _ in range(random.choice((0, 0, 0, 1, 3)))
            )
        ),
    )


def _communities(random: Random) -> tuple[int, ...]:
    """Return ordinary ones, ascending: some servers sort them."""
    count = random.choice((0, 1, 2, 3, 4, 6, 10))
    return tuple(sorted({random.randrange(1, 64000) << 16 | random.randrange(65535) for _ in range(count)}))


def _family(address: Address) -> Family:
    return Family.of(address)
