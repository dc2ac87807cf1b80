"""Our routes in table main of one namespace: which group of hops each one uses, and how a plan moves them.

What we know was read from the kernel or done by us since. It may be out of date (a device went down, somebody flushed),
so a refusal that can come from that makes us read again and try once more; only what is refused then is a failure.

A plan that moves every route of a group to one other tuple of hops is one message (`NextHops.replace`), so failing
100,000 routes over costs the kernel no more than failing one.

Metrics tell our protocols apart and keep clear of everybody else: the kernel replaces a route of the same destination
and metric whatever its protocol, and 1024 is what IPv6 gives to whoever names none (operators, router advertisements).
What an operator adds by hand (IPv4 0, IPv6 1024) wins over BGP. Routes are created with NLM_F_EXCL: a foreign route in
our place makes a failure and is never overwritten.
"""

from __future__ import annotations

import errno
from collections import Counter, defaultdict
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from itertools import repeat
from typing import TYPE_CHECKING, Final

from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import NETLINK_ROUTE, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from appliance.kernel.nexthops import Hops, NextHops
from appliance.kernel.port import Failure
from appliance.kernel.routebuckets import METRICS, Bucket, Places, on_link, sort
from appliance.kernel.routecolumns import RouteChange
from appliance.kernel.routewire import Batch, dump
from appliance.kernel.rtnetlink import BITS, RTM_DELROUTE, RTM_NEWROUTE, RTN_UNSPEC, SCOPE_NOWHERE, Run, Shape
from appliance.model.errors import KernelError
from appliance.model.facts import Route
from appliance.state.diff import Change

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from appliance.model.facts import Namespace

_DUMPS: Final = 10
#: Refusals that can come from a picture that is out of date.
_DOUBTFUL: Final = frozenset({errno.EEXIST, errno.ENOENT, errno.ESRCH, errno.EINVAL})
_ABSENT: Final = frozenset({errno.ENOENT, errno.ESRCH})

_Refusal = tuple[RouteChange, KernelError]


