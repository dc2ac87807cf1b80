"""What one `Steer` is in the kernel, as values, and these values to rtnetlink messages and back. Pure.

A rule leads packets with the mark STEER + number to the table of that number; there a default route leads to the hop.
Behind it stands a second one that drops: the kernel takes a route away with its device, and a packet that should pass
a service node would then go on through table main, past the node. Called by `steers`.
Numbers: include/uapi/linux/{fib_rules,rtnetlink}.h.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from appliance.kernel.netlink import Message, attribute, parse, to_u32, u8, u32
from appliance.kernel.routebuckets import METRICS
from appliance.kernel.rtnetlink import (
    RTA_CACHEINFO,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PREF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTN_UNICAST,
    SCOPE_LINK,
    SCOPE_UNIVERSE,
)
from appliance.model.marks import PROTO_BOX, STEER, STEERS

if TYPE_CHECKING:
    from appliance.model.facts import Address

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_PROTOCOL = 6, 10, 14, 15, 16, 21
FR_ACT_TO_TBL, RTN_BLACKHOLE, NOWHERE = 1, 6, 0xFFFF_FFFF
#: After the rule of table local, so that what is for the box itself stays here; before those of everybody else.
PRIORITY: Final = 1000
WHOLE_MARK: Final = 0xFFFF_FFFF
#: Metrics of the way to the hop and of what drops packets when that way is gone.
WAY, BACKSTOP = METRICS[PROTO_BOX], 0x7FFF_FFFF
#: Loopback is the device of an IPv6 route that drops.
_LOOPBACK: Final = 1
_RULE: Final = struct.Struct("=BBBBBBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSION: Final = {family: version for version, family in _FAMILY.items()}
_OF_RULE: Final = frozenset(
    {FRA_PRIORITY, FRA_FWMARK, FRA_FWMASK, FRA_TABLE, FRA_PROTOCOL, FRA_SUPPRESS_PREFIXLEN},
)
_OF_ROUTE: Final = frozenset({RTA_TABLE, RTA_PRIORITY, RTA_OIF, RTA_GATEWAY, RTA_PREF, RTA_CACHEINFO})


@dataclass(frozen=True, slots=True)
class MarkRule:
    """A rule of ours: packets with the mark of `number` look into the table of that number.

    `plain` is false when it asks for more, or leads elsewhere, than we would have it.
    """

    version: int
    number: int
    priority: int = PRIORITY
    mask: int = WHOLE_MARK
    table: int = 0
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Way:
    """A default route of ours in a table of ours; without a device it drops."""

    version: int
    number: int
    metric: int
    index: int | None = None
    via: Address | None = None
    plain: bool = True


Piece = MarkRule | Way


def pieces(version: int, number: int, index: int | None, via: Address | None) -> tuple[Piece, ...]:
    """Return what a steer is made of, in the order in which it is made; without a device, what can be made."""
    backstop = Way(version, number, BACKSTOP)
    rule = MarkRule(version, number, table=STEER + number)
    return (backstop, *(() if index is None else (Way(version, number, WAY, index, via),)), rule)


def create(piece: Piece, flags: int) -> Message:
    """Encode the message that makes a piece."""
    return _message(piece, RTM_NEWRULE if isinstance(piece, MarkRule) else RTM_NEWROUTE, flags)


def remove(piece: Piece) -> Message:
    """Encode the message that removes a piece, and nothing else."""
    return _message(piece, RTM_DELRULE if isinstance(piece, MarkRule) else RTM_DELROUTE, 0)


def _message(piece: Piece, kind: int, flags: int) -> Message:
    if isinstance(piece, MarkRule):
        return Message(kind, _rule(piece), flags)
    return Message(kind, _route(piece), flags)


def _rule(rule: MarkRule) -> bytes:
    body = _RULE.pack(_FAMILY[rule.version], 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0)
    body += u32(FRA_PRIORITY, rule.priority) + u32(FRA_FWMARK, STEER + rule.number) + u32(FRA_FWMASK, rule.mask)
    return body + u32(FRA_TABLE, rule.table) + u8(FRA_PROTOCOL, PROTO_BOX)


def _route(way: Way) -> bytes:
    kind = RTN_BLACKHOLE if way.index is None else RTN_UNICAST
    on_link = way.version == 4 and way.index is not None and way.via is None  # noqa: PLR2004 - the IP version
    scope = SCOPE_LINK if on_link else SCOPE_UNIVERSE
    body = _ROUTE.pack(_FAMILY[way.version], 0, 0, 0, 0, PROTO_BOX, scope, kind, 0)
    body += u32(RTA_TABLE, STEER + way.number) + u32(RTA_PRIORITY, way.metric)
    body += b"" if way.index is None else u32(RTA_OIF, way.index)
    return body + (b"" if way.via is None else attribute(RTA_GATEWAY, way.via.packed))


def dump_rules(version: int) -> Message:
    """Encode a dump of all rules."""
    return Message(RTM_GETRULE, _RULE.pack(_FAMILY[version], 0, 0, 0, 0, 0, 0, 0, 0))


def dump_ways(version: int) -> Message:
    """Encode a dump of our routes in all tables; the kernel chooses by protocol."""
    return Message(RTM_GETROUTE, _ROUTE.pack(_FAMILY[version], 0, 0, 0, 0, PROTO_BOX, 0, 0, 0))


def read_rule(payload: memoryview) -> MarkRule | None:
    """Decode a rule; None if it is not ours, or has no mark of a steer."""
    family, to, source, tos, _, _, _, action, flags = _RULE.unpack_from(payload)
    found = parse(payload[_RULE.size :])
    number = to_u32(found[FRA_FWMARK]) - STEER if FRA_FWMARK in found else 0
    if FRA_PROTOCOL not in found or found[FRA_PROTOCOL][0] != PROTO_BOX or not 1 <= number <= STEERS:
        return None
    suppressed = FRA_SUPPRESS_PREFIXLEN in found and to_u32(found[FRA_SUPPRESS_PREFIXLEN]) != NOWHERE
    more = to or source or tos or flags or suppressed or action != FR_ACT_TO_TBL or not found.keys() <= _OF_RULE
    return MarkRule(
        _VERSION[family],
        number,
        to_u32(found[FRA_PRIORITY]) if FRA_PRIORITY in found else 0,
        to_u32(found[FRA_FWMASK]) if FRA_FWMASK in found else WHOLE_MARK,
        to_u32(found[FRA_TABLE]) if FRA_TABLE in found else 0,
        plain=not more,
    )


def read_way(payload: memoryview) -> Way | None:
    """Decode a default route; None if it is not ours, or not in the table of a steer."""
    family, length, _, tos, _, proto, _, kind, _ = _ROUTE.unpack_from(payload)
    found = parse(payload[_ROUTE.size :])
    number = to_u32(found[RTA_TABLE]) - STEER if RTA_TABLE in found else 0
    if proto != PROTO_BOX or not 1 <= number <= STEERS or length or RTA_DST in found:
        return None
    drops = kind == RTN_BLACKHOLE
    index = to_u32(found[RTA_OIF]) if RTA_OIF in found else None
    plain = not tos and found.keys() <= _OF_ROUTE and (index in (None, _LOOPBACK) if drops else kind == RTN_UNICAST)
    via = ip_address(bytes(found[RTA_GATEWAY])) if RTA_GATEWAY in found else None
    metric = to_u32(found[RTA_PRIORITY]) if RTA_PRIORITY in found else 0
    return Way(_VERSION[family], number, metric, None if drops else index, via, plain)
