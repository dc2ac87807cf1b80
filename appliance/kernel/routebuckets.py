"""Changes of routes, sorted into buckets whose messages differ in nothing but the destination.

Pure; called by `routetable`. This, and what becomes of the numbers, is all that a route costs beside the kernel's own
work, so it goes by columns: what is said once for a bucket is not said again for each of its routes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import TYPE_CHECKING, Final, Literal

from appliance.kernel.rtnetlink import BITS, SCOPE_LINK, SCOPE_NOWHERE, SCOPE_UNIVERSE, Shape
from appliance.model.facts import Hop, Route
from appliance.model.marks import PROTO_BGP, PROTO_BOX
from appliance.state.diff import Change

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

METRICS: Final[Mapping[int, int]] = {PROTO_BOX: 512, PROTO_BGP: 2048}

Hops = tuple[Hop, ...]
Work = Literal["delete", "move", "put"]
RouteChange = Change[Route]
#: What is done, protocol, type and length of the prefix, id of the hops, MTU: all changes of a bucket have them.
_Kind = tuple[Work, int, type, int, int, int | None]
#: The groups that routes use now, by the number of their destination, for each protocol and IP version.
Places = defaultdict[tuple[int, int], dict[int, int]]


def on_link(hops: Hops) -> bool:
    """Tell whether hops need no gateway: IPv4 routes have another scope then, so theirs cannot change under them."""
    return all(hop.via is None for hop in hops)


def numbered(version: int, length: int, addresses: Iterable[int]) -> list[int]:
    """Number the prefixes of one length: a one and then their bits, so that no two prefixes of a family are the same.

    A dictionary is quick with numbers that differ in their last bits; the last bits of network addresses are zeros.
    """
    one, rest = 1 << length, BITS[version] - length
    return [one | address >> rest for address in addresses]


@dataclass(slots=True)
class Bucket:
    """Changes of one kind, and their destinations: as addresses, and `numbered`.

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
    addresses: list[int] = field(default_factory=list)
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

    def split(self, places: Mapping[int, int]) -> Iterable[Bucket]:
        """Return a bucket for each group that the routes use now."""
        self.numbers = numbered(self.version, self.length, self.addresses)
        groups = [*map(places.get, self.numbers, repeat(0))]
        self.group = groups[0]
        if groups.count(self.group) == len(groups):
            return (self,)
        using: dict[int, Bucket] = {}
        for group, change, address, number in zip(groups, self.changes, self.addresses, self.numbers, strict=True):
            if group not in using:
                using[group] = replace(self, group=group, changes=[], addresses=[], numbers=[])
            part = using[group]
            part.changes.append(change)
            part.addresses.append(address)
            part.numbers.append(number)
        return using.values()


def sort(changes: Iterable[RouteChange], places: Places) -> list[Bucket]:
    """Sort changes into buckets; what is to be deleted and is not there is left out.

    Most changes are of the kind of the one before, so that is looked at first.
    """
    kinds: dict[_Kind, Bucket] = {}
    same = _Same()
    latest: _Kind | None = None
    bucket: Bucket | None = None
    for change in changes:
        old, new = change.old, change.new
        route = new or old
        assert route is not None  # noqa: S101 - a change has one side
        hops, mtu = ((), None) if new is None else (new.hops, new.mtu)
        work: Work = "delete" if new is None else "put" if old is None or old.mtu != mtu else "move"
        network = route.destination
        kind = (work, route.proto, type(network), network.prefixlen, id(hops), mtu)
        if bucket is None or kind != latest:
            latest, hops = kind, same.one(hops)
            known = (*kind[:4], id(hops), mtu)
            bucket = kinds.get(known) or Bucket(work, route.proto, network.version, kind[3], hops, mtu)
            kinds[known] = bucket
        bucket.changes.append(change)
        bucket.addresses.append(int(network.network_address))
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
