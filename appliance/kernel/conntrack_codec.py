"""ctnetlink messages: what a flow record is, decoded and named. Numbers: include/uapi/linux/netfilter/nfnetlink_conntrack.h.

Pure; `conntrack` sends and receives. IPv4 and IPv6; TCP, UDP and others with ports, ICMP and ICMPv6.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from appliance.kernel.netlink import Message, attribute, be16, be32, nest, parse
from appliance.model.facts import Flow, FlowKey

if TYPE_CHECKING:
    from appliance.model.facts import Address

CT_NEW, CT_GET, CT_DELETE = 1 << 8 | 0, 1 << 8 | 1, 1 << 8 | 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO = 1, 2, 3, 4
CTA_TIMEOUT, CTA_MARK, CTA_ZONE, CTA_MARK_MASK = 7, 8, 18, 21
CTA_TUPLE_IP, CTA_TUPLE_PROTO, CTA_TUPLE_ZONE = 1, 2, 3
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT, CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID = 1, 2, 3, 4, 7
CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE = 1, 1
#: Bits of `CtEntry.status` (enum ip_conntrack_status).
SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT = 0x2, 0x4, 0x8, 0x10, 0x20
TCP_STATES: Final = (
    "none", "syn-sent", "syn-recv", "established", "fin-wait", "close-wait", "last-ack", "time-wait", "close", "syn-sent2",
)  # fmt: skip
_NFGEN: Final = struct.Struct("=BBH")
#: A direction with ports as every kernel lays it out, by its length: what nearly all records are made of.
_USUAL: Final = {
    48: struct.Struct(">8x4s4x4s4x4xB3x4xHxx4xHxx"),
    72: struct.Struct(">8x16s4x16s4x4xB3x4xHxx4xHxx"),
}
#: Where the first port's attribute starts, and its header.
_PORT_AT: Final = {48: 32, 72: 56}
_PORT_HEADER: Final = struct.pack("=HH", 6, CTA_PROTO_SRC_PORT)
#: Protocols whose flows have an identifier, a type and a code in place of ports.
_ICMP: Final = frozenset({1, 58})

#: Which direction of a flow its zone is part of.
ZoneDirection = Literal["both", "original", "reply"]


class Icmp(NamedTuple):
    """What identifies an ICMP flow besides its addresses."""

    type: int
    code: int
    id: int


@dataclass(frozen=True, slots=True)
class CtTuple:
    """One direction of a flow."""

    source: Address
    destination: Address
    sport: int = 0
    dport: int = 0
    icmp: Icmp | None = None


@dataclass(frozen=True, slots=True)
class CtEntry:
    """One flow record: `orig` as the first packet came, `reply` as answers come (other than its inverse: NAT)."""

    l4proto: int
    orig: CtTuple
    reply: CtTuple
    zone: int = 0
    status: int = 0
    mark: int = 0
    timeout: int = 0
    tcp_state: str | None = None
    zone_direction: ZoneDirection = "both"


def dump_message(mark: int | None = None, mask: int = 0xFFFF_FFFF, zone: int | None = None) -> Message:
    """Ask for every record of a namespace, or those with a mark or zone (Linux before 6.8 ignores the zone)."""
    body = _NFGEN.pack(socket.AF_UNSPEC, 0, 0)
    if mark is not None:
        body += be32(CTA_MARK, mark) + be32(CTA_MARK_MASK, mask)
    if zone is not None:
        body += be16(CTA_ZONE, zone)
    return Message(CT_GET, body)


def get_message(key: FlowKey) -> Message:
    """Ask for exactly one record."""
    return Message(CT_GET, _exactly(key.protocol, tuple_of(key), key.zone, "both"))


def delete_message(entry: CtEntry) -> Message:
    """Delete exactly this record: the kernel does not find a zoned one without its zone."""
    return Message(CT_DELETE, _exactly(entry.l4proto, entry.orig, entry.zone, entry.zone_direction))


def mark_message(entry: CtEntry, mark: int, mask: int = 0xFFFF_FFFF) -> Message:
    """Set the bits under `mask` of this record's mark to those of `mark`; nothing is made if it is gone."""
    found = _exactly(entry.l4proto, entry.orig, entry.zone, entry.zone_direction)
    return Message(CT_NEW, found + be32(CTA_MARK, mark) + be32(CTA_MARK_MASK, mask))


def timeout_message(entry: CtEntry, seconds: int) -> Message:
    """Have this record end when it was silent for so long, counted from now."""
    found = _exactly(entry.l4proto, entry.orig, entry.zone, entry.zone_direction)
    return Message(CT_NEW, found + be32(CTA_TIMEOUT, seconds))


def _exactly(l4proto: int, orig: CtTuple, zone: int, direction: ZoneDirection) -> bytes:
    """Name one record."""
    family = socket.AF_INET if isinstance(orig.source, IPv4Address) else socket.AF_INET6
    directed = zone if direction == "original" else None
    body = _NFGEN.pack(family, 0, 0) + _tuple(CTA_TUPLE_ORIG, l4proto, orig, directed)
    return body + be16(CTA_ZONE, zone) if zone and direction == "both" else body


def flow_key(l4proto: int, direction: CtTuple, zone: int = 0) -> FlowKey:
    """Name one direction of a flow as the model does."""
    ports = direction.sport, direction.dport
    if direction.icmp is not None:
        ports = direction.icmp.id, direction.icmp.type << 8 | direction.icmp.code
    return FlowKey(direction.source, ports[0], direction.destination, ports[1], l4proto, zone)


