"""One member as a BGP speaker without sockets: it says what a case has it say, and remembers what it hears.

Called by `play` (what to do) and `stage` (octets and the connection). It is no state machine of RFC 4271: nothing is refused
and nothing answered but OPEN, for what is judged is the other end. Pure.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from routing.bgp.hot import split
from routing.bgp.messages import (
    KEEPALIVE,
    KEEPALIVE_MESSAGE,
    NOTIFICATION,
    OPEN,
    ROUTE_REFRESH,
    SHORT_LIMIT,
    UPDATE,
    Notify,
    decode_notification,
)
from routing.interop.hearing import Hearing, Unreadable
from routing.interop.octets import FOUR_OCTET, Opening
from routing.interop.world import Member

_LONGEST: Final = 65535
_FIXED: Final = 10
#: What `split` makes of an UPDATE: the kind, withdrawn routes, attributes, NLRI.
_WHOLE: Final = 4


class Speaker:
    """A member: at most one connection at a time.

    `wants` is set when it is to connect; the shell clears it by `connected` or `failed`. `hangs` is set when the connection
    is to be closed once `outbox` is written.
    """

    def __init__(self, me: Member) -> None:
        """Begin without connection."""
        self.me = me
        self.opening = Opening()
        self.wants = self.open = self.hangs = False
        self.outbox = bytearray()
        self._first = b""
        self.hearing = Hearing()
        self._begin()

    def _begin(self) -> None:
        self.theirs: dict[int, bytes] | None = None
        self.their_open = b""
        self.established = False
        #: How the last connection ended: a NOTIFICATION, or None for an end without.
        self.ended = False
        self.notified: Notify | None = None
        self.fault = ""
        self.keepalives: list[float] = []
        self.heard = 0
        self._rest = b""
        self._due = 0.0

    # -- what a case has it do

    def connect(self, opening: Opening, *, instead: bytes | None = None) -> None:
        """Connect and say OPEN, or something else in its place; all that it knew it forgets."""
        self.opening = opening
        self._first = opening.octets(self.me) if instead is None else instead
        self.hearing = Hearing()
        self.again()

    def again(self) -> None:
        """Try to connect once more."""
        self._begin()
        self.wants, self.open, self.hangs = True, False, False
        self.outbox.clear()

    def say(self, octets: bytes) -> None:
        """Say something."""
        self.outbox += octets

    def hang_up(self) -> None:
        """End the connection when all is said."""
        self.hangs, self.wants = True, False

    @property
    def width(self) -> int:
        """Return the octets of an AS number on this session."""
        return 4 if self.opening.four_octet and FOUR_OCTET in (self.theirs or {}) else 2

    # -- what the shell tells it

    def connected(self) -> None:
        """The connection is there."""
        self.wants, self.open = False, True
        self.outbox[:0] = self._first

    def failed(self) -> None:
        """It did not come about."""
        self.wants, self.open, self.ended = False, False, True

    def lost(self) -> None:
        """The connection is gone."""
        self.open, self.established = False, False
        self.ended = True

    def received(self, data: bytes, now: float) -> None:
        """Take in octets."""
        self.heard += len(data)
        buffer = self._rest + data
        found, consumed, fault = split(buffer, _LONGEST if self.opening.extended_message else SHORT_LIMIT)
        self._rest = buffer[consumed:]
        try:
            for message in found:
                self._hear(message, now)
        except Unreadable as error:
            self.fault = self.fault or str(error)
        if fault is not None:
            self.fault = self.fault or f"what is no BGP message: {buffer[consumed:][:32].hex()}"

    def tick(self, now: float) -> None:
        """Say KEEPALIVE when it is time."""
        hold = self.hold_time
        if self.established and self.opening.lively and hold and now >= self._due:
            self._due = now + hold / 3
            self.say(KEEPALIVE_MESSAGE)

    @property
    def hold_time(self) -> int:
        """Return the hold time that both OPENs give; 0: none, or not yet."""
        if len(self.their_open) < _FIXED:
            return 0
        (said,) = struct.unpack_from("!H", self.their_open, 3)
        return min(int(said), self.opening.hold_time)

    def _hear(self, message: tuple[Any, ...], now: float) -> None:
        kind = message[0]
        if kind == UPDATE and len(message) == _WHOLE:
            self.hearing.update(*message[1:])
        elif kind == UPDATE:
            raise Unreadable(f"an UPDATE whose lengths do not agree: {message[1].hex()}")
        elif kind == KEEPALIVE:
            self.keepalives.append(now)
            self.established = self.established or self.theirs is not None
        elif kind == OPEN:
            self.their_open, self.theirs = message[1], capabilities(message[1])
            self.say(KEEPALIVE_MESSAGE)
        elif kind == NOTIFICATION:
            self.notified = decode_notification(message[1])
            self.hang_up()  # RFC 4271 8.2.2: whoever hears it drops the connection
        elif kind != ROUTE_REFRESH:
            raise Unreadable(f"a message of type {kind}")


def capabilities(body: bytes) -> dict[int, bytes]:
    """Return the capabilities of an OPEN by code; of families what all of them say."""
    found: dict[int, bytes] = {}
    for parameter in _parameters(body):
        start = 0
        while start + 2 <= len(parameter):
            code, end = parameter[start], start + 2 + parameter[start + 1]
            found[code] = found.get(code, b"") + parameter[start + 2 : end]
            start = end
    return found


def _parameters(body: bytes) -> list[bytes]:
    if len(body) < _FIXED:
        raise Unreadable(f"an OPEN of {len(body)} octets")
    long = body[9:11] == b"\xff\xff"
    at, found = (13 if long else 10), []
    while at < len(body):
        size = struct.unpack_from("!H" if long else "!B", body.ljust(at + 3, b"\0"), at + 1)[0]
        at += 3 if long else 2
        if at + size > len(body):
            raise Unreadable(f"an OPEN whose parameters are cut off: {body.hex()}")
        found.append(body[at : at + size])
        at += size
    return found
