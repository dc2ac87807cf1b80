"""Neighbours for whom everything reads the same, and what a label reads like to them.

Called by `routing.bgp.audiences`. Pure. They differ in nothing that an export depends on, except which paths are their own or
name them: `concerned` says who that is, and `said_to` what such a one is told instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from routing.bgp.attributes import encode, marked
from routing.bgp.decision import rank
from routing.bgp.paths import Label, Path
from routing.bgp.values import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Address

    from routing.bgp.export import Exporter, Treatment
    from routing.bgp.filters import ExportFilter
    from routing.bgp.peers import Peer
    from routing.bgp.update import Format

K = TypeVar("K")


class Audience:
    """Neighbours that are up, have one export policy, are treated alike and written to in one format.

    `roster` holds all members: one object as long as nobody comes or goes. `told` counts the routes that a member has been
    sent and not withdrawn since the audience was made, whatever was withheld from it.
    """

    def __init__(self, exporter: Exporter, allowed: ExportFilter, treatment: Treatment, format_: Format) -> None:
        """Begin without members."""
        self.filter, self.treatment, self.format = allowed, treatment, format_
        self.members: dict[Peer, None] = {}
        self.roster: tuple[Peer, ...] = ()
        self.told = 0
        self._exporter, self._transparent = exporter, exporter.transparent
        self._mark = treatment.only_to_customer
        self._by_asn: dict[int, dict[Peer, None]] = {}
        self._by_router_id: dict[IPv4Address, dict[Peer, None]] = {}
        self._asns: frozenset[int] = frozenset()
        self.hops = {family: treatment.next_hop_lengths(family) for family in treatment.families}

    def add(self, peers: Iterable[Peer]) -> None:
        """Take neighbours in."""
        for peer in peers:
            self.members[peer] = None
            self._by_asn.setdefault(peer.neighbor.asn, {})[peer] = None
            self._by_router_id.setdefault(peer.router_id, {})[peer] = None
        self._changed()

    def discard(self, peer: Peer) -> None:
        """Let a neighbour go."""
        if self.members.pop(peer, self) is self:
            return
        _remove(self._by_asn, peer.neighbor.asn, peer)
        _remove(self._by_router_id, peer.router_id, peer)
        self._changed()

    def _changed(self) -> None:
        self.roster = tuple(self.members)
        self._asns = frozenset(self._by_asn)

    def said(self, label: Label | None, family: Family) -> bytes | None:
        """Return what a member is told from whom no path is withheld: attributes, None if nothing."""
        if label is None:
            return None
        if label.__class__ is Path and self._transparent and label.source is not None:
            # What nearly every label of a route server is.
            return self.words(label) if label.reason is None and len(label.next_hop) in self.hops[family] else None
        return self._best(self._exporter.candidates(label.ranked), family, total=label.total)

    def said_to(self, peer: Peer, label: Label | None, family: Family) -> bytes | None:
        """Return what exactly this member is told."""
        if label is None:
            return None
        if label.total:
            return self._best_for(peer, label, family)
        candidates = self._exporter.candidates(label.ranked)
        allowed = [path for path in candidates if not self._exporter.withheld(path, peer)]
        if len(allowed) < len(candidates):
            allowed = list(rank(allowed))
        return self._best(allowed, family, total=False)

    def _best_for(self, peer: Peer, label: Label, family: Family) -> bytes | None:
        """Return the first path that may be told to this member and can be said."""
        withheld = self._exporter.withheld
        for path in self._exporter.candidates(label.ranked):
            if path.source is not peer and not withheld(path, peer):
                octets = self._octets(path, family)
                if octets is not None:
                    return octets
        return None

    def concerned(self, before: Label | None, after: Label | None) -> tuple[Peer, ...]:
        """Return the members that one of the accepted paths of these labels may be withheld from."""
        if before is None and after.__class__ is Path and after.reason is None:
            return self.concerned_by(after)
        paths = (*(before.ranked if before is not None else ()), *(after.ranked if after is not None else ()))
        return tuple(dict.fromkeys(peer for path in paths for peer in self.concerned_by(path)))

    def concerned_by(self, path: Path) -> tuple[Peer, ...]:
        """Return the members that a path may be withheld from."""
        source, named = path.source, not self._asns.isdisjoint(path.avoid)
        if self._transparent and not named:
            return (source,) if source in self.members else ()
        found: dict[Peer, None] = {}
        if source is not None and source in self.members:
            found[source] = None
        for asn in path.avoid if named else ():
            found.update(self._by_asn.get(asn, ()))
        if not self._transparent and path.attributes.originator_id is not None:
            found.update(self._by_router_id.get(path.attributes.originator_id, ()))
        return tuple(found)

    def _best(self, paths: Sequence[Path], family: Family, *, total: bool) -> bytes | None:
        """Return what the best of these paths reads like, of those that there is a way to say."""
        first = next((octets for path in paths if (octets := self._octets(path, family)) is not None), None)
        if total or first is None or len(paths) == 1:
            return first
        sayable = [path for path in paths if self._octets(path, family) is not None]
        return first if len(sayable) == len(paths) else self._octets(rank(sayable)[0], family)

    def _octets(self, path: Path, family: Family) -> bytes | None:
        """Return a path's attributes as they are said here; None: there is no saying it."""
        if self._transparent and path.source is not None:
            return self.words(path) if len(path.next_hop) in self.hops[family] else None
        if path.sent is None:
            path.sent = {}
        key = (self.treatment, family)
        if key not in path.sent:
            attributes = self._exporter.attributes(path, self.treatment, family)
            octets = None if attributes is None else encode(attributes, family)
            path.sent[key] = octets if octets is None or self._mark is None else marked(octets, self._mark)
        return path.sent[key]

    def words(self, path: Path) -> bytes:
        """Return what a route server says of a path that somebody taught it: what it heard, and a mark if there is one."""
        if self._mark is None:
            return path.octets
        if path.sent is None:
            path.sent = {}
        found = path.sent.get(self._mark)
        if found is None:
            found = path.sent[self._mark] = marked(path.octets, self._mark)
        return found


def _remove(groups: dict[K, dict[Peer, None]], key: K, peer: Peer) -> None:
    """Take a neighbour out of its group. A group of nobody goes: there are as many router ids as one likes to have."""
    group = groups[key]
    del group[peer]
    if not group:
        del groups[key]
