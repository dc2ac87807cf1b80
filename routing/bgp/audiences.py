"""Who must be told what when labels change: Adj-RIB-Out without a table.

Called by `routing.bgp.routeserver`. Pure. What a neighbour was sent follows from the label before, what it must be sent from
the label now: the difference of the two is the message. Neighbours for whom policy, treatment and way of writing are the same
are one audience: for them a label is exported once and a message written once. Only those that a path may be withheld
from (its source, those in its AS_PATH) are asked one by one. Who is too far behind is told nothing until it has read what
it was sent; which prefixes have changed for it meanwhile, and what they were before, is kept in tables of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from routing.bgp.attributes import encode
from routing.bgp.decision import rank
from routing.bgp.filters import ExportFilter
from routing.bgp.hot import PrefixFilter, PrefixTable
from routing.bgp.hot import count as _count
from routing.bgp.nlri import WIDTHS, each
from routing.bgp.peers import Peer
from routing.bgp.values import Family

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from routing.bgp.export import Exporter, Treatment
    from routing.bgp.paths import Label, Path
    from routing.bgp.tables import Change, Tables
    from routing.bgp.update import Format


class Send(NamedTuple):
    """Announce the prefixes with the attributes, or (`octets` None) withdraw them: to all of `to` but those in `but`."""

    to: tuple[Peer, ...]
    but: tuple[Peer, ...]
    family: Family
    octets: bytes | None
    nlri: bytes
    format: Format


@dataclass(slots=True, eq=False)
class Audience:
    """Neighbours that are up and differ in nothing that an export depends on, except which paths are their own.

    `roster` holds all members: one object as long as nobody comes or goes. `told` counts the routes that a member has been
    sent and not withdrawn since the audience was made, whatever was withheld from it.
    """

    filter: ExportFilter
    treatment: Treatment
    format: Format
    members: dict[Peer, None] = field(default_factory=dict)
    by_asn: dict[int, dict[Peer, None]] = field(default_factory=dict)
    by_router_id: dict[IPv4Address, dict[Peer, None]] = field(default_factory=dict)
    roster: tuple[Peer, ...] = ()
    told: int = 0

    def add(self, peers: Iterable[Peer]) -> None:
        """Take neighbours in."""
        for peer in peers:
            self.members[peer] = None
            self.by_asn.setdefault(peer.neighbor.asn, {})[peer] = None
            self.by_router_id.setdefault(peer.router_id, {})[peer] = None
        self.roster = tuple(self.members)

    def discard(self, peer: Peer) -> None:
        """Let a neighbour go."""
        if self.members.pop(peer, self) is self:
            return
        self.roster = tuple(self.members)
        self.by_asn[peer.neighbor.asn].pop(peer)
        self.by_router_id[peer.router_id].pop(peer)


@dataclass(slots=True, eq=False)
class Place:
    """Where a neighbour is: its audience, and how many routes it was sent more than the audience counts."""

    audience: Audience
    extra: int = 0


class Missing:
    """The label before of a prefix that had none."""


MISSING = Missing()


class Audiences:
    """The neighbours that are up, by audience."""

    def __init__(self, exporter: Exporter, tables: Tables) -> None:
        """Start without neighbours."""
        self._exporter, self._tables = exporter, tables
        self._audiences: dict[tuple[object, Treatment, Format], Audience] = {}
        self._places: dict[Peer, Place] = {}
        self._behind: dict[Peer, dict[Family, PrefixTable[Label | Missing]]] = {}

    # -- who is there

    def join(self, some: Iterable[tuple[Peer, Treatment, Format]]) -> Iterator[Send]:
        """Add neighbours that came up, and tell them everything; those of one audience together."""
        newcomers: dict[Audience, list[Peer]] = {}
        for peer, treatment, format_ in some:
            audience = self._audience(ExportFilter(peer.neighbor.exports), treatment, format_)
            self._places[peer] = Place(audience, -audience.told)
            newcomers.setdefault(audience, []).append(peer)
        for audience, peers in newcomers.items():
            audience.add(peers)
            yield from self._table(audience, tuple(peers), first=True)

    def leave(self, peer: Peer) -> None:
        """Remove a neighbour that went down."""
        self._behind.pop(peer, None)
        place = self._places.pop(peer, None)
        if place is not None:
            self._part(peer, place.audience)

    def move(self, some: Iterable[tuple[Peer, Treatment]]) -> Iterator[Send]:
        """Tell neighbours, none behind, the difference that a new export or treatment makes; who move alike, together."""
        moves: dict[tuple[Audience, Audience], list[Peer]] = {}
        for peer, treatment in some:
            old = self._places[peer].audience
            new = self._audience(ExportFilter(peer.neighbor.exports), treatment, old.format)
            if new is not old:
                moves.setdefault((old, new), []).append(peer)
        for (old, new), peers in moves.items():
            yield from self._move(old, new, tuple(peers))

    def advertised(self, peer: Peer) -> int:
        """Return how many routes a neighbour was sent."""
        place = self._places.get(peer)
        if place is None:
            return 0
        # While it is behind, what the audience counts is not what it was sent.
        return place.extra + (0 if peer in self._behind else place.audience.told)

    # -- what they are told

    def changes(self, changes: Iterable[Change]) -> Iterator[Send]:
        """Tell everybody what changed."""
        audiences = [audience for audience in self._audiences.values() if audience.members]
        for change in changes:
            for audience in audiences:
                if change.family in audience.treatment.families:
                    part = audience.filter.allowed(change.family, change.nlri)
                    if part:
                        number = change.count if part is change.nlri else _count(part)
                        yield from self._tell(audience, change, part, number)
            for missed in self._behind.values():
                if change.family in missed:
                    _note(missed[change.family], change)

    def table(self, peer: Peer, family: Family) -> Iterator[Send]:
        """Tell one neighbour, who is not behind, everything of a family again, as it asks (RFC 2918)."""
        yield from self._table(self._places[peer].audience, (peer,), family)

    def fall_behind(self, peer: Peer) -> None:
        """Tell a neighbour nothing more until `catch_up`."""
        place = self._places.get(peer)
        if place is not None and peer not in self._behind:
            place.extra += place.audience.told
            self._part(peer, place.audience)
            self._behind[peer] = {family: PrefixTable(WIDTHS[family]) for family in place.audience.treatment.families}

    def catch_up(self, peer: Peer) -> Iterator[Send]:
        """Tell a neighbour what it has missed, net, and count it in again."""
        behind = self._behind.pop(peer, None)
        if behind is None:
            return
        place = self._places[peer]
        # It may have gone while its last member was behind.
        audience = self._audience(place.audience.filter, place.audience.treatment, place.audience.format)
        place.extra -= audience.told
        for family, missed in behind.items():
            for label, _ in missed.labels():
                before = None if isinstance(label, Missing) else label
                for after, nlri in self._tables.of[family].within(missed.of(label)):
                    part = audience.filter.allowed(family, nlri)
                    if part:
                        yield from self._tell_one(audience, peer, (before, after), family, part)
        place.audience = audience
        audience.add((peer,))

    # -- how

    def _audience(self, allowed: ExportFilter, treatment: Treatment, format_: Format) -> Audience:
        key = (allowed.key, treatment, format_)
        found = self._audiences.get(key)
        if found is None:
            found = self._audiences[key] = Audience(allowed, treatment, format_)
        return found

    def _move(self, old: Audience, new: Audience, peers: tuple[Peer, ...]) -> Iterator[Send]:
        members = dict.fromkeys(peers)
        told = {peer: self.advertised(peer) for peer in peers}
        for family, label, nlri in self._all():
            had, has = old.filter.allowed(family, nlri), new.filter.allowed(family, nlri)
            concerned = tuple(peer for peer in self._concerned(old, label.ranked) if peer in members)
            before, after = self._ordinary(label, old, family), self._ordinary(label, new, family)
            change = _gain((before, had), (after, has))
            for peer in peers if change else ():
                told[peer] += change
            yield from _difference(peers, concerned, family, (before, had), (after, has), new.format)
            for peer in concerned:
                mine = (self._special(label, peer, old, family), had), (self._special(label, peer, new, family), has)
                told[peer] += _gain(*mine) - change
                yield from _difference((peer,), (), family, *mine, new.format)
        for peer in peers:
            self._part(peer, old)
        # It may be the one that others left, and be gone with the last of them.
        new = self._audience(new.filter, new.treatment, new.format)
        new.add(peers)
        for peer in peers:
            self._places[peer] = Place(new, told[peer] - new.told)

    def _part(self, peer: Peer, audience: Audience) -> None:
        audience.discard(peer)
        if not audience.members:
            self._audiences = {key: kept for key, kept in self._audiences.items() if kept is not audience}

    def _all(self) -> Iterator[tuple[Family, Label, bytes]]:
        for family, table in self._tables.of.items():
            for label, _ in table.labels():
                if label.ranked:
                    yield family, label, table.of(label)

    def _table(
        self, audience: Audience, peers: tuple[Peer, ...], only: Family | None = None, *, first: bool = False
    ) -> Iterator[Send]:
        """Tell some members of an audience everything (of one family)."""
        for family, label, nlri in self._all():
            if family not in audience.treatment.families or only not in (None, family):
                continue
            part = audience.filter.allowed(family, nlri)
            if not part:
                continue
            concerned = tuple(peer for peer in self._concerned(audience, label.ranked) if peer in peers)
            octets = self._ordinary(label, audience, family)
            if octets is not None and len(concerned) < len(peers):
                yield Send(peers, concerned, family, octets, part, audience.format)
            for peer in peers if first else ():
                self._places[peer].extra += (octets is not None and peer not in concerned) * _count(part)
            for peer in concerned:
                special = self._special(label, peer, audience, family)
                if special is not None:
                    self._places[peer].extra += first * _count(part)
                    yield Send((peer,), (), family, special, part, audience.format)

    def _tell(self, audience: Audience, change: Change, nlri: bytes, number: int) -> Iterator[Send]:
        before, after, family = change.before, change.after, change.family
        old = None if before is None else self._ordinary(before, audience, family)
        new = None if after is None else self._ordinary(after, audience, family)
        concerned: dict[Peer, None] = {}
        if before is not None:
            concerned |= self._concerned(audience, before.ranked)
        if after is not None:
            concerned |= self._concerned(audience, after.ranked)
        if old != new and len(concerned) < len(audience.roster):
            yield Send(audience.roster, tuple(concerned), family, new, nlri, audience.format)
        difference = ((new is not None) - (old is not None)) * number
        audience.told += difference
        for peer in concerned:
            self._places[peer].extra -= difference
            yield from self._tell_one(audience, peer, (before, after), family, nlri)

    def _tell_one(
        self, audience: Audience, peer: Peer, labels: tuple[Label | None, Label | None], family: Family, nlri: bytes
    ) -> Iterator[Send]:
        old, new = (None if label is None else self._special(label, peer, audience, family) for label in labels)
        if old == new:
            return
        change = (new is not None) - (old is not None)
        if change:
            self._places[peer].extra += change * _count(nlri)
        yield Send((peer,), (), family, new, nlri, audience.format)

    def _concerned(self, audience: Audience, paths: Iterable[Path]) -> dict[Peer, None]:
        """Return the members that one of the accepted paths may be withheld from."""
        found: dict[Peer, None] = {}
        for path in paths:
            if path.source in audience.members:
                found[path.source] = None  # type: ignore[index] # our own routes have no member as source
            for asn in path.avoid:
                found.update(audience.by_asn.get(asn, ()))
            if not self._exporter.transparent and path.attributes.originator_id is not None:
                found.update(audience.by_router_id.get(path.attributes.originator_id, ()))
        return found

    def _ordinary(self, label: Label, audience: Audience, family: Family) -> bytes | None:
        """Return what a member is sent from whom no path is withheld, None if nothing."""
        return self._best(self._exporter.candidates(label.ranked), audience, family)

    def _special(self, label: Label, peer: Peer, audience: Audience, family: Family) -> bytes | None:
        """Return what exactly this member is sent, None if nothing."""
        candidates = self._exporter.candidates(label.ranked)
        allowed = [path for path in candidates if not self._exporter.withheld(path, peer)]
        return self._best(allowed if len(allowed) == len(candidates) else rank(allowed), audience, family)

    def _best(self, paths: tuple[Path, ...] | list[Path], audience: Audience, family: Family) -> bytes | None:
        if family not in audience.treatment.families:
            return None
        said = [octets for path in paths if (octets := self._octets(path, audience.treatment, family)) is not None]
        if len(said) == len(paths):
            return said[0] if said else None
        # Without some of the paths the order may be another one (`rank`).
        sayable = rank([path for path in paths if self._octets(path, audience.treatment, family) is not None])
        return self._octets(sayable[0], audience.treatment, family) if sayable else None

    def _octets(self, path: Path, treatment: Treatment, family: Family) -> bytes | None:
        """Return a path's attributes as they are said to those treated so; None: they are not told of it."""
        if self._exporter.transparent and path.source is not None:
            return path.octets if treatment.can_say(path.next_hop, family) else None
        if path.sent is None:
            path.sent = {}
        key = (treatment, family)
        if key not in path.sent:
            attributes = self._exporter.attributes(path, treatment, family)
            path.sent[key] = None if attributes is None else encode(attributes, family)
        return path.sent[key]


