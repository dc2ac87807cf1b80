"""Adj-RIB-In of every neighbour and the Loc-RIB: what was said, by whom, what of it is accepted, and in which order.

Called by `routing.bgp.server`. Pure: time comes in as `now`. A `Path` is what one neighbour says with one attribute set
and is shared by all its prefixes, so a table of a million routes holds few of them, and "did anything change" is an
identity. Refused paths are kept with their reason. Stale paths (RFC 4724) stay in use until they are named again, the
neighbour says End-of-RIB, or their time is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from routing.bgp.decision import Standing, rank
from routing.bgp.values import Address, Attributes, Family, Neighbor, Network, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.bgp.policy import ImportCheck

_TRANSITIVE = 0x40


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Path:
    """Some prefixes' way: who taught it (None: we did), with which attributes, and why it is refused, if it is."""

    source: Peer | None
    attributes: Attributes
    reason: Reason | None
    internal: bool
    standing: Standing

    @property
    def avoid(self) -> tuple[int, ...]:
        """AS numbers that the path must not go to."""
        return self.attributes.path_asns


@dataclass(slots=True, eq=False)
class Destination:
    """One prefix: its accepted paths, best first, and how many neighbours say anything about it."""

    prefix: Network
    family: Family
    ranked: tuple[Path, ...] = ()
    holders: int = 0


@dataclass(slots=True, eq=False)
class Peer:
    """A neighbour at one address, and its Adj-RIB-In; it outlives its sessions."""

    address: Address
    neighbor: Neighbor
    check: ImportCheck
    internal: bool
    router_id: IPv4Address = IPv4Address(0)  # noqa: RUF009 - immutable
    routes: dict[Destination, Path] = field(default_factory=dict)
    stale: dict[Destination, None] = field(default_factory=dict)
    stale_until: float | None = None
    accepted: int = 0
    #: Refused for the limit alone, in the order of arrival: the first to come in when another leaves.
    waiting: dict[Destination, None] = field(default_factory=dict)
    paths: WeakValueDictionary[tuple[Attributes, Reason | None], Path] = field(default_factory=WeakValueDictionary)

    def path(self, attributes: Attributes, reason: Reason | None) -> Path:
        """Return the one path object of this neighbour for these attributes and this verdict."""
        key = (attributes, reason)
        found = self.paths.get(key)
        if found is None:
            standing = Standing.of(attributes, internal=self.internal, router_id=self.router_id, address=self.address)
            found = self.paths[key] = Path(self, attributes, reason, self.internal, standing)
        return found


def imported(attributes: Attributes, *, internal: bool) -> Attributes:
    """Drop what does not cross this kind of session: RFC 4271 5, RFC 7606 7.5, 7.9 and 7.10."""
    unknown = tuple(attribute for attribute in attributes.unknown if attribute.flags & _TRANSITIVE)
    if unknown != attributes.unknown:
        attributes = replace(attributes, unknown=unknown)
    if internal or (attributes.local_pref is None and attributes.originator_id is None and not attributes.cluster_list):
        return attributes
    return replace(attributes, local_pref=None, originator_id=None, cluster_list=())


