"""What RFC 7606 makes of each path attribute: kept, discarded, or all routes of the UPDATE withdrawn.

Called by `routing.bgp.update` with the first occurrence of each attribute but MP_REACH_NLRI and MP_UNREACH_NLRI, which hold
NLRI and are judged there. What is kept has clean flags and AS numbers of four octets. RFC 7606 3 and 7, RFC 4271 6.3, 6793,
7607, 8092. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address

from routing.bgp import path
from routing.bgp.attributes import EXTENDED, FLAGS, OPTIONAL, PARTIAL, TRANSITIVE, Attribute, Code, address
from routing.bgp.capabilities import AS_TRANS
from routing.bgp.notify import UPDATE_ERROR, Notify

# Subcodes of UPDATE Message Error (RFC 4271 6.3).
MALFORMED_LIST = 1
UNRECOGNIZED_WELL_KNOWN = 2
MISSING_WELL_KNOWN = 3
FLAGS_ERROR = 4
LENGTH_ERROR = 5
INVALID_ORIGIN = 6
INVALID_NEXT_HOP = 8
OPTIONAL_ERROR = 9
INVALID_NETWORK = 10
MALFORMED_AS_PATH = 11

_CATEGORY = OPTIONAL | TRANSITIVE
_SHOWN = 24  # octets of a value in a log line


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that takes the routes of the UPDATE with it, and what a NOTIFICATION would say if it had to be one."""

    subcode: int
    data: bytes
    text: str

    def notify(self) -> Notify:
        """Make it the end of the session."""
        return Notify(UPDATE_ERROR, self.subcode, self.data, f"UPDATE Message Error: {self.text}")


@dataclass(frozen=True, slots=True)
class Discard:
    """An attribute that goes while the route stays; silently where an RFC wants it so."""

    text: str = ""


class _MalformedError(ValueError):
    def __init__(self, subcode: int, text: str) -> None:
        super().__init__(text)
        self.subcode = subcode


def vet(
    found: Iterable[Attribute], *, internal: bool, four_octet: bool
) -> tuple[list[Attribute], list[Fault], list[str]]:
    """Return the attributes that stay, in their order, the faults, and what was discarded."""
    kept: list[Attribute] = []
    faults: list[Fault] = []
    discarded: list[str] = []
    for attribute in found:
        verdict = _judge(attribute, internal=internal, four_octet=four_octet)
        if isinstance(verdict, Fault):
            faults.append(verdict)
        elif isinstance(verdict, Attribute):
            kept.append(verdict)
        elif verdict.text:
            discarded.append(verdict.text)
    return kept if four_octet else _merged(kept), faults, discarded


def describe(attribute: Attribute) -> str:
    """Name an attribute for the log, with as much of its octets as a person will read."""
    name = Code(attribute.code).name if attribute.code in FLAGS else f"attribute {attribute.code}"
    value = attribute.value[:_SHOWN].hex() + ("..." if len(attribute.value) > _SHOWN else "")
    return f"{name} [{attribute.flags:02x} {value or 'empty'}]"


def _judge(attribute: Attribute, *, internal: bool, four_octet: bool) -> Attribute | Fault | Discard:
    code = attribute.code
    if code not in FLAGS:
        return _unknown(attribute)
    if code in _OF_OLD_SPEAKERS and four_octet:
        return Discard(f"{describe(attribute)} from a speaker of four-octet AS numbers")  # RFC 6793 4.1
    if code in _INTERNAL and not internal:
        return Discard(f"{describe(attribute)} from an external neighbour")  # RFC 7606 7.5, 7.9, 7.10
    if (attribute.flags ^ FLAGS[code]) & _CATEGORY:
        # RFC 7606 3 c: "the attribute MUST be treated as malformed and the 'treat-as-withdraw' approach used".
        return Fault(FLAGS_ERROR, attribute.octets(), f"{describe(attribute)}: the flags are wrong")
    try:
        value = _CHECKS[code](attribute.value, 4 if four_octet else 2)
    except _MalformedError as malformed:
        text = f"{describe(attribute)}: {malformed}"
        return Discard(text) if code in _DISCARDED else Fault(malformed.subcode, attribute.octets(), text)
    return Attribute(_clean(attribute.flags, FLAGS[code]), code, value)


def _clean(flags: int, category: int) -> int:
    # RFC 4271 4.3: the lower four bits "MUST be ignored when received"; Partial says something where an attribute may
    # have passed somebody who did not know it.
    partial = PARTIAL if category == _CATEGORY else 0
    return category | flags & (EXTENDED | partial)


def _unknown(attribute: Attribute) -> Attribute | Discard:
    if not attribute.flags & OPTIONAL:
        # RFC 4271 6.3. RFC 7606 3 changes what flags, lengths and values of known attributes lead to, and not this.
        text = f"UPDATE Message Error: {describe(attribute)} is said to be well-known and is not"
        raise Notify(UPDATE_ERROR, UNRECOGNIZED_WELL_KNOWN, attribute.octets(), text)
    if not attribute.flags & TRANSITIVE:
        return Discard()  # RFC 4271 5: "quietly ignored and not passed along"
    return attribute._replace(flags=_CATEGORY | PARTIAL | attribute.flags & EXTENDED)


