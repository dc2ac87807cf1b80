"""Paths and peers of gobgpd's API, version 3 (`apipb`), to and from our values. Pure.

Called by the GoBGP engine; `gobgp_attributes` decodes what a path carries.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from google.protobuf.any_pb2 import Any as AnyMessage

from routing.bgp.values import Address, Announcement, Attributes, Family, Network, Origin
from routing.engines.engine import SessionState
from routing.engines.gobgp_api import attribute_pb2 as attr
from routing.engines.gobgp_api import capability_pb2 as capability
from routing.engines.gobgp_api import gobgp_pb2 as api
from routing.engines.gobgp_attributes import attributes
from routing.engines.gobgp_messages import family

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNSPECIFIED: Final = {4: ip_address("0.0.0.0"), 6: ip_address("::")}  # noqa: S104 - nobody listens there
#: What a route of gobgpd's own says its neighbour is.
_OWN: Final = frozenset({"", "<nil>"})
_STATES: Final = {
    api.PeerState.IDLE: SessionState.IDLE,
    api.PeerState.CONNECT: SessionState.CONNECT,
    api.PeerState.ACTIVE: SessionState.ACTIVE,
    api.PeerState.OPENSENT: SessionState.OPENSENT,
    api.PeerState.OPENCONFIRM: SessionState.OPENCONFIRM,
    api.PeerState.ESTABLISHED: SessionState.ESTABLISHED,
}
_ADMIN: Final = {
    api.PeerState.DOWN: "shut down here",
    api.PeerState.PFX_CT: "closed: it announced more prefixes than it may",
}


@dataclass(frozen=True, slots=True)
class PathView:
    """One path as gobgpd has it. `neighbor` is None for our own; `attributes` is None if it is withdrawn.

    `refused` says that gobgpd's import policy refuses it; it is known only if it was asked for. `age` is when it came,
    in seconds since the epoch.
    """

    prefix: Network
    neighbor: Address | None
    router_id: IPv4Address
    attributes: Attributes | None
    best: bool
    stale: bool
    refused: bool
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class PeerView:
    """One peer as gobgpd has it. `up_since` is seconds since the epoch; `group` is set for a dynamic neighbour.

    `updates` is how many UPDATE messages it sent. `complete` are the families whose initial table is in (End-of-RIB), `promised` those that will say when it is.
    """

    address: Address
    asn: int
    router_id: IPv4Address
    group: str
    state: SessionState
    over_limit: bool
    detail: str
    families: tuple[Family, ...]
    complete: frozenset[Family]
    promised: frozenset[Family]
    up_since: float | None
    received: int
    accepted: int
    advertised: int
    updates: int = 0


def announce(announcement: Announcement) -> api.Path:
    """Return the path that gobgpd is to originate; an unspecified next hop becomes the session's local address.

    As on the wire (RFC 4271 4.3, RFC 4760 3): gobgpd takes that three times as fast as messages.
    """
    prefix, next_hop = announcement.prefix, announcement.next_hop
    nlri = _nlri(prefix)
    shared = _shared(announcement.communities, announcement.large_communities, announcement.med)
    if next_hop is None:
        next_hop = _UNSPECIFIED[prefix.version]
    if next_hop.version == prefix.version == 4:  # noqa: PLR2004 - IP version
        reach = _attribute(0x40, 3, next_hop.packed)
    else:
        reach = _attribute(0x80, 14, _reach(Family.of(prefix), next_hop) + nlri)
    return api.Path(family=family(Family.of(prefix)), nlri_binary=nlri, pattrs_binary=[*shared, reach])


def withdraw(prefix: Network) -> api.Path:
    """Return what ends our own path to `prefix`."""
    return api.Path(family=family(Family.of(prefix)), nlri_binary=_nlri(prefix), is_withdraw=True)


def announcement_of(path: PathView) -> Announcement | None:
    """Return what we announced, from our own path; None if it is not ours."""
    if path.neighbor is not None or path.attributes is None:
        return None
    said = path.attributes
    next_hop = None if said.next_hop.is_unspecified else said.next_hop
    return Announcement(path.prefix, next_hop, said.communities, said.large_communities, said.med)


def path_view(path: api.Path) -> PathView:
    """Decode a path of a table or of an event."""
    return PathView(
        prefix=_prefix(path.nlri.value, path.family.afi),
        neighbor=_address(path.neighbor_ip),
        router_id=_router_id(path.source_id),
        attributes=None if path.is_withdraw else attributes(path.pattrs),
        best=path.best,
        stale=path.stale,
        refused=path.filtered,
        age=path.age.seconds,
    )


def peer_view(peer: api.Peer) -> PeerView:
    """Decode a peer of a list; events have fewer fields."""
    state = _STATES.get(peer.state.session_state, SessionState.IDLE)
    up = state is SessionState.ESTABLISHED
    configured = {_family(item.config.family): item for item in peer.afi_safis}
    common = set(configured) & _negotiated(peer.state.remote_cap) if up else set(configured)
    families = [known for known in Family if known in common]
    restarts = {known: configured[known].mp_graceful_restart.state for known in families}
    counts = [configured[known].state for known in families]
    return PeerView(
        address=ip_address((peer.state.neighbor_address or peer.conf.neighbor_address).partition("%")[0]),
        asn=peer.state.peer_asn or peer.conf.peer_asn,
        router_id=_router_id(peer.state.router_id),
        group="" if peer.conf.neighbor_address else peer.conf.peer_group,
        state=state,
        over_limit=peer.state.admin_state == api.PeerState.PFX_CT,
        detail=_ADMIN.get(peer.state.admin_state, ""),
        families=tuple(families),
        complete=frozenset(known for known, restart in restarts.items() if restart.end_of_rib_received),
        promised=frozenset(known for known, restart in restarts.items() if restart.received),
        up_since=peer.timers.state.uptime.ToMicroseconds() / 1e6 if up else None,
        received=sum(count.received for count in counts),
        accepted=sum(count.accepted for count in counts),
        advertised=sum(count.advertised for count in counts),
        updates=peer.state.messages.received.update,
    )


@lru_cache(maxsize=1024)
def _shared(
    communities: tuple[tuple[int, int], ...], large: tuple[tuple[int, int, int], ...], med: int | None
) -> tuple[bytes, ...]:
    """Encode what many announcements have in common."""
    made = [_attribute(0x40, 1, bytes([Origin.IGP]))]
    if med is not None:
        made.append(_attribute(0x80, 4, struct.pack("!I", med)))
    if communities:
        made.append(_attribute(0xC0, 8, b"".join(struct.pack("!HH", *item) for item in communities)))
    if large:
        made.append(_attribute(0xC0, 32, b"".join(struct.pack("!III", *item) for item in large)))
    return tuple(made)


def _attribute(flags: int, code: int, value: bytes) -> bytes:
    """Encode a path attribute, its length always in two octets."""
    return struct.pack("!BBH", flags | 0x10, code, len(value)) + value


@lru_cache(maxsize=1024)
def _reach(value: Family, next_hop: Address) -> bytes:
    """Encode MP_REACH_NLRI up to the prefixes; IPv6 takes an IPv4 next hop as a mapped one (RFC 4291 2.5.5.2)."""
    packed = next_hop.packed
    if next_hop.version == 4:  # noqa: PLR2004 - IP version
        packed = bytes(10) + b"\xff\xff" + packed
    return struct.pack("!HBB", *value.value, len(packed)) + packed + b"\x00"


def _nlri(prefix: Network) -> bytes:
    return bytes([prefix.prefixlen]) + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]


@lru_cache(maxsize=1 << 17)
def _prefix(nlri: bytes, afi: int) -> Network:
    item = attr.IPAddressPrefix.FromString(nlri)
    # gobgpd writes a prefix below ::ffff:0:0/96 as if it were of IPv4, and any neighbour can announce one.
    mapped = afi == api.Family.AFI_IP6 and ":" not in item.prefix
    return ip_network((f"::ffff:{item.prefix}" if mapped else item.prefix, item.prefix_len), strict=False)


@lru_cache(maxsize=1 << 14)
def _address(text: str) -> Address | None:
    return None if text in _OWN else ip_address(text.partition("%")[0])


@lru_cache(maxsize=1 << 14)
def _router_id(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        return IPv4Address(0)


def _family(value: api.Family) -> Family | None:
    try:
        return Family((int(value.afi), int(value.safi)))
    except ValueError:
        return None


def _negotiated(capabilities: Iterable[AnyMessage]) -> set[Family | None]:
    message = capability.MultiProtocolCapability()
    return {_family(message.family) for item in capabilities if item.Unpack(message)}
