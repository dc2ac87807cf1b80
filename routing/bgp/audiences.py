"""Who must be told what when labels change: Adj-RIB-Out without a table.

Called by `routing.bgp.routeserver`. Pure. What a neighbour was sent follows from the label before, what it must be sent from
the label now: the difference of the two is the message. Neighbours for whom policy, treatment and way of writing are the same
are one audience: for them a label is exported once and a message written once. Only those that a path may be withheld
from (its source, those in its AS_PATH) are asked one by one. Who is too far behind is told nothing until it has read what
it was sent; which prefixes have changed for it meanwhile, and what they were before, is kept in tables of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from routing.bgp.audience import Audience
from routing.bgp.filters import ExportFilter
from routing.bgp.hot import PrefixFilter, PrefixTable
from routing.bgp.hot import count as _count
from routing.bgp.nlri import WIDTHS, each
from routing.bgp.paths import Label, Path
from routing.bgp.values import Family

if TYPE_CHECKING:
    from routing.bgp.export import Exporter, Treatment
    from routing.bgp.peers import Peer
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

    def changes(self, family: Family, changes: Iterable[Change]) -> list[Send]:
        """Tell everybody what changed."""
        sends: list[Send] = []
        audiences = [
            (audience, audience.filter.allowed)
            for audience in self._audiences.values()
            if audience.members and family in audience.treatment.families
        ]
        for change in changes:
            for audience, allowed in audiences:
                part = allowed(family, change[2])
                if part:
                    self._tell(sends, audience, family, change, part)
            for missed in self._behind.values():
                if family in missed:
                    _note(missed[family], change)
        return sends

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

    def is_behind(self, peer: Peer) -> bool:
        """Tell whether a neighbour is told nothing for now."""
        return peer in self._behind

    def catch_up(self, peer: Peer) -> list[Send]:
        """Tell a neighbour what it has missed, net, and count it in again."""
        behind = self._behind.pop(peer, None)
        if behind is None:
            return []
        place = self._places[peer]
        # It may have gone while its last member was behind.
        audience = self._audience(place.audience.filter, place.audience.treatment, place.audience.format)
        place.extra -= audience.told
        sends: list[Send] = []
        for family, missed in behind.items():
            for label, _ in missed.labels():
                before = None if isinstance(label, Missing) else label
                for after, nlri in self._tables.of[family].within(missed.of(label)):
                    part = audience.filter.allowed(family, nlri)
                    if part:
                        self._tell_one(sends, audience, peer, family, (before, after, part, _count(part)))
        place.audience = audience
        audience.add((peer,))
        return sends

    # -- how

    def _audience(self, allowed: ExportFilter, treatment: Treatment, format_: Format) -> Audience:
        key = (allowed.key, treatment, format_)
        found = self._audiences.get(key)
        if found is None:
            found = self._audiences[key] = Audience(self._exporter, allowed, treatment, format_)
        return found

    def _move(self, old: Audience, new: Audience, peers: tuple[Peer, ...]) -> Iterator[Send]:
        members = dict.fromkeys(peers)
        told = {peer: self.advertised(peer) for peer in peers}
        alike, gained = old.treatment == new.treatment, 0
        for family, label, nlri in self._all():
            had, has = old.filter.allowed(family, nlri), new.filter.allowed(family, nlri)
            if had is has and alike:
                continue
            before, after = (_said(old, label, family), had), (_said(new, label, family), has)
            concerned = tuple(peer for peer in old.concerned(None, label) if peer in members)
            gain = _gain(before, after)
            gained += gain
            yield from _difference(peers, concerned, family, before, after, new.format)
            for peer in concerned:
                mine = (_said_to(old, peer, label, family), had), (_said_to(new, peer, label, family), has)
                told[peer] += _gain(*mine) - gain
                yield from _difference((peer,), (), family, *mine, new.format)
        for peer in peers:
            self._part(peer, old)
        # It may be the one that others left, and be gone with the last of them.
        new = self._audience(new.filter, new.treatment, new.format)
        new.add(peers)
        for peer in peers:
            self._places[peer] = Place(new, told[peer] + gained - new.told)

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
        """Tell some members of an audience everything (of one family); `first`: they have been sent nothing."""
        members, total = dict.fromkeys(peers), 0
        for family, label, nlri in self._all():
            if family not in audience.treatment.families or only not in (None, family):
                continue
            part = audience.filter.allowed(family, nlri)
            if not part:
                continue
            number = _count(part)
            concerned = tuple(peer for peer in audience.concerned(None, label) if peer in members)
            octets = audience.said(label, family)
            total += number * (octets is not None)
            if octets is not None and len(concerned) < len(peers):
                yield Send(peers, concerned, family, octets, part, audience.format)
            for peer in concerned:
                special = audience.said_to(peer, label, family)
                self._places[peer].extra += first * number * ((special is not None) - (octets is not None))
                if special is not None:
                    yield Send((peer,), (), family, special, part, audience.format)
        for peer in peers if first else ():
            self._places[peer].extra += total

    def _tell(self, sends: list[Send], audience: Audience, family: Family, change: Change, part: bytes) -> None:
        before, after, nlri, number = change
        if before is None and self._exporter.transparent and isinstance(after, Path) and after.source is not None:
            self._tell_new(sends, audience, family, after, (part, number if part is nlri else _count(part)))
            return
        # A reflector's marks are those of the neighbour that taught it, which may be another router now.
        if before is not None and after is not None and self._exporter.transparent and before.same(after):
            return
        if part is not nlri:
            number = _count(part)
        old = None if before is None else audience.said(before, family)
        new = None if after is None else audience.said(after, family)
        concerned = audience.concerned(before, after)
        if old != new and len(concerned) < len(audience.roster):
            sends.append(Send(audience.roster, concerned, family, new, part, audience.format))
        difference = ((new is not None) - (old is not None)) * number
        audience.told += difference
        for peer in concerned:
            self._places[peer].extra -= difference
            self._tell_one(sends, audience, peer, family, (before, after, part, number))

    def _tell_new(
        self, sends: list[Send], audience: Audience, family: Family, path: Path, prefixes: tuple[bytes, int]
    ) -> None:
        """Tell an audience of the one path to prefixes that had none: most of what a route server says, so in one piece."""
        if path.reason is not None or len(path.next_hop) not in audience.hops[family]:
            return
        nlri, number = prefixes
        concerned = audience.concerned_by(path)
        if len(concerned) < len(audience.roster):
            sends.append(Send(audience.roster, concerned, family, audience.words(path), nlri, audience.format))
        audience.told += number
        for peer in concerned:
            self._places[peer].extra -= number
            if peer is not path.source:
                self._tell_one(sends, audience, peer, family, (None, path, nlri, number))

    def _tell_one(self, sends: list[Send], audience: Audience, peer: Peer, family: Family, change: Change) -> None:
        before, after, nlri, number = change
        old, new = audience.said_to(peer, before, family), audience.said_to(peer, after, family)
        if old == new:
            return
        self._places[peer].extra += ((new is not None) - (old is not None)) * number
        sends.append(Send((peer,), (), family, new, nlri, audience.format))


def _said(audience: Audience, label: Label, family: Family) -> bytes | None:
    return audience.said(label, family) if family in audience.treatment.families else None


def _said_to(audience: Audience, peer: Peer, label: Label, family: Family) -> bytes | None:
    return audience.said_to(peer, label, family) if family in audience.treatment.families else None


def _note(missed: PrefixTable[Label | Missing], change: Change) -> None:
    """Keep what prefixes were before, unless something is kept already."""
    before = MISSING if change[0] is None else change[0]
    missed.relabel(change[2], lambda known: before if known is None else known)
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
