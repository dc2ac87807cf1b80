"""Routes and next-hop objects to netlink messages and back: pure functions on bytes.

Called by `routetable` and `nexthops`. A plan of routes is a few templates and many destinations, and so is a dump, so
both directions work on whole columns instead of message by message: packing costs less than 0.1 us a route where pyroute2
takes 270. Formats: include/uapi/linux/{rtnetlink,nexthop,lwtunnel,seg6_local}.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from appliance.kernel.netlink import (
    HEADER,
    NLA_TYPE_MASK,
    NLM_F_ACK,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    nest,
    parse,
    to_u32,
    u32,
)
from appliance.kernel.routecolumns import fill
from appliance.model.facts import Address, Decapsulate, Hop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
RT_TABLE_MAIN, RTN_UNSPEC, RTN_UNICAST = 254, 0, 1
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_NOWHERE = 0, 253, 255
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_METRICS, RTA_MULTIPATH = 1, 4, 5, 6, 8, 9
RTA_CACHEINFO, RTA_TABLE, RTA_VIA, RTA_PREF, RTA_EXPIRES, RTA_NH_ID = 12, 15, 18, 20, 23, 30
RTAX_LOCK, RTAX_MTU = 1, 2
NHA_ID, NHA_GROUP, NHA_OIF, NHA_GATEWAY, NHA_ENCAP_TYPE, NHA_ENCAP = 1, 2, 5, 6, 7, 8
LWTUNNEL_ENCAP_SEG6_LOCAL: Final = 7
SEG6_LOCAL_ACTION, SEG6_LOCAL_NH4, END_DX4 = 1, 4, 6

_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_NHMSG: Final = struct.Struct("=BBBBI")
_MEMBER: Final = struct.Struct("=IBBH")
_FAMILY: Final[Mapping[int, int]] = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSION: Final[Mapping[int, int]] = {socket.AF_INET: 4, socket.AF_INET6: 6}
#: Bits of an address.
BITS: Final[Mapping[int, int]] = {4: 32, 6: 128}
_SWAP: Final = sys.byteorder == "little"
#: Words before the attributes: nlmsghdr, then rtmsg.
_WORD_SEQUENCE, _WORD_FAMILY, _HEAD = 2, 4, 7
#: Octets before the flags of a nlmsghdr.
_FLAGS: Final = 6
_FAMILY_AND_TOS: Final = struct.unpack("=I", b"\xff\0\0\xff")[0]
_MTU_LOCK: Final = u32(RTAX_LOCK, 1 << RTAX_MTU)
#: What a route of ours may carry; the addresses of next hops come along where nexthop_compat_mode is on.
_PLAIN: Final = frozenset(
    {RTA_DST, RTA_PRIORITY, RTA_METRICS, RTA_CACHEINFO, RTA_TABLE, RTA_PREF, RTA_EXPIRES, RTA_NH_ID}
    | {RTA_OIF, RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH}
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the routes of one batch have in common; `nexthop` 0 names none (to delete)."""

    version: int
    length: int
    proto: int
    metric: int
    nexthop: int = 0
    mtu: int | None = None
    scope: int = SCOPE_UNIVERSE
    tos: int = 0
    kind: int = RTN_UNICAST


