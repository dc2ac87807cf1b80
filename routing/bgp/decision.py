"""Which of several accepted paths is the best, and in which words: RFC 4271 9.1.2.2 with the tie-breaks of RFC 4456 9.

Called by `paths`, which keeps all accepted paths of a prefix in order, and by `audience` for a route server's client that may
not have the first (RFC 7947 2.3.1). MED counts only between paths of one neighbouring AS, so the order is made
group by group and does not depend on the order of arrival. Interior cost is no step: next hops are not resolved here.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from routing.bgp.values import Address, Attributes, Origin, Segment, SegmentType
from routing.bgp.weigh import DEFAULT_LOCAL_PREF, GRACEFUL_SHUTDOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Address


class Standing(NamedTuple):
    """What the decision looks at, taken out of a path once. `before` is compared before MED, `after` after it."""

    before: tuple[bool, int, int, int]
    after: tuple[bool, int, int, int, int]
    neighbor_as: int
    med: int

    @classmethod
    def of(cls, attributes: Attributes, *, internal: bool, router_id: IPv4Address, address: Address) -> Standing:
        """Weigh a path that a neighbour taught."""
        originator = attributes.originator_id or router_id
        return cls(
            (True, -_local_pref(attributes), attributes.path_length, attributes.origin),
            (internal, int(originator), len(attributes.cluster_list), address.version, int(address)),
            _neighbor_as(attributes.as_path),
            attributes.med or 0,
        )

    @classmethod
    def own(cls) -> Standing:
        """Weigh a path that we originate: nothing is better."""
        return cls((False, 0, 0, 0), (False, 0, 0, 0, 0), 0, 0)


def _local_pref(attributes: Attributes) -> int:
    # RFC 8326 4.2: a path that is about to go is used only when there is no other.
    if GRACEFUL_SHUTDOWN in attributes.communities:
        return 0
    return DEFAULT_LOCAL_PREF if attributes.local_pref is None else attributes.local_pref


def _neighbor_as(as_path: tuple[Segment, ...]) -> int:
    first = as_path[0] if as_path else None
    return first.asns[0] if first is not None and first.type is SegmentType.SEQUENCE and first.asns else 0


class Ranked(Protocol):
    """What can be put in order."""

    @property
    def standing(self) -> Standing:
        """What the decision looks at."""
        ...


R = TypeVar("R", bound=Ranked)


def rank(paths: Sequence[R]) -> tuple[R, ...]:
    """Put accepted paths in order, best first.

    Without its first path the order stays as it is; without another one it may not, for that one can have kept a path
    of the same AS with a higher MED behind: who leaves paths out ranks the rest again.
    """
    if len(paths) < 2:  # noqa: PLR2004 - nothing to compare
        return tuple(paths)
    if is_total(paths):
        return tuple(sorted(paths, key=_standing))
    ties: dict[tuple[bool, int, int, int], list[R]] = {}
    for path in paths:
        ties.setdefault(path.standing.before, []).append(path)
    return tuple(path for key in sorted(ties) for path in _by_med(ties[key]))


def is_total(paths: Sequence[Ranked]) -> bool:
    """Tell whether these paths are of as many neighbouring ASes: then MED never counts, and any of them may be left out."""
    return len({path.standing.neighbor_as for path in paths}) == len(paths)


def _standing(path: Ranked) -> Standing:
    return path.standing


def _by_med(paths: list[R]) -> Iterable[R]:
    """Order paths that are equal before MED.

    Within one AS the lower MED is better, whatever follows; of several AS the heads are compared by what follows MED.
    """
    if len(paths) == 1:
        return paths
    groups: dict[int, list[R]] = {}
    for path in paths:
        groups.setdefault(path.standing.neighbor_as, []).append(path)
    queues = [
        sorted(group, key=lambda path: (path.standing.med, path.standing.after), reverse=True)
        for group in groups.values()
    ]
    heads = [(queue[-1].standing.after, number) for number, queue in enumerate(queues)]
    heapq.heapify(heads)
    ordered = []
    while heads:
        _, number = heads[0]
        queue = queues[number]
        ordered.append(queue.pop())
        if queue:
            heapq.heapreplace(heads, (queue[-1].standing.after, number))
        else:
            heapq.heappop(heads)
    return ordered


def why_best(ranked: Sequence[Ranked]) -> str:
    """Say in words why the first path won."""
    if len(ranked) == 1:
        return "originated here" if not ranked[0].standing.before[0] else "only path"
    return _step(ranked[0].standing, ranked[1].standing, won=True)


def why_not(best: Ranked, other: Ranked) -> str:
    """Say in words why `other` lost against the best path."""
    return _step(best.standing, other.standing, won=False)


def _step(best: Standing, other: Standing, *, won: bool) -> str:
    """Name the first step at which the two differ, with the values as the reader of that path sees them."""
    if best.before[0] != other.before[0]:
        return "originated here" if won else "another path is originated here"
    steps: list[tuple[str, object, object]] = [
        ("LOCAL_PREF", -best.before[1], -other.before[1]),
        ("AS_PATH length", best.before[2], other.before[2]),
        ("ORIGIN", Origin(best.before[3]).name, Origin(other.before[3]).name),
    ]
    if best.neighbor_as == other.neighbor_as:
        steps.append(("MED", best.med, other.med))
    for what, better, worse in steps:
        if better != worse:
            return f"{what} {better} against {worse}" if won else f"{what} {worse} against {better}"
    if other.after < best.after:
        return f"MED against another path of AS{other.neighbor_as}"
    return _last_steps(best, other, won=won)


def _last_steps(best: Standing, other: Standing, *, won: bool) -> str:
    names = ("eBGP over iBGP", "lower ORIGINATOR_ID or router id", "shorter CLUSTER_LIST")
    for name, mine, theirs in zip(names, best.after, other.after, strict=False):
        if mine != theirs:
            return name if won else f"lost to {name}"
    return "lower neighbour address" if won else "lost to lower neighbour address"
