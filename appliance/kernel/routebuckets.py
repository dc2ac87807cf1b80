"""Changes of routes, sorted into buckets whose messages differ in nothing but the destination.

Pure; called by `routetable`. What a route costs beside the kernel's own work is told by columns (`routecolumns`): what
is said once for a bucket is not said again for each of its routes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import TYPE_CHECKING, Final

from appliance.kernel.routecolumns import Hops, RouteChange, Work, gather
from appliance.kernel.rtnetlink import BITS, SCOPE_LINK, SCOPE_NOWHERE, SCOPE_UNIVERSE, Shape
from appliance.model.facts import Route
from appliance.model.marks import PROTO_BGP, PROTO_BOX

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

METRICS: Final[Mapping[int, int]] = {PROTO_BOX: 512, PROTO_BGP: 2048}

#: What is done, protocol, version and length of the prefix, id of the hops, MTU: all changes of a bucket have them.
_Kind = tuple[Work, int, int, int, int, int | None]
#: The groups that routes use now, by the number of their destination, for each protocol and IP version.
Places = defaultdict[tuple[int, int], dict[int, int]]


def on_link(hops: Hops) -> bool:
    """Tell whether hops need no gateway: IPv4 routes have another scope then, so theirs cannot change under them."""
    return all(hop.via is None for hop in hops)


@dataclass(slots=True)
class Bucket:
    """Changes of one kind, and the columns that follow from them, as `routecolumns` makes them.

    Routes are deleted, moved (nothing but their hops changes), or put there. `group` is what they use now, 0 if they are
    to be created.
    """

    work: Work
    proto: int
    version: int
    length: int
    hops: Hops
    mtu: int | None
    group: int = 0
    changes: list[RouteChange] = field(default_factory=list)
    facts: list[Route] = field(default_factory=list)
    addresses: bytearray = field(default_factory=bytearray)
    numbers: list[int] = field(default_factory=list)

    @property
    def on_link(self) -> bool:
        """Whether these routes need no gateway, and may lead to the gateways of others."""
        return on_link(self.hops)

    def shape(self, group: int) -> Shape:
        """Return what the messages have in common."""
        scope = SCOPE_LINK if self.version == 4 and self.on_link else SCOPE_UNIVERSE  # noqa: PLR2004 - the IP version
        if self.work == "delete":
            scope = SCOPE_NOWHERE
        return Shape(self.version, self.length, self.proto, METRICS[self.proto], group, self.mtu, scope)

    def extend(
        self, changes: Iterable[RouteChange], facts: Iterable[Route], addresses: bytearray, numbers: Iterable[int]
    ) -> None:
        """Take more changes of the kind."""
        self.changes.extend(changes)
        self.facts.extend(facts)
        self.addresses += addresses
        self.numbers.extend(numbers)

    def split(self, places: Mapping[int, int]) -> Iterable[Bucket]:
        """Return a bucket for each group that the routes use now."""
        if places.keys().isdisjoint(self.numbers):
            return (self,)
        groups = [*map(places.get, self.numbers, repeat(0))]
        self.group = groups[0]
        if groups.count(self.group) == len(groups):
            return (self,)
        using: dict[int, Bucket] = {}
        size = BITS[self.version] // 8
        rows = zip(groups, self.changes, self.facts, self.numbers, strict=True)
        for place, (group, change, fact, number) in enumerate(rows):
            if group not in using:
                using[group] = replace(self, group=group, changes=[], facts=[], addresses=bytearray(), numbers=[])
            address = self.addresses[place * size : (place + 1) * size]
            using[group].extend((change,), (fact,), address, (number,))
        return using.values()


def sort(changes: Sequence[RouteChange], places: Places) -> list[Bucket]:
    """Sort changes into buckets; what is to be deleted and is not there is left out."""
    kinds: dict[_Kind, Bucket] = {}
    same = _Same()
    for work, proto, version, length, any_hops, mtu, some, facts, octets, numbers in gather(changes):
        hops = same.one(any_hops)
        kind = (work, proto, version, length, id(hops), mtu)
        if kind in kinds:
            kinds[kind].extend(some, facts, octets, numbers)
        else:
            kinds[kind] = Bucket(work, proto, version, length, hops, mtu, 0, some, facts, octets, numbers)
    split = [part for bucket in kinds.values() for part in bucket.split(places[bucket.proto, bucket.version])]
    return [bucket for bucket in split if bucket.group or bucket.work != "delete"]


class _Same:
    """Makes equal tuples of hops one.

    Hashing hops takes longer than all else that a route needs, so ids are tried first (facts may share their hops), and
    the usual single hop is looked up by its parts, which are quicker than dataclasses and addresses.
    """

    def __init__(self) -> None:
        self._by_id: dict[int, Hops] = {}
        self._by_value: dict[Hashable, Hops] = {}

    def one(self, hops: Hops) -> Hops:
        """Return the first tuple that equals this one; the caller keeps it alive."""
        found = self._by_id.get(id(hops))
        if found is None:
            key: Hashable = hops
            if len(hops) == 1 and (via := hops[0].via) is not None:
                key = (hops[0].link, type(via), int(via), hops[0].decapsulate)
            found = self._by_id[id(hops)] = self._by_value.setdefault(key, hops)
        return found
