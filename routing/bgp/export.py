"""What a neighbour is sent for a prefix whose paths are known: one of which paths, and with which attributes.

Called by `routing.bgp.audience`. Transparent: RFC 7947, the attributes as they came, and per client the best of the paths
it may have, so that no path is hidden (2.3.1). Reflector: RFC 4456. Router: RFC 4271 5.1 and RFC 1997.
Neighbours that differ in nothing but their name share one `Treatment`: for them a path is exported once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from routing.bgp.values import Address, Attributes, Family, Mode, Segment, SegmentType, Speaker
from routing.bgp.weigh import DEFAULT_LOCAL_PREF

if TYPE_CHECKING:
    from routing.bgp.paths import Path
    from routing.bgp.peers import Peer

NO_EXPORT = (65535, 65281)
NO_ADVERTISE = (65535, 65282)
NO_EXPORT_SUBCONFED = (65535, 65283)
_LOCAL_ONLY = frozenset({NO_EXPORT, NO_EXPORT_SUBCONFED})
_LONGEST_SEGMENT = 255
_OCTETS = {Family.IPV4: 4, Family.IPV6: 16}


@dataclass(frozen=True, slots=True)
class Treatment:
    """All that the attributes sent to a neighbour depend on, besides the path.

    `local_address` is ours on the session; `next_hops` are our addresses for prefixes of the other family.
    `only_to_customer` is the AS that marks routes which it must not pass on to providers and peers (RFC 9234 5).
    """

    external: bool
    local_address: Address
    next_hops: tuple[Address, ...]
    families: frozenset[Family]
    next_hop_self: bool
    extended_next_hop: bool
    only_to_customer: int | None = None

    def own_next_hop(self, family: Family) -> Address | None:
        """Return the next hop that names ourselves to this neighbour, None if we have none for the family."""
        if self.carries(self.local_address, family):
            return self.local_address
        return next((address for address in self.next_hops if Family.of(address) is family), None)

    def carries(self, next_hop: Address, family: Family) -> bool:
        """Tell whether the session can say this next hop for a prefix of the family."""
        return len(next_hop.packed) in self.next_hop_lengths(family)

    def next_hop_lengths(self, family: Family) -> frozenset[int]:
        """Return how many octets such a next hop may have; RFC 8950: of IPv6 for IPv4 only where that was agreed on."""
        extended = self.extended_next_hop and family is Family.IPV4
        return frozenset({_OCTETS[family], 16} if extended else {_OCTETS[family]})


class Exporter:
    """The export side of one speaker."""

    def __init__(self, speaker: Speaker) -> None:
        """Keep what decides: the mode, our AS, our router id."""
        self._speaker = speaker
        self.transparent = speaker.mode is Mode.TRANSPARENT

    def candidates(self, ranked: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the paths that a neighbour may get one of: all for a route server's clients, else the best alone."""
        return ranked if self.transparent else ranked[:1]

    def withheld(self, path: Path, peer: Peer) -> bool:
        """Tell whether this neighbour may not have a path that its equals may have."""
        if path.source is peer:
            return True
        if self.transparent:
            return not peer.internal and peer.neighbor.asn in path.avoid
        return peer.internal and path.attributes.originator_id == peer.router_id

    def attributes(self, path: Path, treatment: Treatment, family: Family) -> Attributes | None:
        """Return a path's attributes as they are said to those treated so; None: they are not told of it."""
        if path.source is None:
            attributes = self._originated(path, treatment, family)
        elif self.transparent:
            attributes = path.attributes
        elif treatment.external:
            attributes = self._external(path, treatment, family)
        else:
            attributes = self._internal(path, treatment, family)
        return attributes if attributes is not None and treatment.carries(attributes.next_hop, family) else None

    def _originated(self, path: Path, treatment: Treatment, family: Family) -> Attributes | None:
        attributes = path.attributes
        if attributes.next_hop.is_unspecified:
            own = treatment.own_next_hop(family)
            if own is None:
                return None
            attributes = replace(attributes, next_hop=own)
        if treatment.external:
            return _prepended(attributes, self._speaker.asn)
        return replace(attributes, local_pref=DEFAULT_LOCAL_PREF)

    def _external(self, path: Path, treatment: Treatment, family: Family) -> Attributes | None:
        attributes = path.attributes
        own = treatment.own_next_hop(family)
        if own is None or NO_ADVERTISE in attributes.communities or not _LOCAL_ONLY.isdisjoint(attributes.communities):
            return None
        # RFC 4271 5.1.4: a MULTI_EXIT_DISC received from a neighbouring AS is not passed on to another.
        changed = replace(attributes, next_hop=own, med=None, local_pref=None, originator_id=None, cluster_list=())
        return _prepended(changed, self._speaker.asn)

    def _internal(self, path: Path, treatment: Treatment, family: Family) -> Attributes | None:
        attributes = path.attributes
        if NO_ADVERTISE in attributes.communities:
            return None
        if attributes.local_pref is None:
            attributes = replace(attributes, local_pref=DEFAULT_LOCAL_PREF)
        if path.internal:
            return self._reflected(path, attributes)
        if not treatment.next_hop_self:
            return attributes
        own = treatment.own_next_hop(family)
        return None if own is None else replace(attributes, next_hop=own)

    def _reflected(self, path: Path, attributes: Attributes) -> Attributes | None:
        """From iBGP to iBGP: never by a router; by a reflector with its marks (RFC 4456 8)."""
        if self._speaker.mode is not Mode.REFLECTOR or path.source is None:
            return None
        return replace(
            attributes,
            originator_id=attributes.originator_id or path.source.router_id,
            cluster_list=(self._speaker.router_id, *attributes.cluster_list),
        )


def _prepended(attributes: Attributes, asn: int) -> Attributes:
    """RFC 4271 5.1.2: our AS becomes the first of a sequence."""
    path = attributes.as_path
    first = path[0] if path else None
    if first is not None and first.type is SegmentType.SEQUENCE and len(first.asns) < _LONGEST_SEGMENT:
        return replace(attributes, as_path=(Segment(SegmentType.SEQUENCE, (asn, *first.asns)), *path[1:]))
    return replace(attributes, as_path=(Segment(SegmentType.SEQUENCE, (asn,)), *path))
