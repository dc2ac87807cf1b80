"""What a prefix stands for: one neighbour's path, or a choice among several. These are the labels of the prefix tables.

Called by `routing.bgp.tables` and `routing.bgp.audiences`. Pure. A `Path` is what one neighbour says with one attribute set
and the verdict about it; it is shared by all prefixes of which that is true. Its attributes stay octets: they are taken
apart when paths compete or must be rewritten, and then once. A `Choice` is a set of paths, in order, and shared likewise.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from routing.bgp.attributes import address, decode
from routing.bgp.decision import Standing, is_total, rank
from routing.bgp.hot import weigh
from routing.bgp.values import Attributes, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from routing.bgp.peers import Peer

NOBODY: frozenset[int] = frozenset()


class Path:
    """Some prefixes' way: who taught it (None: we did), with which attributes, and why it is refused, if it is.

    `octets` as design 0008 defines them, empty for what was malformed; `next_hop` packed. `avoid`: AS numbers of our
    neighbours that are in the path. `sent` keeps what was made of it for others, by how they are treated. `choices` are
    those that it is one of, some of which no prefix may have any more.
    """

    __slots__ = (
        "_attributes",
        "_standing",
        "avoid",
        "choices",
        "next_hop",
        "octets",
        "reason",
        "sent",
        "source",
        "stale",
    )

    def __init__(
        self,
        source: Peer | None,
        octets: bytes,
        next_hop: bytes,
        reason: Reason | None = None,
        avoid: frozenset[int] = NOBODY,
        *,
        stale: bool = False,
    ) -> None:
        """Nothing is decoded yet: most paths never are, and what is not there costs nothing."""
        self.source, self.octets, self.next_hop = source, octets, next_hop
        self.reason, self.avoid, self.stale = reason, avoid, stale
        self.sent: dict[object, bytes | None] | None = None
        self.choices: list[Choice] | tuple[()] = ()

    #: One path is always in order.
    total = True

    @property
    def paths(self) -> tuple[Path, ...]:
        """This path alone: what a choice has several of."""
        return (self,)

    @property
    def ranked(self) -> tuple[Path, ...]:
        """This path, if it is accepted."""
        return (self,) if self.reason is None else ()

    def same(self, other: Label) -> bool:
        """Tell whether everybody is told the same of both: fresh or stale makes no difference to others."""
        return self.source is other.source and self.reason is other.reason and self.octets == other.octets

    @property
    def internal(self) -> bool:
        """Tell whether it was learned by iBGP."""
        return self.source is not None and self.source.internal

    @property
    def attributes(self) -> Attributes:
        """The attributes as values."""
        try:
            return self._attributes
        except AttributeError:
            self._attributes: Attributes = decode(self.octets) if self.octets else Attributes(address(self.next_hop))
            return self._attributes

    @property
    def standing(self) -> Standing:
        """What the decision looks at."""
        try:
            return self._standing
        except AttributeError:
            self._standing: Standing = self._weighed(self.source)
            return self._standing

    def _weighed(self, peer: Peer | None) -> Standing:
        if peer is None:
            return Standing.own()
        weight = weigh(self.octets)
        if weight is None:
            return Standing.of(self.attributes, internal=peer.internal, router_id=peer.router_id, address=peer.address)
        local_pref, length, origin, neighbor_as, med, originator, clusters = weight
        identifier = int(peer.router_id) if originator < 0 else originator
        after = (peer.internal, identifier, clusters, peer.address.version, int(peer.address))
        return Standing((True, -local_pref, length, origin), after, neighbor_as, med)


class Choice:
    """Several paths to a prefix: all of them, and the accepted ones with the best first.

    `total`: whichever of them are left out, the others stay in order (`decision.rank`).
    """

    __slots__ = ("paths", "ranked", "total")

    def __init__(self, paths: Iterable[Path]) -> None:
        """Decide."""
        self.paths = tuple(paths)
        self.ranked = rank([path for path in self.paths if path.reason is None])
        self.total = is_total(self.ranked)

    #: No neighbour's alone.
    source = NOBODY
    reason = None
    octets = None

    def same(self, other: Label) -> bool:
        """Tell whether it is this choice: what others are told of two may still be the same."""
        return self is other


Label: TypeAlias = Path | Choice


class Choices:
    """Every choice that some prefix has: the same paths are one choice, decided once."""

    def __init__(self) -> None:
        """Start with none."""
        self._known: dict[frozenset[Path], Choice] = {}
        #: Since `forget` was called last.
        self.made = 0

    def setting(self, path: Path) -> Callable[[Label | None], Label | None]:
        """Return the step that puts this path in the place of its source's."""
        return partial(self.put, path)

    def removing(self, source: Peer | None) -> Callable[[Label | None], Label | None]:
        """Return the step that takes a source's path away."""
        return partial(self._without, source)

    def forget(self, live: dict[Path, None], choices: Collection[Choice]) -> None:
        """Keep only what is in use. A path and its choices know one another: of what goes, that is taken back."""
        kept, self.made = set(choices), 0
        for choice in self._known.values():
            if choice not in kept:
                for path in choice.paths:
                    if path not in live:
                        path.choices = ()
        self._known = {key: choice for key, choice in self._known.items() if choice in kept}
        for path in live:
            if path.choices:
                path.choices = [choice for choice in path.choices if choice in kept]

    def put(self, path: Path, label: Label | None) -> Label:
        """Return the label with this path in the place of its source's."""
        if label is None or label.source is path.source:
            return path
        return self._of((*(other for other in label.paths if other.source is not path.source), path))

    def _without(self, source: Peer | None, label: Label | None) -> Label | None:
        if label is None or label.source is source:
            return None
        rest = tuple(other for other in label.paths if other.source is not source)
        return label if len(rest) == len(label.paths) else self._of(rest)

    def _of(self, paths: tuple[Path, ...]) -> Label:
        if len(paths) == 1:
            return paths[0]
        key = frozenset(paths)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Choice(paths)
            self.made += 1
            for path in paths:
                # Not a tuple that grows: one path may be in as many choices as there are prefixes.
                path.choices = path.choices or []
                path.choices.append(found)
        return found


def path_of(label: Label | None, source: Peer | None) -> Path | None:
    """Return what a source says, of all that is said."""
    if label is None:
        return None
    return next((path for path in label.paths if path.source is source), None)
