"""Path attributes of gobgpd's API, version 3 (`apipb`), to our values. Pure.

Called by `gobgp_codec`. Attributes come as one `Any` each; those of many paths are the same octets, so decoded sets are
kept and shared. MP_REACH_NLRI holds the prefix as well and is taken apart for its next hop alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage

from routing.bgp.values import Attributes, Origin, Segment, SegmentType, UnknownAttribute
from routing.engines.gobgp_api import attribute_pb2 as attr

_NOT_TRANSITIVE: Final = 0x40


def attributes(encoded: Iterable[AnyMessage]) -> Attributes:
    """Decode path attributes; equal ones give the same object."""
    next_hop, others = "", []
    for item in encoded:
        if item.type_url.endswith(".MpReachNLRIAttribute"):
            next_hop = attr.MpReachNLRIAttribute.FromString(item.value).next_hops[0]
        else:
            others.append((item.type_url.rpartition(".")[2], item.value))
    return _attributes(next_hop, tuple(others))


@lru_cache(maxsize=1 << 16)
def _attributes(next_hop: str, encoded: tuple[tuple[str, bytes], ...]) -> Attributes:
    fields: dict[str, Any] = {"next_hop": ip_address(next_hop.partition("%")[0])} if next_hop else {}
    unknown = []
    for name, value in encoded:
        decode = _DECODERS.get(name)
        if decode is not None:
            fields.update(decode(value))
        elif name == "UnknownAttribute":
            item = attr.UnknownAttribute.FromString(value)
            unknown.append(UnknownAttribute(item.flags, item.type, item.value))
    return Attributes(**{"next_hop": IPv4Address(0), **fields, "unknown": tuple(unknown)})


def _origin(value: bytes) -> dict[str, Any]:
    return {"origin": Origin(attr.OriginAttribute.FromString(value).origin)}


def _as_path(value: bytes) -> dict[str, Any]:
    sets = (attr.AsSegment.AS_SET, attr.AsSegment.AS_CONFED_SET)
    segments = attr.AsPathAttribute.FromString(value).segments
    return {
        "as_path": tuple(
            Segment(SegmentType.SET if segment.type in sets else SegmentType.SEQUENCE, tuple(segment.numbers))
            for segment in segments
        )
    }


def _aggregator(value: bytes) -> dict[str, Any]:
    item = attr.AggregatorAttribute.FromString(value)
    return {"aggregator": (item.asn, IPv4Address(item.address))}


def _communities(value: bytes) -> dict[str, Any]:
    numbers = attr.CommunitiesAttribute.FromString(value).communities
    return {"communities": tuple((number >> 16, number & 0xFFFF) for number in numbers)}


def _large_communities(value: bytes) -> dict[str, Any]:
    items = attr.LargeCommunitiesAttribute.FromString(value).communities
    return {"large_communities": tuple((item.global_admin, item.local_data1, item.local_data2) for item in items)}


def _extended_communities(value: bytes) -> dict[str, Any]:
    items = attr.ExtendedCommunitiesAttribute.FromString(value).communities
    octets = (_extended(item.type_url.rpartition(".")[2], item.value) for item in items)
    return {"extended_communities": tuple(item for item in octets if item)}


def _extended(name: str, value: bytes) -> bytes:
    """Return the eight octets (RFC 4360, 5668); nothing for the kinds that belong to families we do not carry."""
    encode = _EXTENDED.get(name)
    return b"" if encode is None else encode(value)


def _two_octet_as(value: bytes) -> bytes:
    item = attr.TwoOctetAsSpecificExtended.FromString(value)
    return struct.pack("!BBHI", _kind(0x00, item.is_transitive), item.sub_type, item.asn, item.local_admin)


def _ipv4_address(value: bytes) -> bytes:
    item = attr.IPv4AddressSpecificExtended.FromString(value)
    packed = IPv4Address(item.address).packed
    return struct.pack("!BB4sH", _kind(0x01, item.is_transitive), item.sub_type, packed, item.local_admin)


def _four_octet_as(value: bytes) -> bytes:
    item = attr.FourOctetAsSpecificExtended.FromString(value)
    return struct.pack("!BBIH", _kind(0x02, item.is_transitive), item.sub_type, item.asn, item.local_admin)


def _opaque(value: bytes) -> bytes:
    item = attr.OpaqueExtended.FromString(value)
    return struct.pack("!B7s", _kind(0x03, item.is_transitive), item.value)


def _link_bandwidth(value: bytes) -> bytes:
    item = attr.LinkBandwidthExtended.FromString(value)
    return struct.pack("!BBHf", 0x40, 0x04, item.asn, item.bandwidth)


def _other(value: bytes) -> bytes:
    item = attr.UnknownExtended.FromString(value)
    return struct.pack("!B7s", item.type, item.value)


def _kind(kind: int, transitive: bool) -> int:  # noqa: FBT001 - as the message says it
    return kind if transitive else kind | _NOT_TRANSITIVE


_EXTENDED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "TwoOctetAsSpecificExtended": _two_octet_as,
    "IPv4AddressSpecificExtended": _ipv4_address,
    "FourOctetAsSpecificExtended": _four_octet_as,
    "OpaqueExtended": _opaque,
    "LinkBandwidthExtended": _link_bandwidth,
    "UnknownExtended": _other,
}

#: By name of the message; what is not here and not unknown to gobgpd belongs to families we do not carry.
_DECODERS: Final[dict[str, Callable[[bytes], dict[str, Any]]]] = {
    "OriginAttribute": _origin,
    "AsPathAttribute": _as_path,
    "NextHopAttribute": lambda value: {"next_hop": ip_address(attr.NextHopAttribute.FromString(value).next_hop)},
    "MultiExitDiscAttribute": lambda value: {"med": attr.MultiExitDiscAttribute.FromString(value).med},
    "LocalPrefAttribute": lambda value: {"local_pref": attr.LocalPrefAttribute.FromString(value).local_pref},
    "AtomicAggregateAttribute": lambda _: {"atomic_aggregate": True},
    "AggregatorAttribute": _aggregator,
    "CommunitiesAttribute": _communities,
    "LargeCommunitiesAttribute": _large_communities,
    "ExtendedCommunitiesAttribute": _extended_communities,
    "OriginatorIdAttribute": lambda value: {
        "originator_id": IPv4Address(attr.OriginatorIdAttribute.FromString(value).id)
    },
    "ClusterListAttribute": lambda value: {
        "cluster_list": tuple(map(IPv4Address, attr.ClusterListAttribute.FromString(value).ids))
    },
}