def _sized(size: int) -> Callable[[bytes, int], bytes]:
    def check(value: bytes, _: int) -> bytes:
        if len(value) != size:
            raise _MalformedError(LENGTH_ERROR, f"{len(value)} octets, not {size}")
        return value

    return check


def _listed(size: int) -> Callable[[bytes, int], bytes]:
    # RFC 7606 7.8, 7.10, 7.14, RFC 8092 6: "not a nonzero multiple".
    def check(value: bytes, _: int) -> bytes:
        if not value or len(value) % size:
            raise _MalformedError(LENGTH_ERROR, f"{len(value)} octets, no multiple of {size}")
        return value

    return check


def _origin(value: bytes, width: int) -> bytes:
    if _sized(1)(value, width)[0] > 2:  # noqa: PLR2004 - INCOMPLETE
        raise _MalformedError(INVALID_ORIGIN, "the value is undefined")
    return value


def _as_path(value: bytes, width: int) -> bytes:
    try:
        segments = path.decode(value, width)
    except ValueError as error:
        raise _MalformedError(MALFORMED_AS_PATH, str(error)) from None
    return value if width == 4 else path.encode(segments)  # noqa: PLR2004 - it is as it should be


def _as4_path(value: bytes, _: int) -> bytes:
    try:
        return path.encode(path.decode(value, without_confederation=True))
    except ValueError as error:
        raise _MalformedError(OPTIONAL_ERROR, str(error)) from None


def _aggregator(value: bytes, width: int) -> bytes:
    _sized(width + 4)(value, width)
    if not any(value[:width]):
        raise _MalformedError(OPTIONAL_ERROR, "AS 0 aggregates nothing")  # RFC 7607 2
    return value.rjust(8, b"\0")


def _next_hop(value: bytes, width: int) -> bytes:
    if not is_host(_sized(4)(value, width)):
        raise _MalformedError(INVALID_NEXT_HOP, "no address of a host")
    return value


def is_host(octets: bytes) -> bool:
    """Tell whether an address can be that of one host (RFC 4271 6.3: "a valid IP host address")."""
    hop = address(octets)
    if isinstance(hop, IPv6Address):
        return not (hop.is_unspecified or hop.is_loopback or hop.is_multicast)
    return octets[0] not in (0, 127) and octets[0] < 224  # noqa: PLR2004 - RFC 1112 4: multicast and reserved


def _large_communities(value: bytes, width: int) -> bytes:
    _listed(12)(value, width)
    # RFC 8092 3: "A receiving speaker MUST silently remove redundant BGP Large Community values".
    return b"".join(dict.fromkeys(value[start : start + 12] for start in range(0, len(value), 12)))


_CHECKS: dict[int, Callable[[bytes, int], bytes]] = {
    Code.ORIGIN: _origin,
    Code.AS_PATH: _as_path,
    Code.NEXT_HOP: _next_hop,
    Code.MULTI_EXIT_DISC: _sized(4),
    Code.LOCAL_PREF: _sized(4),
    Code.ATOMIC_AGGREGATE: _sized(0),
    Code.AGGREGATOR: _aggregator,
    Code.COMMUNITIES: _listed(4),
    Code.ORIGINATOR_ID: _sized(4),
    Code.CLUSTER_LIST: _listed(4),
    Code.EXTENDED_COMMUNITIES: _listed(8),
    Code.AS4_PATH: _as4_path,
    Code.AS4_AGGREGATOR: lambda value, _: _aggregator(value, 4),
    Code.LARGE_COMMUNITIES: _large_communities,
    Code.ONLY_TO_CUSTOMER: _sized(4),
}
_INTERNAL = frozenset({Code.LOCAL_PREF, Code.ORIGINATOR_ID, Code.CLUSTER_LIST})
_OF_OLD_SPEAKERS = frozenset({Code.AS4_PATH, Code.AS4_AGGREGATOR})
#: Malformed, they go alone: RFC 7606 3 f, RFC 6793 6.
_DISCARDED = _OF_OLD_SPEAKERS | {Code.ATOMIC_AGGREGATE, Code.AGGREGATOR}


def _merged(kept: list[Attribute]) -> list[Attribute]:
    # RFC 6793 4.2.3. Values have four octets for each AS number by now.
    values = {attribute.code: attribute.value for attribute in kept}
    as_path, as4_path = values.get(Code.AS_PATH), values.get(Code.AS4_PATH)
    aggregator, as4_aggregator = values.get(Code.AGGREGATOR), values.get(Code.AS4_AGGREGATOR)
    news: dict[int, bytes] = {}
    if aggregator is not None and as4_aggregator is not None:
        if aggregator[:4] == struct.pack("!L", AS_TRANS):
            news[Code.AGGREGATOR] = as4_aggregator
        else:  # somebody who knows no AS4_PATH aggregated since: both of the new attributes are out of date
            as4_path = None
    if as_path is not None and as4_path is not None:
        news[Code.AS_PATH] = path.encode(path.merge(path.decode(as_path), path.decode(as4_path)))
    return [
        attribute._replace(value=news.get(attribute.code, attribute.value))
        for attribute in kept
        if attribute.code not in _OF_OLD_SPEAKERS
    ]