class Rib:
    """Every destination, and which of them changed since `take_changes`."""

    def __init__(self) -> None:
        """Start empty."""
        self.destinations: dict[Network, Destination] = {}
        self._before: dict[Destination, tuple[Path, ...]] = {}
        self._unused: dict[Destination, None] = {}

    def take_changes(self) -> list[tuple[Destination, tuple[Path, ...]]]:
        """Return the destinations whose accepted paths changed, with their paths before; then forget them."""
        changes = [(dest, before) for dest, before in self._before.items() if before != dest.ranked]
        self._before = {}
        # Not earlier: a prefix that goes and comes back is one destination with one change.
        for dest in self._unused:
            if not dest.holders:
                del self.destinations[dest.prefix]
        self._unused = {}
        return changes

    def originate(self, prefix: Network, path: Path | None) -> None:
        """Set or remove our own route to a prefix."""
        dest = self._destination(prefix)
        own = next((known for known in dest.ranked if known.source is None), None)
        self._replace(dest, own, path)
        dest.holders += (path is not None) - (own is not None)
        if not dest.holders:
            self._unused[dest] = None

    def announce(self, peer: Peer, attributes: Attributes, prefixes: Iterable[Network]) -> None:
        """Take in an UPDATE's announcement; attributes are judged once, each prefix by itself."""
        attributes = imported(attributes, internal=peer.internal)
        common = peer.check.attributes(attributes)
        for prefix in prefixes:
            self._set(peer, self._destination(prefix), attributes, peer.check.prefix(prefix) or common)

    def refuse(self, peer: Peer, attributes: Attributes, prefixes: Iterable[Network], reason: Reason) -> None:
        """Take in routes that are refused whatever the policy says (RFC 7606: treated as withdrawn)."""
        for prefix in prefixes:
            self._set(peer, self._destination(prefix), attributes, reason)

    def withdraw(self, peer: Peer, prefixes: Iterable[Network]) -> None:
        """Take in an UPDATE's withdrawal; what was never announced is ignored."""
        for prefix in prefixes:
            dest = self.destinations.get(prefix)
            if dest is not None:
                self._remove(peer, dest)

    def rejudge(self, peer: Peer) -> None:
        """Ask the neighbour's (new) policy again about everything that it said."""
        verdicts: dict[int, Reason | None] = {}
        peer.accepted = 0
        peer.waiting = {}
        for dest, path in list(peer.routes.items()):
            if path.reason is Reason.MALFORMED:
                continue
            attributes = path.attributes
            if id(attributes) not in verdicts:
                verdicts[id(attributes)] = peer.check.attributes(attributes)
            reason = peer.check.prefix(dest.prefix) or verdicts[id(attributes)]
            self._store(peer, dest, attributes, self._admit(peer, dest, reason, held=False))

    def peer_down(self, peer: Peer, kept: frozenset[Family], until: float) -> None:
        """End a session: paths of the families in `kept` become stale until `until`, all others go.

        RFC 4724 4.2: what was already stale from an earlier restart is not kept a second time.
        """
        gone = [dest for dest in peer.routes if dest.family not in kept or dest in peer.stale]
        for dest in gone:
            self._remove(peer, dest)
        peer.stale = dict.fromkeys(peer.routes)
        peer.stale_until = until if peer.stale else None

    def end_of_rib(self, peer: Peer, family: Family) -> None:
        """Remove what the neighbour did not name again after its restart."""
        for dest in [dest for dest in peer.stale if dest.family is family]:
            self._remove(peer, dest)

    def expire(self, peer: Peer, now: float) -> bool:
        """Remove stale paths whose time is over; tell whether there were any."""
        if peer.stale_until is None or now < peer.stale_until:
            return False
        for dest in list(peer.stale):
            self._remove(peer, dest)
        peer.stale_until = None
        return True

    def _destination(self, prefix: Network) -> Destination:
        dest = self.destinations.get(prefix)
        if dest is None:
            dest = self.destinations[prefix] = Destination(prefix, Family.of(prefix))
        return dest

    def _set(self, peer: Peer, dest: Destination, attributes: Attributes, reason: Reason | None) -> None:
        peer.stale.pop(dest, None)
        known = peer.routes.get(dest)
        if known is None:
            dest.holders += 1
        held = known is not None and known.reason is None
        self._store(peer, dest, attributes, self._admit(peer, dest, reason, held=held))
        if held:
            self._admit_waiting(peer)

    def _admit(self, peer: Peer, dest: Destination, reason: Reason | None, *, held: bool) -> Reason | None:
        """Count the verdict; `held` says that the prefix was counted as accepted before."""
        limit = peer.neighbor.imports.max_prefixes
        peer.waiting.pop(dest, None)
        peer.accepted -= held
        if reason is not None:
            return reason
        if limit is not None and peer.accepted >= limit:
            peer.waiting[dest] = None
            return Reason.MAX_PREFIXES
        peer.accepted += 1
        return None

    def _admit_waiting(self, peer: Peer) -> None:
        limit = peer.neighbor.imports.max_prefixes
        while peer.waiting and (limit is None or peer.accepted < limit):
            dest = next(iter(peer.waiting))
            self._store(peer, dest, peer.routes[dest].attributes, self._admit(peer, dest, None, held=False))

    def _store(self, peer: Peer, dest: Destination, attributes: Attributes, reason: Reason | None) -> None:
        known = peer.routes.get(dest)
        path = peer.path(attributes, reason)
        if path is not known:
            peer.routes[dest] = path
            self._replace(dest, known, path)

    def _remove(self, peer: Peer, dest: Destination) -> None:
        peer.stale.pop(dest, None)
        peer.waiting.pop(dest, None)
        path = peer.routes.pop(dest, None)
        if path is None:
            return
        dest.holders -= 1
        self._replace(dest, path, None)
        if not dest.holders:
            self._unused[dest] = None
        if path.reason is None:
            peer.accepted -= 1
            self._admit_waiting(peer)

    def _replace(self, dest: Destination, old: Path | None, new: Path | None) -> None:
        if old is not None and old.reason is not None:
            old = None
        if new is not None and new.reason is not None:
            new = None
        if old is new:
            return
        self._before.setdefault(dest, dest.ranked)
        others = [path for path in dest.ranked if path is not old]
        dest.ranked = rank(others if new is None else [*others, new])
