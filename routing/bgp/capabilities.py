"""What a speaker says of itself in its OPEN, and the capabilities it says it with.

Called by `routing.bgp.messages`. RFC 5492; multiprotocol (RFC 4760), route refresh (RFC 2918, 7313), extended messages
(RFC 8654), extended next hop (RFC 8950), graceful restart (RFC 4724, 8538), four-octet AS numbers (RFC 6793), roles
(RFC 9234).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from ipaddress import IPv4Address

from routing.bgp.notify import OPEN_ERROR, Notify
from routing.bgp.values import Family

AS_TRANS = 23456

MULTIPROTOCOL = 1
REFRESH = 2
EXTENDED_NEXT_HOP = 5
EXTENDED_MESSAGE = 6
ROLE = 9
RESTART = 64
FOUR_OCTET = 65
ENHANCED_REFRESH = 70

#: AFI, SAFI, AFI of the next hop (RFC 8950 4): IPv4 unicast with an IPv6 next hop.
_IPV4_BY_IPV6 = (1, 1, 2)
_FAMILIES = {family.value: family for family in Family}
_RESTARTING = 0x8000
_NOTIFICATION = 0x4000
_TIME = 0x0FFF
_PRESERVED = 0x80


class Role(IntEnum):
    """What a speaker is to the other one (RFC 9234 4.1)."""

    PROVIDER = 0
    ROUTE_SERVER = 1
    CLIENT = 2
    CUSTOMER = 3
    PEER = 4


@dataclass(frozen=True, slots=True)
class Restart:
    """The graceful restart capability: seconds, the R and N bits, and the families with "forwarding state preserved"."""

    time: int
    restarting: bool = False
    notification: bool = False
    families: tuple[tuple[Family, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Open:
    """What an OPEN says; `asn` is the real one, families are those of ours.

    `extended_next_hop` is IPv4 unicast by IPv6 next hops. `roles` are all that it claims, numbers that nobody assigned
    too; more than one is a mismatch. What else a speaker offers does not matter to us.
    """

    asn: int
    hold_time: int
    router_id: IPv4Address
    families: frozenset[Family] = frozenset({Family.IPV4})
    four_octet: bool = False
    refresh: bool = False
    enhanced_refresh: bool = False
    extended_message: bool = False
    extended_next_hop: bool = False
    restart: Restart | None = None
    roles: frozenset[int] = frozenset()


def encode(said: Open) -> bytes:
    """Write the capabilities, each at most once (multiprotocol: once for each family)."""
    return b"".join(struct.pack("!BB", code, len(value)) + value for code, value in _capabilities(said))


def _capabilities(said: Open) -> Iterator[tuple[int, bytes]]:
    for family in sorted(said.families, key=lambda family: family.value):
        yield MULTIPROTOCOL, _multiprotocol(family)
    if said.refresh:
        yield REFRESH, b""
    if said.extended_next_hop:
        yield EXTENDED_NEXT_HOP, struct.pack("!HHH", *_IPV4_BY_IPV6)
    if said.extended_message:
        yield EXTENDED_MESSAGE, b""
    for role in sorted(said.roles):
        yield ROLE, bytes((role,))
    if said.restart is not None:
        yield RESTART, _restart(said.restart)
    if said.four_octet:
        yield FOUR_OCTET, struct.pack("!L", said.asn)
    if said.enhanced_refresh:
        yield ENHANCED_REFRESH, b""


def _multiprotocol(family: Family) -> bytes:
    afi, safi = family.value
    return struct.pack("!HBB", afi, 0, safi)


def _restart(restart: Restart) -> bytes:
    flags = restart.restarting * _RESTARTING | restart.notification * _NOTIFICATION
    head = struct.pack("!H", flags | min(restart.time, _TIME))
    return head + b"".join(
        struct.pack("!HBB", *family.value, preserved * _PRESERVED) for family, preserved in restart.families
    )


def split(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Take a capabilities parameter apart; what does not fit is a malformed OPEN."""
    start = 0
    while start < len(octets):
        value = start + 2
        end = value + octets[start + 1] if value <= len(octets) else value
        if end > len(octets):
            raise Notify(OPEN_ERROR, 0, b"", "OPEN Message Error: a capability is cut off")
        yield octets[start], octets[value:end]
        start = end


def apply(said: Open, code: int, value: bytes) -> Open:
    """Add what one capability says; one that we do not know says nothing (RFC 5492 3).

    RFC 5492 4: a capability may stand there more than once, alike or not. Families add up, of the others the last holds.
    """
    reader = _READERS.get(code)
    if reader is None:
        return said
    try:
        return reader(said, value)
    except (struct.error, ValueError):
        raise Notify(
            OPEN_ERROR, 0, b"", f"OPEN Message Error: capability {code} is malformed: {value.hex() or 'empty'}"
        ) from None


def _read_multiprotocol(said: Open, value: bytes) -> Open:
    afi, _, safi = struct.unpack("!HBB", value)
    family = _FAMILIES.get((afi, safi))
    return said if family is None else replace(said, families=said.families | {family})


def _read_next_hop(said: Open, value: bytes) -> Open:
    return replace(said, extended_next_hop=_IPV4_BY_IPV6 in list(struct.iter_unpack("!HHH", value)))


def _read_restart(said: Open, value: bytes) -> Open:
    (head,) = struct.unpack_from("!H", value)
    families = tuple(
        (_FAMILIES[afi, safi], bool(flags & _PRESERVED))
        for afi, safi, flags in struct.iter_unpack("!HBB", value[2:])
        if (afi, safi) in _FAMILIES
    )
    return replace(said, restart=Restart(head & _TIME, bool(head & _RESTARTING), bool(head & _NOTIFICATION), families))


def _read_role(said: Open, value: bytes) -> Open:
    # One of another length says nothing: most who hear it have no role themselves, and no session should end for it.
    return replace(said, roles=said.roles | {value[0]}) if len(value) == 1 else said


def _read_four_octet(said: Open, value: bytes) -> Open:
    return replace(said, asn=struct.unpack("!L", value)[0], four_octet=True)


# Those without a value: what a later RFC may put into it does not change that they are there.
_READERS: dict[int, Callable[[Open, bytes], Open]] = {
    MULTIPROTOCOL: _read_multiprotocol,
    REFRESH: lambda said, _: replace(said, refresh=True),
    EXTENDED_NEXT_HOP: _read_next_hop,
    EXTENDED_MESSAGE: lambda said, _: replace(said, extended_message=True),
    ROLE: _read_role,
    RESTART: _read_restart,
    FOUR_OCTET: _read_four_octet,
    ENHANCED_REFRESH: lambda said, _: replace(said, enhanced_refresh=True),
}
