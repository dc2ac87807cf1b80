"""What the two ends of a session agreed on, and how the neighbour is therefore treated.

Made by an engine from the OPEN messages; read by `routing.bgp.routeserver`. RFC 4724 (restart), RFC 8950 (next hops).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from routing.bgp.export import Treatment

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from routing.bgp.values import Address, Family, Neighbor, Speaker


@dataclass(frozen=True, slots=True)
class Established:
    """What the two OPEN messages of a session agreed on.

    `restart_time` None: the neighbour cannot be helped through a restart. `kept` are the families it can be helped
    with, `preserved` those it says to have kept forwarding through the restart that lies behind.
    """

    router_id: IPv4Address
    local_address: Address
    families: frozenset[Family]
    extended_next_hop: bool = False
    restart_time: int | None = None
    kept: frozenset[Family] = frozenset()
    preserved: frozenset[Family] = frozenset()


def treatment(neighbor: Neighbor, session: Established, speaker: Speaker) -> Treatment:
    """Say how a neighbour is treated in exports."""
    return Treatment(
        external=neighbor.asn != speaker.asn,
        local_address=session.local_address,
        next_hops=tuple(address for address in speaker.listen if not address.is_unspecified),
        families=session.families,
        next_hop_self=neighbor.next_hop_self,
        extended_next_hop=session.extended_next_hop,
        only_to_customer=speaker.asn if neighbor.client else None,
    )
