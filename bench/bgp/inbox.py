"""What one session of the tester receives: counted by the length of what is said, or kept prefix by prefix.

The tester must cost less than what it measures. `Inbox` therefore looks at no prefix but the first of an UPDATE (all of
them have one path, so one sender) and counts octets: who expects a table knows how many octets its prefixes are.
`Recorder` looks at each: which one is held with which attributes, and when it was last spoken of.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from bench.bgp.messages import REACH, UNREACH
from bench.feeder import UPDATE

_HEAD: Final = 19
_LENGTH_AND_KIND: Final = struct.Struct(">HB").unpack_from
_U16: Final = struct.Struct(">H").unpack_from
_EXTENDED: Final = 0x10

#: First and last prefix that a client announces, without their lengths.
Range = tuple[bytes, bytes]


def span(prefixes: tuple[bytes, ...]) -> Range | None:
    """Return the range of prefixes that ascend, if there are any."""
    return (prefixes[0][1:], prefixes[-1][1:] + b"\xff") if prefixes else None


class Inbox:
    """Octets of prefixes announced and withdrawn, without what a server sends back to who announced it (`echoed`)."""

    def __init__(self, own: Range | None = None) -> None:
        """`own` is the range that the session's client announces."""
        self.announced = self.withdrawn = self.echoed = self.updates = 0
        self.reached: float | None = None
        self.others: list[tuple[int, bytes]] = []
        self._low, self._high = own or (b"\xff", b"")
        self._goal = (0, 0)
        self._rest = b""
        self._at = 0.0

    def expect(self, announced: int, withdrawn: int = 0) -> None:
        """Have `reached` tell when so many octets more have come; at once, if none are expected."""
        self._goal = (self.announced + announced, self.withdrawn + withdrawn)
        self.reached = None if announced or withdrawn else 0.0

    def feed(self, data: bytes, at: float) -> None:
        """Take what was received at a time."""
        self._at = at
        buffer = self._rest + data if self._rest else data
        position, end = 0, len(buffer)
        while end - position >= _HEAD:
            length, kind = _LENGTH_AND_KIND(buffer, position + 16)
            if end - position < length:
                break
            if kind == UPDATE:
                self._update(buffer, position + _HEAD, position + length)
            else:
                self.others.append((kind, buffer[position + _HEAD : position + length]))
            position += length
        self._rest = buffer[position:]
        if self.reached is None and self.announced >= self._goal[0] and self.withdrawn >= self._goal[1]:
            self.reached = at

    def forget(self) -> None:
        """Begin with a new connection: half a message of the last one says nothing."""
        self._rest = b""

    def _update(self, buffer: bytes, start: int, end: int) -> None:
        self.updates += 1
        (withdrawn,) = _U16(buffer, start)
        attributes = start + 2 + withdrawn
        (length,) = _U16(buffer, attributes)
        attributes += 2
        prefixes = attributes + length
        if withdrawn:
            self._withdraw(buffer, start + 2, start + 2 + withdrawn)
        if prefixes < end:
            self._announce(buffer, prefixes, end, (attributes, prefixes))
        elif length:
            self._multiprotocol(buffer, attributes, prefixes)

    def _multiprotocol(self, buffer: bytes, start: int, end: int) -> None:
        """RFC 4760: prefixes among the attributes."""
        for kind, value, after in walk(buffer, start, end):
            if kind == REACH:
                # AFI 2, SAFI 1, length of next hop 1, next hop, reserved 1.
                self._announce(buffer, value + 5 + buffer[value + 3], after, (start, end))
            elif kind == UNREACH:
                self._withdraw(buffer, value + 3, after)

    def _announce(self, buffer: bytes, start: int, end: int, _: tuple[int, int]) -> None:
        first = buffer[start + 1 : start + 1 + (buffer[start] + 7) // 8]
        if self._low <= first <= self._high:
            self.echoed += end - start
        else:
            self.announced += end - start

    def _withdraw(self, _: bytes, start: int, end: int) -> None:
        self.withdrawn += end - start


class Recorder(Inbox):
    """What is held: the attributes of each prefix; `spoken` tells when each was last announced or withdrawn."""

    def __init__(self, own: Range | None = None) -> None:
        """Hold nothing."""
        super().__init__(own)
        self.held: dict[bytes, bytes] = {}
        self.spoken: dict[bytes, float] = {}

    def _announce(self, buffer: bytes, start: int, end: int, attributes: tuple[int, int]) -> None:
        super()._announce(buffer, start, end, attributes)
        octets = buffer[slice(*attributes)]
        for prefix in split(buffer, start, end):
            self.held[prefix] = octets
            self.spoken[prefix] = self._at

    def _withdraw(self, buffer: bytes, start: int, end: int) -> None:
        super()._withdraw(buffer, start, end)
        for prefix in split(buffer, start, end):
            self.held.pop(prefix, None)
            self.spoken[prefix] = self._at


def walk(buffer: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield each attribute: its type, where its value begins and where it ends."""
    while start < end:
        if buffer[start] & _EXTENDED:
            value = start + 4
            (length,) = _U16(buffer, start + 2)
        else:
            value, length = start + 3, buffer[start + 2]
        yield buffer[start + 1], value, value + length
        start = value + length


def split(buffer: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield each prefix."""
    while start < end:
        after = start + 1 + (buffer[start] + 7) // 8
        yield buffer[start:after]
        start = after
