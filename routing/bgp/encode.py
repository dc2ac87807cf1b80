"""UPDATE messages for many prefixes at once, packed as full as fits.

The reference of what `routing.bgp.hot` offers (design note 0008, which also says what octets are); the C form behaves the
same and has the same tests. RFC 4271 4.3, RFC 4760, RFC 8654.
"""

from __future__ import annotations

import struct
from typing import Final

from routing.bgp.nlri import cut
from routing.bgp.scan import (
    EXTENDED,
    HEADER_SIZE,
    IPV4_UNICAST,
    MARKER,
    MP_REACH_NLRI,
    MP_UNREACH_NLRI,
    OPTIONAL,
    UPDATE,
)

_LONGEST: Final = 65535
_FIXED: Final = HEADER_SIZE + 4  # and the lengths of withdrawn routes and attributes
_SHORT: Final = 255  # the longest attribute whose length is one octet
_REACH_SIZE: Final = 5  # of a MP_REACH_NLRI without next hop and NLRI

_HEADER = struct.Struct(">16sHBHH")


def announce(octets: bytes, nlri: bytes, limit: int, /) -> bytes:
    """Return the messages that announce `nlri` with an attribute set, each of at most `limit` octets."""
    _check_limit(limit)
    if octets[1:2] == bytes((MP_REACH_NLRI,)):
        end = 3 + octets[2] if len(octets) > 2 else 0  # noqa: PLR2004 - where the length is
        if octets[0] != OPTIONAL or not 3 + _REACH_SIZE <= end <= len(octets):
            raise ValueError("attributes: a MP_REACH_NLRI that is not reduced")
        return _multiprotocol(MP_REACH_NLRI, octets[3:end], octets[end:], nlri, limit)
    size = len(octets)
    return b"".join(
        _HEADER.pack(MARKER, _FIXED + size + len(piece), UPDATE, 0, size) + octets + piece
        for piece in cut(nlri, limit - _FIXED - size)
    )


def withdraw(family: int, nlri: bytes, limit: int, /) -> bytes:
    """Return the messages that withdraw `nlri` of a family (AFI << 8 | SAFI), each of at most `limit` octets."""
    _check_limit(limit)
    head = family.to_bytes(3, "big")
    if family != IPV4_UNICAST:
        return _multiprotocol(MP_UNREACH_NLRI, head, b"", nlri, limit)
    return b"".join(
        _HEADER.pack(MARKER, _FIXED + len(piece), UPDATE, len(piece), 0)[:-2] + piece + b"\0\0"
        for piece in cut(nlri, limit - _FIXED)
    )


def end_of_rib(family: int) -> bytes:
    """Return the message that says that all routes of a family have been sent (RFC 4724 2)."""
    if family == IPV4_UNICAST:
        return _HEADER.pack(MARKER, _FIXED, UPDATE, 0, 0)
    return _message(MP_UNREACH_NLRI, family.to_bytes(3, "big"), b"")


def _check_limit(limit: int) -> None:
    if limit > _LONGEST:
        raise ValueError("no message is longer than 65535 octets")


def _multiprotocol(kind: int, head: bytes, others: bytes, nlri: bytes, limit: int) -> bytes:
    """Return messages whose first attribute is `head` and as much of `nlri` as fits."""
    left = limit - _FIXED - len(others)
    # The fourth octet of the attribute's header is paid only where the attribute may be that long.
    room = left - len(head) - (3 if left <= 3 + _SHORT else 4)
    return b"".join(_message(kind, head + piece, others) for piece in cut(nlri, room))


def _message(kind: int, value: bytes, others: bytes) -> bytes:
    size = len(value)
    if size > _SHORT:
        header = bytes((OPTIONAL | EXTENDED, kind, size >> 8, size & 0xFF))
    else:
        header = bytes((OPTIONAL, kind, size))
    total = len(header) + size + len(others)
    return _HEADER.pack(MARKER, _FIXED + total, UPDATE, 0, total) + header + value + others
