"""Who says what about which prefix, for all neighbours and both families, and what changed since it was last asked.

Called by `routing.bgp.routeserver`. Pure. One table a family maps prefixes to labels (`paths`); everything a neighbour does
is a relabelling of packed NLRI. There is no Adj-RIB-In apart: what a neighbour said is the labels that hold a path of it.
Refused paths are kept with their reason. Stale ones (RFC 4724) stay in use until they are named again, the neighbour says
End-of-RIB, or their time is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from routing.bgp.hot import PrefixTable, count
from routing.bgp.nlri import WIDTHS
from routing.bgp.paths import Choice, Choices, Label, Path, path_of
from routing.bgp.peers import Peer, keep_named, named, path_asns
from routing.bgp.values import Address, Family, Neighbor, Reason, Speaker

#: Paths and choices made since the last sweep, at least, before what nobody uses is looked for.
_SWEEP = 1000


#: Label before, label after, prefixes, how many.
Change = tuple[Label | None, Label | None, bytes, int]


class Tables:
    """The prefixes of both families."""

    def __init__(self, peers: Mapping[Address, Peer]) -> None:
        """Start empty; `peers` are all neighbours that have said anything, kept by the caller."""
        self._peers = peers
        self.of: dict[Family, PrefixTable[Label]] = {family: PrefixTable(WIDTHS[family]) for family in Family}
        self.ours: frozenset[int] = frozenset()
        self._choices = Choices()
        self._made = self._live = 0
        # Of whom more may be let in than before.
        self._roomy: dict[Peer, None] = {}

    # -- what neighbours say

    def announce(self, peer: Peer, family: Family, path: Path, nlri: bytes) -> None:
        """Take in prefixes with an attribute set that was judged by itself; each is judged by the policy."""
        self._made += 1
        # No more prefixes than octets: that is enough where the limit is far.
        if path.reason is None and peer.accepted + len(nlri) <= peer.room and peer.judge.accepts(family, nlri):
            for before, _, number in self.of[family].relabel(nlri, partial(self._choices.put, path)):
                if before is None:
                    peer.received += number
                    peer.accepted += number
                else:
                    self._count(peer, path_of(before, peer), path, number)
        else:
            self._announce(peer, family, path, nlri)
        if peer.waiting:
            self._leaving(peer)

    def _announce(self, peer: Peer, family: Family, path: Path, nlri: bytes) -> None:
        for reason, part in peer.judge.prefixes(family, nlri):
            verdict = path.reason if reason is None else reason
            if verdict is not None or peer.limit is None:
                self._say(peer, family, peer.variant(path, verdict), part)
            else:
                self._say_limited(peer, family, path, part, peer.limit)

    def refuse(self, peer: Peer, family: Family, nlri: bytes) -> None:
        """Take in prefixes that are treated as withdrawn (RFC 7606), and remember that they were."""
        self._say(peer, family, peer.malformed(), nlri)
        self._leaving(peer)

    def withdraw(self, peer: Peer, family: Family, nlri: bytes) -> None:
        """Take in a withdrawal; what was never announced is ignored."""
        for before, _, number in self.of[family].relabel(nlri, self._choices.removing(peer)):
            self._count(peer, path_of(before, peer), None, number)
        self._leaving(peer)

    def originate(self, family: Family, nlri: bytes, path: Path | None) -> None:
        """Set or remove our own route to prefixes."""
        step = self._choices.removing(None) if path is None else self._choices.setting(path)
        self.of[family].relabel(nlri, step)

    # -- what becomes of neighbours

    def down(self, peer: Peer, kept: frozenset[Family], until: float) -> None:
        """End a session: paths of the families in `kept` become stale until `until`, all others go.

        RFC 4724 4.2: what was already stale from an earlier restart is not kept a second time.
        """
        peer.stale_until = None
        said = self._said(peer)
        staying = [(family, label, path) for family, label, path in said if family in kept and not path.stale]
        # These first: what becomes stale is afterwards the same path as what was.
        for family, label, path in said:
            if family not in kept or path.stale:
                self._remove(peer, family, label, path)
        for family, label, path in staying:
            self._replace(family, label, peer.variant(path, path.reason, stale=True))
            peer.stale_until = until
        self._leaving(peer)

    def end_of_rib(self, peer: Peer, family: Family) -> None:
        """Remove what the neighbour did not name again after its restart."""
        if peer.stale_until is None:
            return
        left = False
        for of, label, path in self._said(peer):
            if path.stale and of is family:
                self._remove(peer, of, label, path)
            left = left or (path.stale and of is not family)
        if not left:
            peer.stale_until = None
        self._leaving(peer)

    def expire(self, peer: Peer, now: float) -> bool:
        """Remove stale paths whose time is over; tell whether there were any."""
        if peer.stale_until is None or now < peer.stale_until:
            return False
        for family in Family:
            self.end_of_rib(peer, family)
        return True

    def follow(self, peer: Peer, neighbor: Neighbor, speaker: Speaker) -> None:
        """Give a neighbour another policy, and ask it about everything that the neighbour said."""
        said = list(self.said(peer))
        peer.follow(neighbor, speaker)
        peer.accepted = peer.waiting = 0
        for family, path, nlri in said:
            if path.reason is Reason.MALFORMED:
                continue
            base = peer.path(path.octets, self.ours)
            if base.reason is None and peer.accepted + len(nlri) <= peer.room and peer.judge.accepts(family, nlri):
                self._rejudge(peer, family, path, peer.variant(base, None, stale=path.stale), nlri)
                continue
            for reason, part in peer.judge.prefixes(family, nlri):
                self._rejudge(peer, family, path, peer.variant(base, reason or base.reason, stale=path.stale), part)

    def reweigh(self, peer: Peer) -> None:
        """Decide again: the neighbour has another router id, so its paths stand differently."""
        said = self._said(peer)
        peer.forget({})
        for family, label, path in said:
            self._replace(family, label, peer.again(path))

    def name(self, ours: frozenset[int]) -> None:
        """Learn the AS numbers of all neighbours: whom a path may not go to is a matter of its AS_PATH."""
        if ours == self.ours:
            return
        self.ours = ours
        keep_named(())
        for peer in self._peers.values():
            for path in peer.all_paths():
                path.avoid = named(ours, path_asns(path))

    # -- what is asked

    def changes(self) -> list[tuple[Family, list[Change]]]:
        """Return what changed since the last call, net; each prefix is in one change at most."""
        for peer in self._roomy:
            self._admit_waiting(peer)
        self._roomy = {}
        found = [(family, changes) for family, table in self.of.items() if (changes := table.take_changes())]
        if self._made + self._choices.made > max(_SWEEP, self._live):
            self._sweep()
        return found

    def said(self, peer: Peer) -> Iterator[tuple[Family, Path, bytes]]:
        """Yield what a neighbour says: paths with their prefixes."""
        for family, label, path in self._said(peer):
            yield family, path, self.of[family].of(label)

    def _said(self, peer: Peer) -> list[tuple[Family, Label, Path]]:
        """Return the labels that hold a path of a neighbour: a matter of its own paths, not of everybody's."""
        return [
            (family, label, path)
            for path in peer.all_paths()
            for family, table in self.of.items()
            for label in (path, *path.choices)
            if table.size(label)
        ]

    # -- how

    def _say(self, peer: Peer, family: Family, path: Path, nlri: bytes) -> None:
        for before, _, number in self.of[family].relabel(nlri, self._choices.setting(path)):
            self._count(peer, path_of(before, peer), path, number)

    @staticmethod
    def _count(peer: Peer, old: Path | None, new: Path | None, number: int) -> None:
        if old is not None:
            peer.received -= number
            peer.accepted -= number * (old.reason is None)
            peer.waiting -= number * (old.reason is Reason.MAX_PREFIXES)
        if new is not None:
            peer.received += number
            peer.accepted += number * (new.reason is None)
            peer.waiting += number * (new.reason is Reason.MAX_PREFIXES)

    def _leaving(self, peer: Peer) -> None:
        # Not at once: who is let in is looked for among all that wait, and messages that make room come in numbers.
        if peer.waiting:
            self._roomy[peer] = None

    def _say_limited(self, peer: Peer, family: Family, path: Path, nlri: bytes, limit: int) -> None:
        """Let in as many as the limit allows; those that were in before stay in."""
        if peer.accepted + count(nlri) <= limit:
            self._say(peer, family, path, nlri)
            return
        over = peer.variant(path, Reason.MAX_PREFIXES)
        for label, part in self.of[family].within(nlri):
            old = path_of(label, peer)
            admitted, rest = part, b""
            if old is None or old.reason is not None:
                admitted, rest = _first(part, limit - peer.accepted)
            self._say(peer, family, path, admitted)
            self._say(peer, family, over, rest)

    def _admit_waiting(self, peer: Peer) -> None:
        """Let in who waits while there is room."""
        room = peer.waiting if peer.limit is None else peer.limit - peer.accepted
        if not peer.waiting or room <= 0:
            return
        for family, label, path in self._said(peer):
            if path.reason is Reason.MAX_PREFIXES:
                admitted, _ = _first(self.of[family].of(label), room)
                room -= count(admitted)
                self._say(peer, family, peer.variant(path, None, stale=path.stale), admitted)

    def _rejudge(self, peer: Peer, family: Family, old: Path, new: Path, nlri: bytes) -> None:
        """Put the new verdict in the place of the old; the limit counts from nothing."""
        if new.reason is None and peer.accepted + len(nlri) > peer.room:
            nlri, rest = _first(nlri, peer.room - peer.accepted)
            over = peer.variant(new, Reason.MAX_PREFIXES, stale=new.stale)
            self.of[family].relabel(rest, self._choices.setting(over))
            peer.waiting += count(rest)
        if new is not old:
            self.of[family].relabel(nlri, self._choices.setting(new))
        peer.accepted += count(nlri) * (new.reason is None)

    def _remove(self, peer: Peer, family: Family, label: Label, path: Path) -> None:
        number = self.of[family].relabel_all(label, self._choices.removing(peer)(label))
        self._count(peer, path, None, number)

    def _replace(self, family: Family, label: Label, path: Path) -> None:
        self.of[family].relabel_all(label, self._choices.setting(path)(label))

    def _sweep(self) -> None:
        """Forget paths and choices that no prefix has; what that costs is spread over those made since."""
        labels = [label for table in self.of.values() for label, _ in table.labels()]
        live = {path: None for label in labels for path in label.paths}
        for peer in self._peers.values():
            peer.forget(live)
        self._choices.forget(live, [label for label in labels if isinstance(label, Choice)])
        keep_named(live)
        self._made, self._live = 0, len(labels)


def _first(nlri: bytes, number: int) -> tuple[bytes, bytes]:
    """Cut after so many prefixes."""
    at = 0
    while number > 0 and at < len(nlri):
        at += 1 + (nlri[at] + 7) // 8
        number -= 1
    return nlri[:at], nlri[at:]