def _note(missed: PrefixTable[Label | Missing], change: Change) -> None:
    """Keep what prefixes were before, unless something is kept already."""
    before = MISSING if change.before is None else change.before
    missed.relabel(change.nlri, lambda known: before if known is None else known)
    missed.take_changes()


Said = tuple[bytes | None, bytes]  # attributes, and the prefixes that have them; None: nothing is said of them


def _gain(before: Said, after: Said) -> int:
    """Return how many more routes it is after."""
    return (0 if after[0] is None else _count(after[1])) - (0 if before[0] is None else _count(before[1]))


def _difference(
    to: tuple[Peer, ...], but: tuple[Peer, ...], family: Family, before: Said, after: Said, format_: Format
) -> Iterator[Send]:
    """Tell some what they must lose and what they must get."""
    had = before[1] if before[0] is not None else b""
    has = after[1] if after[0] is not None else b""
    if len(but) == len(to):
        return
    lost = b"" if had is has else exactly(has, family).split(had)[1]
    fresh = has
    if before[0] == after[0]:
        fresh = b"" if had is has else exactly(had, family).split(has)[1]
    if lost:
        yield Send(to, but, family, None, lost, format_)
    if fresh:
        yield Send(to, but, family, after[0], fresh, format_)


def exactly(nlri: bytes, family: Family) -> PrefixFilter:
    """Return the filter that these prefixes pass and no others."""
    return PrefixFilter(WIDTHS[family], ((one, one[0], one[0]) for one in each(nlri)))
