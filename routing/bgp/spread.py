"""Who must be told what when destinations change: Adj-RIB-Out without a table.

Called by `routing.bgp.server`. What a neighbour was sent follows from the paths of before, what it must be sent from
the paths of now: the difference of the two is the message, and no memory is spent on prefixes times neighbours. Changes
are taken together when their paths are the same, neighbours when policy and treatment are: then one decision and one
message serve them all. Only neighbours that a path may be withheld from (its source, those in its AS_PATH) are asked
one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from routing.bgp.policy import ExportCheck

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Address

    from routing.bgp.export import Exporter, Treatment
    from routing.bgp.rib import Destination, Path, Peer
    from routing.bgp.values import Address, Attributes, ExportPolicy, Family, Network


@dataclass(frozen=True, slots=True)
class Send:
    """Announce the prefixes with the attributes to these neighbours, or (`attributes` None) withdraw them."""

    addresses: tuple[Address, ...]
    attributes: Attributes | None
    prefixes: tuple[Network, ...]


@dataclass(slots=True, eq=False)
class Audience:
    """Neighbours that are up and differ in nothing that an export depends on, except which paths are their own."""

    check: ExportCheck
    treatment: Treatment
    members: dict[Peer, None] = field(default_factory=dict)
    by_asn: dict[int, dict[Peer, None]] = field(default_factory=dict)
    by_router_id: dict[IPv4Address, dict[Peer, None]] = field(default_factory=dict)

    def add(self, peer: Peer) -> None:
        """Take a neighbour in."""
        self.members[peer] = None
        self.by_asn.setdefault(peer.neighbor.asn, {})[peer] = None
        self.by_router_id.setdefault(peer.router_id, {})[peer] = None

    def discard(self, peer: Peer) -> None:
        """Let a neighbour go, whatever its AS and router id were when it came."""
        self.members.pop(peer, None)
        for index in (*self.by_asn.values(), *self.by_router_id.values()):
            index.pop(peer, None)

    def concerned(self, paths: Iterable[Path]) -> dict[Peer, None]:
        """Return the members that one of the paths may be withheld from."""
        found: dict[Peer, None] = {}
        for path in paths:
            if path.source in self.members:
                found[path.source] = None
            for asn in path.attributes.path_asns:
                found.update(self.by_asn.get(asn, {}))
            if path.attributes.originator_id is not None:
                found.update(self.by_router_id.get(path.attributes.originator_id, {}))
        return found


class Spread:
    """The neighbours that are up, in audiences, and how many routes each was sent."""

    def __init__(self, exporter: Exporter) -> None:
        """Start without neighbours."""
        self._exporter = exporter
        self._audiences: dict[tuple[ExportPolicy, Treatment], Audience] = {}
        self._audience_of: dict[Peer, Audience] = {}
        self.advertised: dict[Peer, int] = {}

    def join(self, peer: Peer, treatment: Treatment) -> None:
        """Add a neighbour that came up; it has been sent nothing."""
        self.leave(peer)
        self._place(peer, treatment)
        self.advertised[peer] = 0

    def leave(self, peer: Peer) -> None:
        """Remove a neighbour that went down."""
        audience = self._audience_of.pop(peer, None)
        if audience is not None:
            audience.discard(peer)
            if not audience.members:
                self._audiences = {key: kept for key, kept in self._audiences.items() if kept is not audience}
        self.advertised.pop(peer, None)

    def treatment(self, peer: Peer) -> Treatment | None:
        """Return how a neighbour is treated, None if it is not up."""
        audience = self._audience_of.get(peer)
        return None if audience is None else audience.treatment

    def _place(self, peer: Peer, treatment: Treatment) -> None:
        key = (peer.neighbor.exports, treatment)
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(ExportCheck(peer.neighbor.exports), treatment)
        audience.add(peer)
        self._audience_of[peer] = audience

    def changes(self, changed: Iterable[tuple[Destination, tuple[Path, ...]]]) -> Iterator[Send]:
        """Tell everybody what changed: destinations with their paths before."""
        alike: dict[tuple[tuple[Path, ...], tuple[Path, ...], Family], list[Network]] = {}
        for dest, before in changed:
            alike.setdefault((before, dest.ranked, dest.family), []).append(dest.prefix)
        for (before, after, family), prefixes in alike.items():
            for audience in self._audiences.values():
                allowed = tuple(filter(audience.check.match, prefixes))
                if allowed:
                    yield from self._tell(audience, before, after, family, allowed)

    def _tell(
        self,
        audience: Audience,
        before: tuple[Path, ...],
        after: tuple[Path, ...],
        family: Family,
        prefixes: tuple[Network, ...],
    ) -> Iterator[Send]:
        exporter, treatment = self._exporter, audience.treatment
        concerned = audience.concerned((*exporter.candidates(before), *exporter.candidates(after)))
        told: dict[Attributes | None, list[Address]] = {}
        if len(concerned) < len(audience.members):
            old = exporter.ordinary(before, treatment, family)
            new = exporter.ordinary(after, treatment, family)
            ordinary = [peer for peer in audience.members if peer not in concerned]
            self._note(told, ordinary, old, new, len(prefixes))
        for peer in concerned:
            old = exporter.special(before, peer, treatment, family)
            new = exporter.special(after, peer, treatment, family)
            self._note(told, [peer], old, new, len(prefixes))
        for attributes, addresses in told.items():
            yield Send(tuple(addresses), attributes, prefixes)

    def _note(
        self,
        told: dict[Attributes | None, list[Address]],
        peers: list[Peer],
        old: Attributes | None,
        new: Attributes | None,
        count: int,
    ) -> None:
        if old == new:
            return
        told.setdefault(new, []).extend(peer.address for peer in peers)
        change = (new is not None) - (old is not None)
        if change:
            for peer in peers:
                self.advertised[peer] += change * count

    def table(self, peer: Peer, destinations: Iterable[Destination], family: Family | None = None) -> Iterator[Send]:
        """Tell one neighbour everything (of one family), as after it came up or asked for a refresh."""
        audience = self._audience_of[peer]
        total = 0
        for (ranked, of), prefixes in _alike(destinations).items():
            if family is not None and of is not family:
                continue
            attributes = self._exporter.special(ranked, peer, audience.treatment, of)
            allowed = () if attributes is None else tuple(filter(audience.check.match, prefixes))
            if allowed:
                total += len(allowed)
                yield Send((peer.address,), attributes, allowed)
        if family is None:
            self.advertised[peer] = total

    def move(self, peer: Peer, treatment: Treatment, destinations: Iterable[Destination]) -> Iterator[Send]:
        """Tell one neighbour the difference that a new export policy or treatment makes."""
        old = self._audience_of[peer]
        old.discard(peer)
        self._place(peer, treatment)
        new = self._audience_of[peer]
        for (ranked, family), prefixes in _alike(destinations).items():
            before = self._exporter.special(ranked, peer, old.treatment, family)
            after = self._exporter.special(ranked, peer, new.treatment, family)
            had = set() if before is None else set(filter(old.check.match, prefixes))
            has = () if after is None else tuple(filter(new.check.match, prefixes))
            lost = had.difference(has)
            gone = tuple(prefix for prefix in prefixes if prefix in lost)
            fresh = tuple(prefix for prefix in has if before != after or prefix not in had)
            self.advertised[peer] += len(has) - len(had)
            if gone:
                yield Send((peer.address,), None, gone)
            if fresh:
                yield Send((peer.address,), after, fresh)
        self._audiences = {key: kept for key, kept in self._audiences.items() if kept.members}


def _alike(destinations: Iterable[Destination]) -> dict[tuple[tuple[Path, ...], Family], list[Network]]:
    """Group destinations by their paths."""
    groups: dict[tuple[tuple[Path, ...], Family], list[Network]] = {}
    for dest in destinations:
        if dest.ranked:
            groups.setdefault((dest.ranked, dest.family), []).append(dest.prefix)
    return groups
