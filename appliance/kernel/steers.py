"""The port of `Steer` facts: packets with the mark of a service node go to it, whatever their destination (design 0007).

Ours are the rules and default routes of PROTO_BOX for the marks and tables STEER + 1 to STEER + STEERS; no other rule,
table or protocol is touched. A steer of which a piece is missing or is not as we make it (the kernel takes a route along
with its device) is read as one that leads nowhere, so that the difference mends or removes it.
"""

from __future__ import annotations

import errno
from collections import defaultdict
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from appliance.kernel.devices import devices, indexes
from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import NETLINK_ROUTE, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message
from appliance.kernel.port import Failure
from appliance.kernel.steerwatch import watch_steers
from appliance.kernel.steerwire import (
    WAY,
    MarkRule,
    Piece,
    Way,
    create,
    dump_rules,
    dump_ways,
    pieces,
    read_rule,
    read_way,
    remove,
)
from appliance.model.errors import KernelError
from appliance.model.facts import Hop, Namespace, Steer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from appliance.kernel.namespaces import Namespaces
    from appliance.state.diff import Change, Plan

#: IP version and number of a steer, and the pieces of it that are there.
_Held = defaultdict[tuple[int, int], set[Piece]]
_VERSIONS: Final = (4, 6)
_ABSENT: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV})


def nowhere(version: int) -> Hop:
    """Return the hop of a steer that is there in part."""
    return Hop("", IPv6Address(0)) if version == 6 else Hop("")  # noqa: PLR2004 - the IP version


def version_of(steer: Steer) -> int:
    """Return the IP version of the packets that are steered."""
    return 4 if steer.hop.via is None else steer.hop.via.version


class SteersPort:
    """Steers of a node."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Speak rtnetlink in `namespaces`."""
        self.namespaces = namespaces
        self._netlink = Netlink(namespaces, NETLINK_ROUTE, "steer")

    def read(self) -> frozenset[Steer]:
        """Return what is ours in the node's namespace and every one we made."""
        found = self.namespaces.each(lambda ns: tuple(self._read_one(ns)))
        return frozenset(steer for steers in found.values() for steer in steers)

    def apply(self, plan: Plan[Steer]) -> tuple[Failure, ...]:
        """Carry the changes out, namespace by namespace."""
        by_ns: dict[Namespace, list[Change[Steer]]] = {}
        for change in plan.changes:
            by_ns.setdefault(change.fact.ns, []).append(change)
        return tuple(failure for ns, changes in by_ns.items() for failure in self._tried(ns, changes))

    def watch(self) -> AsyncIterator[str]:
        """Yield when devices start or stop to carry, and when somebody else changes rules or our routes."""
        return watch_steers(self.namespaces)

    def close(self) -> None:
        """Nothing of its own: sockets belong to `Namespaces`."""

    def _held(self, ns: Namespace) -> _Held:
        """Read the pieces of every steer in a namespace."""
        held: _Held = defaultdict(set)
        for version in _VERSIONS:
            found: list[Piece | None] = [read_rule(payload) for payload in self._netlink.dump(ns, dump_rules(version))]
            found += [read_way(payload) for payload in self._netlink.dump(ns, dump_ways(version))]
            for piece in found:
                if piece is not None:
                    held[piece.version, piece.number].add(piece)
        return held

    def _read_one(self, ns: Namespace) -> Iterator[Steer]:
        """Read one namespace."""
        held = self._held(ns)
        names = {device.index: device.name for device in devices(self._netlink, ns).values()} if held else {}
        for (version, number), found in held.items():
            way = next((piece for piece in found if isinstance(piece, Way) and piece.metric == WAY), None)
            fact = Steer(ns, number, nowhere(version))
            if way is not None and way.index in names and found == set(pieces(version, number, way.index, way.via)):
                whole = Steer(ns, number, Hop(names[way.index], way.via))
                fact = whole if whole.key == fact.key else fact
            yield fact

    def _tried(self, ns: Namespace, changes: list[Change[Steer]]) -> list[Failure]:
        """Apply the changes of one namespace; in one that is gone, everything is deleted already."""
        try:
            held, index = self._held(ns), indexes(self._netlink, ns)
        except KernelError as error:
            return [Failure(change.fact, error) for change in changes if change.operation != "delete"]
        errors = [self._lead(change, held[version_of(change.fact), change.fact.number], index) for change in changes]
        return [Failure(change.fact, e) for change, e in zip(changes, errors, strict=True) if e is not None]

    def _lead(self, change: Change[Steer], held: set[Piece], index: Mapping[str, int]) -> KernelError | None:
        """Lead the pieces of one steer to what is wanted; return the first refusal.

        When its device is not there, its packets are dropped from now on, and the steer is still a failure.
        """
        wanted: tuple[Piece, ...] = ()
        error = None
        if change.new is not None:
            hop = change.new.hop
            if hop.decapsulate is not None:
                return self._error(change.fact, errno.EOPNOTSUPP)
            error = None if hop.link in index else self._error(change.fact, errno.ENODEV)
            wanted = pieces(version_of(change.new), change.new.number, index.get(hop.link), hop.via)
        requests = [*_missing(wanted, held), *_left_over(wanted, held)]
        answers = self._netlink.batch(change.fact.ns, requests) if requests else ()
        for said in answers:
            if said.errno and (change.new is not None or said.errno not in _ABSENT):
                error = error or self._error(change.fact, said.errno, said.message)
        return error

    @staticmethod
    def _error(fact: Steer, code: int, message: str = "") -> KernelError:
        """Name the steer."""
        what = f"{fact.ns} steer {fact.number} to {fact.hop.via or 'on link'} dev {fact.hop.link}".strip()
        return KernelError("steer", f"{what}: {message}" if message else what, code)


def _missing(wanted: tuple[Piece, ...], held: set[Piece]) -> Iterator[Message]:
    """Yield what makes the pieces that are not there: a way of ours is replaced in place, one of others never."""
    ours = {piece.metric for piece in held if isinstance(piece, Way)}
    for piece in wanted:
        if piece not in held:
            replaces = isinstance(piece, Way) and piece.metric in ours
            yield create(piece, NLM_F_CREATE | (NLM_F_REPLACE if replaces else NLM_F_EXCL))


def _left_over(wanted: tuple[Piece, ...], held: set[Piece]) -> Iterator[Message]:
    """Yield what removes the pieces that are not wanted and were not replaced, rules first."""
    kept = {piece.metric for piece in wanted if isinstance(piece, Way)}
    for piece in sorted(held - set(wanted), key=lambda piece: (isinstance(piece, Way), repr(piece))):
        if isinstance(piece, MarkRule) or piece.metric not in kept:
            yield remove(piece)
