"""OPEN, NOTIFICATION, KEEPALIVE and ROUTE-REFRESH as octets and back.

Called by `routing.bgp.peering`. Writers make whole messages; readers are given the body, the header was judged when the
stream was split. RFC 4271 4 and 6, RFC 5492, RFC 9072 (long OPEN), RFC 2918 and 7313 (route refresh). Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

from routing.bgp import capabilities
from routing.bgp.capabilities import AS_TRANS, MULTIPROTOCOL, Open, Restart
from routing.bgp.notify import OPEN_ERROR, REFRESH_ERROR, Notify, received, shutdown
from routing.bgp.values import Family

__all__ = [
    "AS_TRANS",
    "HEADER",
    "KEEPALIVE",
    "KEEPALIVE_MESSAGE",
    "MARKER",
    "NOTIFICATION",
    "OPEN",
    "ROUTE_REFRESH",
    "SHORT_LIMIT",
    "UPDATE",
    "VERSION",
    "Notify",
    "Open",
    "Restart",
    "decode_notification",
    "decode_open",
    "decode_refresh",
    "encode_notification",
    "encode_open",
    "encode_refresh",
    "message",
    "shutdown",
]

MARKER = b"\xff" * 16
HEADER = 19
#: The longest message without RFC 8654, and the longest OPEN and KEEPALIVE even with it.
SHORT_LIMIT = 4096
VERSION = 4

OPEN = 1
UPDATE = 2
NOTIFICATION = 3
KEEPALIVE = 4
ROUTE_REFRESH = 5

_CAPABILITIES = 2  # the one optional parameter that is left (RFC 5492 4)
_EXTENDED = 255  # RFC 9072 2: in the place of a parameter type, lengths have two octets
_FIXED = 10
_FAMILIES = {family.value: family for family in Family}


def message(kind: int, body: bytes = b"") -> bytes:
    """Put the header before a body."""
    return MARKER + struct.pack("!HB", HEADER + len(body), kind) + body


KEEPALIVE_MESSAGE = message(KEEPALIVE)


def encode_open(said: Open) -> bytes:
    """Write an OPEN."""
    offered = capabilities.encode(said)
    # What we can offer never needs the long form of RFC 9072.
    parameters = struct.pack("!BB", _CAPABILITIES, len(offered)) + offered if offered else b""
    asn = said.asn if said.asn <= 0xFFFF else AS_TRANS  # noqa: PLR2004 - RFC 6793 4.2.1
    fixed = struct.pack("!BHH4s", VERSION, asn, said.hold_time, said.router_id.packed)
    return message(OPEN, fixed + bytes((len(parameters),)) + parameters)


def decode_open(body: bytes) -> Open:
    """Read an OPEN; whether it is the AS that was expected is for the caller to judge (RFC 4271 6.2)."""
    if len(body) < _FIXED:
        raise _malformed("it is too short")
    version, asn, hold_time, router_id = struct.unpack_from("!BHH4s", body)
    if version != VERSION:
        raise Notify(OPEN_ERROR, 1, struct.pack("!H", VERSION), f"OPEN Message Error: version {version}, not 4")
    offered = [
        capability for parameter in _parameters(body[_FIXED - 1 :]) for capability in capabilities.split(parameter)
    ]
    if router_id == bytes(4):  # RFC 6286 2.1: any other number identifies
        raise Notify(OPEN_ERROR, 3, b"", "OPEN Message Error: the BGP identifier is zero")
    if hold_time in (1, 2):
        raise Notify(OPEN_ERROR, 6, b"", f"OPEN Message Error: a hold time of {hold_time} s is not acceptable")
    said = Open(asn, hold_time, IPv4Address(router_id))
    if any(code == MULTIPROTOCOL for code, _ in offered):
        said = replace(said, families=frozenset())
    for code, value in offered:
        said = capabilities.apply(said, code, value)
    return said


def _parameters(octets: bytes) -> Iterator[bytes]:
    # RFC 9072 2: the type says whether the form is the long one; the length before it is then not looked at.
    extended = len(octets) > 1 and octets[0] > 0 and octets[1] == _EXTENDED
    form, start = ("!BH", 4) if extended else ("!BB", 1)
    if len(octets) < start or start + int.from_bytes(octets[2:4] if extended else octets[:1], "big") != len(octets):
        raise _malformed("the length of the optional parameters is wrong")
    while start < len(octets):
        value = start + struct.calcsize(form)
        kind, length = struct.unpack_from(form, octets, start) if value <= len(octets) else (octets[start], 0)
        start = value + length
        if start > len(octets):
            raise _malformed("an optional parameter is cut off")
        if kind != _CAPABILITIES:
            raise Notify(OPEN_ERROR, 4, b"", f"OPEN Message Error: optional parameter {kind} is not supported")
        yield octets[value:start]


def _malformed(what: str) -> Notify:
    return Notify(OPEN_ERROR, 0, b"", f"OPEN Message Error: {what}")


def encode_notification(notify: Notify) -> bytes:
    """Write a NOTIFICATION; of data that is too long for a message goes as much as has room."""
    return message(NOTIFICATION, (bytes((notify.code, notify.subcode)) + notify.data)[: SHORT_LIMIT - HEADER])


def decode_notification(body: bytes) -> Notify:
    """Read a NOTIFICATION. A mutilated one is none the less the end: nothing may be answered (RFC 4271 6.4)."""
    if len(body) < 2:  # noqa: PLR2004 - code and subcode
        return Notify(0, 0, body, "a NOTIFICATION without code and subcode")
    return received(body[0], body[1], body[2:])


def encode_refresh(family: Family, subtype: int = 0) -> bytes:
    """Write a ROUTE-REFRESH: a request (0), or the beginning (1) or end (2) of an answer (RFC 7313 3.2)."""
    afi, safi = family.value
    return message(ROUTE_REFRESH, struct.pack("!HBB", afi, subtype, safi))


def decode_refresh(body: bytes) -> tuple[Family | None, int]:
    """Read a ROUTE-REFRESH: family (None: not one of ours, to be ignored) and subtype (above 2: to be ignored)."""
    if len(body) != 4:  # noqa: PLR2004 - longer is RFC 5291 (filters), which we never offer
        raise Notify(REFRESH_ERROR, 1, message(ROUTE_REFRESH, body), f"ROUTE-REFRESH of {len(body)} octets, not 4")
    afi, subtype, safi = struct.unpack("!HBB", body)
    return _FAMILIES.get((afi, safi)), subtype
