"""What our OPEN says, and what it and the neighbour's agree on.

Called by `routing.bgp.peering` and `routing.bgp.connection`. Pure. RFC 4271 6.2 (what is wrong with an OPEN), 5492
(capabilities), 6286 (identifiers), 4724 and 8538 (graceful restart), 8654 (extended messages), 8950 (next hops).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from routing.bgp.capabilities import MULTIPROTOCOL, Role
from routing.bgp.messages import SHORT_LIMIT, Open, Restart
from routing.bgp.notify import OPEN_ERROR, Notify
from routing.bgp.session import Established
from routing.bgp.update import Format
from routing.bgp.values import Address, Family, Neighbor, Speaker

LONG_LIMIT = 65535
_LONGEST_RESTART = 4095  # twelve bits
_SHORTEST_HOLD = 3

_BAD_PEER_AS = 2
_BAD_IDENTIFIER = 3
_UNACCEPTABLE_HOLD_TIME = 6
_UNSUPPORTED_CAPABILITY = 7
_ROLE_MISMATCH = 11


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds on a connection once both have said OPEN; `notification`: both sent the N bit of RFC 8538.

    `restarting` is the neighbour's R bit (RFC 4724 3); `limit` bounds the messages of both directions.
    """

    established: Established
    format: Format
    hold_time: int
    refresh: bool
    notification: bool
    restarting: bool
    asn: int

    @property
    def limit(self) -> int:
        """Return the length of the longest message."""
        return self.format.limit


def offer(neighbor: Neighbor, speaker: Speaker, *, restarting: bool = False) -> Open:
    """Say what our OPEN says.

    Forwarding is the kernel's and goes on whatever becomes of us, so it is preserved for every family.
    """
    restart = Restart(
        min(neighbor.restart_time, _LONGEST_RESTART),
        restarting,
        notification=True,
        families=tuple((family, True) for family in neighbor.families),
    )
    return Open(
        asn=speaker.asn,
        hold_time=neighbor.hold_time,
        router_id=speaker.router_id,
        families=frozenset(neighbor.families),
        four_octet=True,
        refresh=True,
        extended_message=True,
        extended_next_hop=neighbor.extended_next_hop and Family.IPV4 in neighbor.families,
        restart=restart if neighbor.restart_time > 0 else None,
        roles=frozenset({Role.ROUTE_SERVER}) if neighbor.client else frozenset(),
    )


def agree(ours: Open, theirs: Open, asn: int, local: Address) -> Agreement:
    """Put together what both said; Notify if that is no session. `asn` is the one the neighbour must have."""
    _check(ours, theirs, asn)
    families = ours.families & theirs.families
    extended_next_hop = ours.extended_next_hop and theirs.extended_next_hop
    restart = theirs.restart if ours.restart is not None else None
    return Agreement(
        established=Established(
            router_id=theirs.router_id,
            local_address=local,
            families=families,
            extended_next_hop=extended_next_hop,
            restart_time=restart.time if restart else None,
            kept=families.intersection(family for family, _ in restart.families) if restart else frozenset(),
            preserved=_preserved(theirs) & families,
        ),
        format=Format(
            families,
            internal=theirs.asn == ours.asn,
            four_octet=ours.four_octet and theirs.four_octet,
            extended_next_hop=extended_next_hop,
            limit=LONG_LIMIT if ours.extended_message and theirs.extended_message else SHORT_LIMIT,
        ),
        hold_time=min(ours.hold_time, theirs.hold_time),
        refresh=ours.refresh and theirs.refresh,
        notification=restart is not None and restart.notification,
        restarting=restart is not None and restart.restarting,
        asn=theirs.asn,
    )


def _preserved(theirs: Open) -> frozenset[Family]:
    return frozenset(family for family, kept in theirs.restart.families if kept) if theirs.restart else frozenset()


def _check(ours: Open, theirs: Open, asn: int) -> None:
    if theirs.asn != asn:
        raise Notify(OPEN_ERROR, _BAD_PEER_AS, text=f"OPEN Message Error / Bad Peer AS: AS {theirs.asn}, not {asn}")
    # RFC 6286 2.2: an external neighbour may have any identifier, "AS-wide" is unique enough.
    if theirs.router_id == ours.router_id and theirs.asn == ours.asn:
        said = f"OPEN Message Error / Bad BGP Identifier: {theirs.router_id} is ours"
        raise Notify(OPEN_ERROR, _BAD_IDENTIFIER, text=said)
    if 0 < theirs.hold_time < _SHORTEST_HOLD:
        raise Notify(OPEN_ERROR, _UNACCEPTABLE_HOLD_TIME)
    # RFC 9234 4.2: who says no role is one of those who know none.
    if ours.roles and theirs.roles and theirs.roles != {Role.CLIENT}:
        raise Notify(OPEN_ERROR, _ROLE_MISMATCH, text=f"OPEN Message Error / Role Mismatch: {_roles(theirs.roles)}")
    if not ours.families & theirs.families:
        said = f"OPEN Message Error / Unsupported Capability: no family of ours among {_names(theirs.families)}"
        # RFC 5492 5: the data names the capabilities that are missing.
        raise Notify(OPEN_ERROR, _UNSUPPORTED_CAPABILITY, _capabilities(ours.families), said)


def _roles(roles: frozenset[int]) -> str:
    known = {role.value: role.name.lower().replace("_", " ") for role in Role}
    return "it is " + " and ".join(known.get(role, f"role {role}") for role in sorted(roles)) + ", not a client"


def _names(families: frozenset[Family]) -> str:
    return ", ".join(sorted(family.name for family in families)) or "none"


def _capabilities(families: frozenset[Family]) -> bytes:
    wanted = sorted(family.value for family in families)
    return b"".join(struct.pack("!BBHBB", MULTIPROTOCOL, 4, afi, 0, safi) for afi, safi in wanted)


def ours_is_kept(ours: Open, theirs: Agreement) -> bool:
    """Tell which connection survives a collision: the one that the higher identifier made (RFC 4271 6.8, 6286 2.3)."""
    return (ours.router_id, ours.asn) > (theirs.established.router_id, theirs.asn)