def flow_of(entry: CtEntry) -> Flow:
    """Return a record as the model has it."""
    original, reply = (entry.zone if entry.zone_direction in {"both", one} else 0 for one in ("original", "reply"))
    return Flow(flow_key(entry.l4proto, entry.orig, original), flow_key(entry.l4proto, entry.reply, reply), entry.mark)


def tuple_of(key: FlowKey) -> CtTuple:
    """Return one direction as conntrack has it."""
    if key.protocol not in _ICMP:
        return CtTuple(key.source, key.destination, key.source_port, key.destination_port)
    icmp = Icmp(key.destination_port >> 8, key.destination_port & 0xFF, key.source_port)
    return CtTuple(key.source, key.destination, icmp=icmp)


def entry_of(flow: Flow) -> CtEntry:
    """Return a record that stands for a flow: enough to find it, not all that conntrack knows."""
    zone, other = flow.key.zone, flow.reply.zone
    direction: ZoneDirection = "both" if zone == other else "original" if zone else "reply"
    orig, reply = tuple_of(flow.key), tuple_of(flow.reply)
    return CtEntry(flow.key.protocol, orig, reply, zone or other, mark=flow.mark, zone_direction=direction)


def decode(payload: memoryview) -> CtEntry:
    """Decode a record, as dumped or as an event tells it."""
    found = parse(payload[4:])
    l4proto, orig, orig_zone = _direction(found[CTA_TUPLE_ORIG])
    _, reply, reply_zone = _direction(found[CTA_TUPLE_REPLY])
    zone, direction = _zone(found.get(CTA_ZONE), orig_zone, reply_zone)
    return CtEntry(
        l4proto,
        orig,
        reply,
        zone,
        _number(found.get(CTA_STATUS)),
        _number(found.get(CTA_MARK)),
        _number(found.get(CTA_TIMEOUT)),
        _tcp_state(found[CTA_PROTOINFO]) if CTA_PROTOINFO in found else None,
        direction,
    )


def _number(value: memoryview | None) -> int:
    """Decode a number in network order; absent is 0."""
    return 0 if value is None else int.from_bytes(value, "big")


def _zone(both: memoryview | None, original: memoryview | None, reply: memoryview | None) -> tuple[int, ZoneDirection]:
    """Say which zone a record is in, and for which direction."""
    if both is None and original is not None:
        return _number(original), "original"
    if both is None and reply is not None:
        return _number(reply), "reply"
    return _number(both), "both"


def _direction(value: memoryview) -> tuple[int, CtTuple, memoryview | None]:
    """Decode one direction: protocol, addresses and ports, zone."""
    usual = _USUAL.get(len(value))
    if usual is not None and value[(at := _PORT_AT[len(value)]) : at + 4] == _PORT_HEADER:
        one, other, l4proto, sport, dport = usual.unpack(value)
        return l4proto, CtTuple(_address(one), _address(other), sport, dport), None
    found = parse(value)
    ip, proto = parse(found[CTA_TUPLE_IP]), parse(found[CTA_TUPLE_PROTO])
    first = CTA_IP_V4_SRC if CTA_IP_V4_SRC in ip else CTA_IP_V6_SRC
    source, destination = _address(bytes(ip[first])), _address(bytes(ip[first + 1]))
    zone = found.get(CTA_TUPLE_ZONE)
    if CTA_PROTO_SRC_PORT in proto:
        ports = _number(proto[CTA_PROTO_SRC_PORT]), _number(proto[CTA_PROTO_DST_PORT])
        return proto[CTA_PROTO_NUM][0], CtTuple(source, destination, *ports), zone
    for first in (CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID):
        if first in proto:
            icmp = Icmp(proto[first + 1][0], proto[first + 2][0], _number(proto[first]))
            return proto[CTA_PROTO_NUM][0], CtTuple(source, destination, icmp=icmp), zone
    return proto[CTA_PROTO_NUM][0], CtTuple(source, destination), zone


@lru_cache(maxsize=1 << 14)
def _address(packed: bytes) -> Address:
    """Decode an address; a few hosts have most of the flows."""
    return ip_address(packed)


def _tcp_state(value: memoryview) -> str | None:
    """Decode the state of a TCP connection."""
    found = parse(value)
    if CTA_PROTOINFO_TCP not in found:
        return None
    state = parse(found[CTA_PROTOINFO_TCP])[CTA_PROTOINFO_TCP_STATE][0]
    return TCP_STATES[state] if state < len(TCP_STATES) else str(state)


def _tuple(kind: int, l4proto: int, given: CtTuple, zone: int | None) -> bytes:
    """Encode one direction."""
    v4 = isinstance(given.source, IPv4Address)
    first = CTA_IP_V4_SRC if v4 else CTA_IP_V6_SRC
    ip = nest(CTA_TUPLE_IP, attribute(first, given.source.packed), attribute(first + 1, given.destination.packed))
    parts = [attribute(CTA_PROTO_NUM, bytes([l4proto]))]
    if given.icmp is not None:
        number = CTA_PROTO_ICMP_ID if v4 else CTA_PROTO_ICMPV6_ID
        parts += [be16(number, given.icmp.id), attribute(number + 1, bytes([given.icmp.type]))]
        parts += [attribute(number + 2, bytes([given.icmp.code]))]
    else:
        parts += [be16(CTA_PROTO_SRC_PORT, given.sport), be16(CTA_PROTO_DST_PORT, given.dport)]
    directed = [be16(CTA_TUPLE_ZONE, zone)] if zone is not None else []
    return nest(kind, ip, nest(CTA_TUPLE_PROTO, *parts), *directed)