class RouteTable:
    """Table main of a namespace, our protocols only."""

    def __init__(self, netlink: Netlink, ns: Namespace) -> None:
        """Know nothing before `read`."""
        self._netlink, self._ns = netlink, ns
        self._nexthops = NextHops(netlink, ns)
        self._places: Places = defaultdict(dict)
        #: The facts that were last read or applied, so that reading what has not changed makes no new ones.
        self._facts: defaultdict[tuple[int, int], dict[int, Route]] = defaultdict(dict)
        self._users: Counter[int] = Counter()
        self._strays: dict[Hashable, list[Shape]] = {}
        self._idle: set[int] = set()
        self._sure = self._refreshed = False

    def read(self) -> list[Route]:
        """Return our routes; one that we would not have made so (no group of ours, other metric) has no hops."""
        for _ in range(_DUMPS):
            try:
                return self._read()
            except KernelError as error:
                if error.errno != errno.EINTR:
                    raise
        raise KernelError("route", f"{self._ns} routes change all the time", errno.EINTR)

    def apply(self, changes: Sequence[RouteChange]) -> list[Failure]:
        """Carry changes out; once more those whose refusal may come from what we did not know."""
        if not self._sure:
            self.read()
        self._refreshed = False
        failures, refused = self._attempt(changes)
        if any(error.errno in _DOUBTFUL for _, error in refused):
            failures += [Failure(change.fact, error) for change, error in refused if error.errno not in _DOUBTFUL]
            self.read()
            more, refused = self._attempt([change for change, error in refused if error.errno in _DOUBTFUL])
            failures += more
        if self._sure:  # else a group may have routes that we do not know of, and would take them with it
            self._nexthops.prune({group for group in self._idle if not self._users[group]})
            self._idle.clear()
        return failures + [Failure(change.fact, error) for change, error in refused]

    def replace(self, proto: int, old: Hops, new: Hops) -> int:
        """Move all routes of these hops to others, one message for each group; return how many routes moved."""
        if not self._sure:
            self.read()
        if on_link(old) is not on_link(new):
            return self._rewrite(proto, old, new)
        moved = 0
        for group in self._nexthops.having(proto, old):
            error = self._nexthops.replace(group, new)
            if error is not None:
                raise error
            moved += self._users[group]
        self._nexthops.prune(set())
        return moved

    def _rewrite(self, proto: int, old: Hops, new: Hops) -> int:
        """Move routes whose messages differ in more than the group."""
        facts = [fact for fact in self.read() if fact.proto == proto and fact.hops == old]
        for failure in self.apply([Change("update", fact, replace(fact, hops=new)) for fact in facts]):
            raise failure.error
        return len(facts)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> list[Route]:
        """Read once."""
        self._sure = False
        old, self._facts = self._facts, defaultdict(dict)
        for known in (self._places, self._users, self._strays):
            known.clear()
        self._nexthops.read()
        meanings = self._nexthops.meanings()
        link = self._netlink.namespaces.netlink_socket(NETLINK_ROUTE, self._ns)
        facts: list[Route] = []
        for proto, metric in METRICS.items():
            for version in (4, 6):
                for run in dump(link, version, proto):
                    if run.plain and run.shape.metric == metric:
                        facts += self._take(proto, run, meanings, old[proto, version])
                    else:
                        facts += self._take_strays(proto, run)
        self._idle = {group for group in meanings if not self._users[group]}
        self._sure = True
        if not self._strays:
            return facts
        return [fact for fact in facts if not fact.hops or fact.key not in self._strays]

    def _take(self, proto: int, run: Run, meanings: Mapping[int, Hops], old: Mapping[int, Route]) -> list[Route]:
        """Remember routes, and return them as facts."""
        version, mtu = run.shape.version, run.shape.mtu
        numbers = [
            1 << length | address >> BITS[version] - length
            for address, length in zip(run.destinations, run.lengths, strict=True)
        ]
        self._places[proto, version].update(zip(numbers, run.nexthops, strict=True))
        self._users.update(run.nexthops)
        make = IPv4Network if version == 4 else IPv6Network  # noqa: PLR2004 - the IP version
        facts = []
        rows = zip(numbers, run.destinations, run.lengths, run.nexthops, strict=True)
        for number, address, length, group in rows:
            fact, hops = old.get(number), meanings.get(group, ())
            if fact is None or fact.hops != hops or fact.mtu != mtu:
                network = make((address, length)) if fact is None else fact.destination
                fact = Route(self._ns, network, hops, proto, mtu)
            facts.append(fact)
        self._facts[proto, version].update(zip(numbers, facts, strict=True))
        return facts

    def _take_strays(self, proto: int, run: Run) -> Iterable[Route]:
        """Remember routes that must be deleted as they are, and return them as facts without hops."""
        make = IPv4Network if run.shape.version == 4 else IPv6Network  # noqa: PLR2004 - the IP version
        for address, length in zip(run.destinations, run.lengths, strict=True):
            fact = Route(self._ns, make((address, length)), (), proto)
            shape = Shape(
                run.shape.version,
                length,
                proto,
                run.shape.metric,
                scope=SCOPE_NOWHERE,
                tos=run.shape.tos,
                kind=RTN_UNSPEC,
            )
            self._strays.setdefault(fact.key, []).append(shape)
            yield fact

    # -- applying -----------------------------------------------------------------------------------------------------

    def _attempt(self, changes: Sequence[RouteChange]) -> tuple[list[Failure], list[_Refusal]]:
        """Carry changes out as far as the kernel lets us: what has no way to go, and which routes were refused."""
        self._delete_strays(changes)
        buckets = sort(changes, self._places)
        refused = self._delete([bucket for bucket in buckets if bucket.work == "delete"])
        rest = [bucket for bucket in buckets if bucket.work != "delete"]
        failures: list[Failure] = []
        for first in (True, False):
            refused += self._put(self._move([bucket for bucket in rest if bucket.on_link is first]), failures)
        return failures, refused

    def _delete(self, buckets: Iterable[Bucket]) -> list[_Refusal]:
        """Delete routes; those that are gone already are fine."""
        batch = self._batch()
        for bucket in buckets:
            batch.add(RTM_DELROUTE, 0, bucket.shape(0), bucket.changes, bucket.addresses)
            self._leave(bucket)
            facts = self._facts[bucket.proto, bucket.version]
            for number in bucket.numbers:
                facts.pop(number, None)
        batch.flush()
        return self._refusals(batch, _ABSENT)

    def _delete_strays(self, changes: Iterable[RouteChange]) -> None:
        """Delete what stands where a change is to be made and is not as we make it; the next read tells if it worked."""
        if not self._strays:
            return
        batch = self._batch()
        for change in changes:
            for shape in self._strays.pop(change.fact.key, ()):
                batch.add(RTM_DELROUTE, 0, shape, [change], change.fact.destination.network_address.packed)
        batch.flush()

    def _move(self, buckets: Iterable[Bucket]) -> list[Bucket]:
        """Where all routes of a group go to the same hops, give the group those hops; return the other buckets."""
        together: defaultdict[tuple[int, Hops], list[Bucket]] = defaultdict(list)
        for bucket in buckets:
            together[bucket.group if bucket.work == "move" else 0, bucket.hops].append(bucket)
        rest: list[Bucket] = []
        for (group, hops), some in together.items():
            whole = sum(len(bucket.changes) for bucket in some) == self._users[group]
            whole = whole and on_link(hops) is on_link(self._nexthops.meaning(group))
            if not group or not whole or self._nexthops.replace(group, hops) is not None:
                rest += some
                continue
            for bucket in some:
                self._keep(bucket)
        return rest

    def _keep(self, bucket: Bucket) -> None:
        """Keep facts that are now true."""
        self._facts[bucket.proto, bucket.version].update(zip(bucket.numbers, bucket.facts, strict=True))

    def _put(self, buckets: Iterable[Bucket], failures: list[Failure]) -> list[_Refusal]:
        """Create and replace routes; what cannot go all its ways is a failure, with some of them or none."""
        batch = self._batch()
        known: dict[tuple[int, int, Hops], tuple[int, KernelError | None]] = {}
        for bucket in buckets:
            want = (bucket.proto, bucket.version, bucket.hops)
            if want not in known:
                known[want] = self._ensure(*want)
            group, error = known[want]
            if error is not None:
                failures += [Failure(change.fact, error) for change in bucket.changes]
            if not group or (bucket.work == "move" and group == bucket.group):
                continue
            flags = NLM_F_REPLACE if bucket.group else NLM_F_CREATE | NLM_F_EXCL
            batch.add(RTM_NEWROUTE, flags, bucket.shape(group), bucket.changes, bucket.addresses)
            self._leave(bucket)
            self._users[group] += len(bucket.changes)
            self._places[bucket.proto, bucket.version].update(zip(bucket.numbers, repeat(group)))
            self._keep(bucket)
        batch.flush()
        return self._refusals(batch)

    def _leave(self, bucket: Bucket) -> None:
        """Take the routes of a bucket off the groups that they use now."""
        if bucket.group:
            places = self._places[bucket.proto, bucket.version]
            left = Counter([places.pop(number, 0) for number in bucket.numbers])
            self._users.subtract(left)
            self._idle.update(left)

    def _ensure(self, proto: int, version: int, hops: Hops) -> tuple[int, KernelError | None]:
        """Return the group for some hops; look at the objects again, once an apply, if one seems to have vanished."""
        group, error = self._nexthops.ensure(proto, version, hops)
        if error is None or error.errno not in _DOUBTFUL or self._refreshed:
            return group, error
        self._refreshed = True
        before = self._nexthops.groups()
        self._nexthops.read()
        gone = before - self._nexthops.groups()
        for places in self._places.values() if gone else ():  # the kernel took the routes with their groups
            for number in [number for number, group in places.items() if group in gone]:
                self._users[places.pop(number)] -= 1
        return self._nexthops.ensure(proto, version, hops)

    def _batch(self) -> Batch[RouteChange]:
        """Start to send."""
        return Batch(self._netlink.namespaces.netlink_socket(NETLINK_ROUTE, self._ns))

    def _refusals(self, batch: Batch[RouteChange], fine: frozenset[int] = frozenset()) -> list[_Refusal]:
        """Make errors that name the route; after one we no longer know which group it uses."""
        refused = [
            (change, self._netlink.error(f"{self._ns} {change.fact.destination}".strip(), said))
            for change, said in batch.refused
            if said.errno not in fine
        ]
        self._sure &= not refused
        return refused
