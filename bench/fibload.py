"""What `bench.fib` has every contender do with routes of one family, and what it saw them do."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from bench.place import A6, B6, C6, A, B, C

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.compare import Row, Rows
    from bench.place import Watch

ADD, HALF, ALL = "add", "fail over half of", "fail over all of"


@dataclass(frozen=True)
class Load:
    """Routes to as many networks: half of them via `first`, half via `last`; when `first` fails, its half via `backup`."""

    networks: Sequence[IPv4Network | IPv6Network]
    first: IPv4Address | IPv6Address
    backup: IPv4Address | IPv6Address
    last: IPv4Address | IPv6Address

    @property
    def version(self) -> int:
        """The family."""
        return self.first.version

    @property
    def half(self) -> int:
        """How many routes fail over."""
        return len(self.networks) // 2

    def did(self, what: str) -> str:
        """Name a row."""
        return f"{what} {len(self.networks):,} IPv{self.version}"


def loads(count: int) -> tuple[Load, Load]:
    """Return /24s from 16.0.0.0 on, and as many /48s from 2001:0:1:: on."""
    count -= count % 2
    four = [IPv4Network(((16 << 24) + (number << 8), 24)) for number in range(count)]
    six = [IPv6Network(((0x2001 << 112) + (number << 80), 48)) for number in range(1, count + 1)]
    ways = [[ip_address(text) for text in texts] for texts in ((A, B, C), (A6, B6, C6))]
    return Load(four, *ways[0]), Load(six, *ways[1])


@dataclass
class Seen:
    """Every measurement, by what was done and by whom; with the number of routes that it was done to."""

    all: dict[tuple[str, str], list[tuple[int, Watch]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, load: Load, by: str, watch: Watch, there: int) -> None:
        """Note how long all routes took; `there` is how many the kernel has."""
        self._note(load, ADD, by, watch, len(load.networks), there)

    def half(self, load: Load, by: str, watch: Watch, there: int) -> None:
        """Note how long half of the routes took; `there` is how many go via the backup."""
        self._note(load, HALF, by, watch, load.half, there)

    def whole(self, load: Load, by: str, watch: Watch, there: int) -> None:
        """Note how long it took to lead all of them another way."""
        self._note(load, ALL, by, watch, len(load.networks), there)

    def _note(self, load: Load, what: str, by: str, watch: Watch, count: int, there: int) -> None:
        assert there == count, f"{by}: {there:,} routes instead of {count:,}"
        self.all[load.did(what), by].append((count, watch))

    def seconds(self, load: Load, what: str, by: str) -> list[float]:
        """Return how long something took, round by round; nothing if nobody did it."""
        return [watch.wall for _, watch in self.all.get((load.did(what), by), ())]

    def rows(self) -> Rows:
        """Return medians."""
        return [_row(what, by, some) for (what, by), some in sorted(self.all.items(), key=lambda item: item[0][0])]


def _row(what: str, by: str, some: list[tuple[int, Watch]]) -> Row:
    walls = [watch.wall for _, watch in some]
    count, wall = some[0][0], statistics.median(walls)
    return {
        "what": what,
        "by": by,
        "routes/s": f"{count / wall:,.0f}",
        "median ms": round(wall * 1e3, 2),
        "least ms": round(min(walls) * 1e3, 2),
        "most ms": round(max(walls) * 1e3, 2),
        "CPU us/route": round(statistics.median(watch.cpu for _, watch in some) / count * 1e6, 2),
    }