def pack_routes(kind: int, flags: int, shape: Shape, destinations: bytes | bytearray, sequence: int) -> bytearray:
    """Encode one message for each destination, of which the octets are given; numbered from `sequence` on."""
    return fill(_template(kind, flags, shape), destinations, BITS[shape.version] // 8, sequence)


def _template(kind: int, flags: int, shape: Shape) -> bytes:
    """Encode a message to destination zero."""
    family = _FAMILY[shape.version]
    body = _RTMSG.pack(family, shape.length, 0, shape.tos, RT_TABLE_MAIN, shape.proto, shape.scope, shape.kind, 0)
    body += attribute(RTA_DST, bytes(4 if shape.version == 4 else 16))  # noqa: PLR2004 - the IP version
    body += u32(RTA_PRIORITY, shape.metric)
    if shape.mtu is not None:
        body += nest(RTA_METRICS, _MTU_LOCK, u32(RTAX_MTU, shape.mtu))
    if shape.nexthop:
        body += u32(RTA_NH_ID, shape.nexthop)
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def ask_ack(packed: bytearray) -> None:
    """Have the last of some packed routes of one shape acknowledged, and with it all before: the kernel keeps order."""
    at = len(packed) - HEADER.unpack_from(packed)[0] + _FLAGS
    struct.pack_into("=H", packed, at, struct.unpack_from("=H", packed, at)[0] | NLM_F_ACK)


def dump_routes(version: int, proto: int) -> bytes:
    """Encode the payload of a dump request: table main, one protocol; the kernel does the choosing."""
    return _RTMSG.pack(_FAMILY[version], 0, 0, 0, RT_TABLE_MAIN, proto, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Run:
    """Routes that stand together in a dump and differ only in destination and next-hop object.

    `plain` tells whether they look like what `pack_routes` makes: unicast, no attribute but ours; `interrupted` that
    something changed while the kernel dumped, so that the dump may miss routes.
    """

    shape: Shape
    plain: bool
    interrupted: bool
    lengths: Sequence[int]
    destinations: Sequence[int]
    nexthops: Sequence[int]


@dataclass(frozen=True, slots=True)
class End:
    """The last message of a dump: `errno` positive if it failed."""

    errno: int
    interrupted: bool


@dataclass(frozen=True, slots=True)
class _Make:
    """How a message is made: where its attributes are, and which words all messages of a run share.

    Positions count words from the start of a message.
    """

    width: int
    attributes: Mapping[int, int]
    fixed: tuple[int, ...]


def unpack_routes(datagram: bytes, sequence: int) -> Iterator[Run | End]:
    """Decode what was received of the dump that has this sequence number."""
    words = array("I", datagram)
    start = 0
    while start + 4 <= len(words):
        kind, flags = words[start + 1] & 0xFFFF, words[start + 1] >> 16
        if words[start + _WORD_SEQUENCE] != sequence:
            start += (words[start] + 3) >> 2
        elif kind in (NLMSG_DONE, NLMSG_ERROR):
            yield End(-struct.unpack_from("=i", datagram, (start + 4) * 4)[0], bool(flags & NLM_F_DUMP_INTR))
            return
        else:
            make = _look(words, start)
            end = start + make.width * _alike(words, start, make)
            yield _run(datagram[start * 4 : end * 4], words[start:end], make)
            start = end


def _look(words: array[int], start: int) -> _Make:
    """Find the attributes of a message."""
    attributes: dict[int, int] = {}
    fixed = [0, 1, 2, 5]  # length, type, sequence; table, protocol, scope and type
    width, at = (words[start] + 3) >> 2, _HEAD
    while at < width:
        header = words[start + at]
        kind, size = header >> 16 & NLA_TYPE_MASK, max(1, ((header & 0xFFFF) + 3) >> 2)
        attributes[kind] = at
        fixed += range(at, at + size) if kind in (RTA_PRIORITY, RTA_METRICS) else (at,)
        at += size
    return _Make(width, attributes, tuple(fixed))


def _alike(words: array[int], start: int, make: _Make) -> int:
    """Count the messages from here on that are made like the first."""
    count = (len(words) - start) // make.width
    for at in (*make.fixed, _WORD_FAMILY):
        column = words[start + at : start + count * make.width : make.width]
        if at == _WORD_FAMILY:  # the length of the prefix, the second octet, may differ
            column = array("I", [word & _FAMILY_AND_TOS for word in column])
        if column.count(column[0]) != count:
            count = next(number for number, word in enumerate(column) if word != column[0])
    return count


def _run(block: bytes, words: array[int], make: _Make) -> Run:
    """Decode messages of one make."""
    where, width = make.attributes, make.width
    family, _, _, tos, _, proto, _, kind, _ = _RTMSG.unpack_from(block, 16)
    mtu, clean = _mtu(words, where)
    metric = words[where[RTA_PRIORITY] + 1] if RTA_PRIORITY in where else 0
    shape = Shape(_VERSION[family], 0, proto, metric, mtu=mtu, tos=tos, kind=kind)
    plain = clean and RTA_NH_ID in where and kind == RTN_UNICAST and tos == 0 and where.keys() <= _PLAIN
    lengths = block[17 :: 4 * width]
    nexthops = words[where[RTA_NH_ID] + 1 :: width] if RTA_NH_ID in where else bytes(len(lengths))
    interrupted = bool(words[1] >> 16 & NLM_F_DUMP_INTR)
    return Run(
        shape, plain, interrupted, lengths, _destinations(words, width, where.get(RTA_DST), shape.version), nexthops
    )


def _destinations(block: array[int], width: int, at: int | None, version: int) -> Sequence[int]:
    """Decode the column of destinations; a default route has none."""
    if at is None:
        return [0] * (len(block) // width)
    if version == 4:  # noqa: PLR2004 - the IP version
        column = block[at + 1 :: width]
        if _SWAP:
            column.byteswap()
        return column
    parts = [block[at + 1 + part :: width] for part in range(4)]
    if _SWAP:
        for part in parts:
            part.byteswap()
    return [a << 96 | b << 64 | c << 32 | d for a, b, c, d in zip(*parts, strict=True)]


def _mtu(block: array[int], where: Mapping[int, int]) -> tuple[int | None, bool]:
    """Decode the metrics: the MTU, and whether they are none or just what we set."""
    at = where.get(RTA_METRICS)
    if at is None:
        return None, True
    size = (block[at] & 0xFFFF) - 4
    found = parse(memoryview(block[at + 1 : at + 1 + (size >> 2)].tobytes()))
    if found.keys() == {RTAX_LOCK, RTAX_MTU} and to_u32(found[RTAX_LOCK]) == 1 << RTAX_MTU:
        return to_u32(found[RTAX_MTU]), True
    return None, False


# -- next-hop objects -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HopObject:
    """A next-hop object as the kernel has it: a way out of device `index`."""

    id: int
    proto: int
    version: int
    index: int
    via: Address | None = None
    decapsulate: Decapsulate | None = None


@dataclass(frozen=True, slots=True)
class GroupObject:
    """A group of next-hop objects, all of one weight."""

    id: int
    proto: int
    members: tuple[int, ...]


def hop_version(hop: Hop, version: int) -> int:
    """Return the IP version of a hop's object: that of its gateway; on-link that of the routes that use it."""
    if hop.decapsulate is not None:
        return 6
    return version if hop.via is None else hop.via.version


def pack_hop(found: HopObject) -> bytes:
    """Encode the payload that makes or replaces a next-hop object."""
    body = _NHMSG.pack(_FAMILY[found.version], 0, found.proto, 0, 0)
    body += u32(NHA_ID, found.id) + u32(NHA_OIF, found.index)
    if found.via is not None:
        body += attribute(NHA_GATEWAY, found.via.packed)
    if found.decapsulate is not None:
        body += attribute(NHA_ENCAP_TYPE, struct.pack("=H", LWTUNNEL_ENCAP_SEG6_LOCAL))
        inner = attribute(SEG6_LOCAL_NH4, found.decapsulate.nexthop.packed)
        body += nest(NHA_ENCAP, u32(SEG6_LOCAL_ACTION, END_DX4), inner)
    return body


def pack_group(found: GroupObject) -> bytes:
    """Encode the payload that makes or replaces a group."""
    members = b"".join([_MEMBER.pack(member, 0, 0, 0) for member in found.members])
    return _NHMSG.pack(0, 0, found.proto, 0, 0) + u32(NHA_ID, found.id) + attribute(NHA_GROUP, members)


def pack_nexthop_id(number: int) -> bytes:
    """Encode the payload that deletes an object."""
    return _NHMSG.pack(0, 0, 0, 0, 0) + u32(NHA_ID, number)


def dump_nexthops() -> bytes:
    """Encode the payload of a dump of all objects."""
    return _NHMSG.pack(0, 0, 0, 0, 0)


def unpack_nexthop(payload: memoryview) -> HopObject | GroupObject | None:
    """Decode an object; None if it is of a kind that we do not make."""
    family, _, proto, _, _ = _NHMSG.unpack_from(payload)
    found = parse(payload[8:])
    number = to_u32(found[NHA_ID])
    if NHA_GROUP in found:
        return GroupObject(number, proto, tuple(member[0] for member in _MEMBER.iter_unpack(found[NHA_GROUP])))
    if NHA_OIF not in found or family not in _VERSION:
        return None
    via: Address | None = None
    if NHA_GATEWAY in found:
        raw = bytes(found[NHA_GATEWAY])
        via = IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)  # noqa: PLR2004 - octets of an address
    decapsulate = None
    if NHA_ENCAP in found:
        action = parse(found[NHA_ENCAP])
        if SEG6_LOCAL_NH4 not in action or to_u32(action[SEG6_LOCAL_ACTION]) != END_DX4:
            return None
        decapsulate = Decapsulate(IPv4Address(bytes(action[SEG6_LOCAL_NH4])))
    return HopObject(number, proto, _VERSION[family], to_u32(found[NHA_OIF]), via, decapsulate)
