"""Single packets of named flows: sent and seen through raw sockets, while the stacks of the machines keep quiet.

So a test decides about each packet of a connection, also of one that was refused halfway. Each packet carries a number.
A packet that comes to nothing is told from one that is late by a sentinel: a datagram that is always let through, sent
right behind it by the same processor, so that it stands behind it in every queue of the way.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from typing import TYPE_CHECKING, Final, Literal

from appliance.model.facts import Address, FlowKey
from tests.packet.vpcs import ZONE, address
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.packet.vpcs import Box

ICMP, TCP, UDP = socket.IPPROTO_ICMP, socket.IPPROTO_TCP, socket.IPPROTO_UDP
Direction = Literal["there", "back"]
End = tuple[Address, int]
#: Port, at both ends, of datagrams that every policy of these tests lets through.
SENTINEL: Final = 9
#: Type of service of packets of which nobody takes note: they are only to be in the way.
_CROWD: Final = 0x20
_LIBC: Final = ctypes.CDLL(None)
_IP: Final = struct.Struct("!BBHHHBBH4s4s")
_TCP: Final = struct.Struct("!HHIIBBHHH")
_UDP: Final = struct.Struct("!HHHH")
_ECHO: Final = struct.Struct("!BBHHH")
_NUMBER: Final = struct.Struct("!Q")
_SIZES: Final = {ICMP: _ECHO.size, TCP: _TCP.size, UDP: _UDP.size}
_SYN, _RST, _PUSH, _ACK = 2, 4, 8, 16
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
#: `ldb [1]; jeq #0x20 -> drop; else take it`: the octet is the type of service.
_UNCROWDED: Final = b"".join(
    struct.pack("=HBBI", *each) for each in ((0x30, 0, 0, 1), (0x15, 0, 1, _CROWD), (6, 0, 0, 0), (6, 0, 0, 0xFFFF))
)
_TTL: Final = 64


@contextmanager
def one_processor() -> Iterator[None]:
    """Stay on the processor on which we run: what is sent here keeps its order on the way."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_LIBC.sched_getcpu()})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _checksum(octets: bytes) -> int:
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(slots=True)
class Talk:
    """A flow between two machines; `target` is what the destination is translated to.

    `shaken` counts the packets of a handshake of TCP that have arrived; `sent` is what each side has brought over.
    """

    source: str
    destination: str
    key: FlowKey
    target: End
    shaken: int = 0
    sent: dict[Direction, int] = field(default_factory=lambda: {"there": 1_000_000, "back": 2_000_000})

    @classmethod
    def of(
        cls, source: str, source_port: int, destination: str, port: int, protocol: int, vip: End | None = None
    ) -> Talk:
        """Name a talk by machines; `vip` is what is called instead of the destination itself."""
        target = (IPv4Address(address(destination)), 8 << 8 if protocol == ICMP else port)
        key = FlowKey(IPv4Address(address(source)), source_port, *(vip or target), protocol, ZONE)
        return cls(source, destination, key, target)

    def machine(self, direction: Direction) -> str:
        """Return who sends in a direction."""
        return self.source if direction == "there" else self.destination

    def next(self, direction: Direction) -> Direction:
        """Return the direction of the next packet: a handshake has its order."""
        if self.key.protocol != TCP or self.shaken == 3:
            return direction
        return "back" if self.shaken == 1 else "there"

    def packet(self, direction: Direction, number: int = 0) -> tuple[bytes, str]:
        """Return the next packet of a direction and where it is sent; without a number it brings nothing new."""
        here: End = (self.key.source, self.key.source_port) if direction == "there" else self.target
        far: End = (self.key.destination, self.key.destination_port)
        if direction == "back":
            far = (self.key.source, self.key.source_port)
        payload = _NUMBER.pack(number)
        match self.key.protocol:
            case socket.IPPROTO_UDP:
                body = _UDP.pack(here[1], far[1], _UDP.size + len(payload), 0) + payload
            case socket.IPPROTO_TCP:
                body = self._segment(direction, here, far, payload if number else b"")
            case _:
                body = self._echo(direction, payload)
        tos = 0 if number else _CROWD
        head = _IP.pack(0x45, tos, 0, 0, 0, _TTL, self.key.protocol, 0, here[0].packed, far[0].packed)
        return head + body, str(far[0])

    def _segment(self, direction: Direction, here: End, far: End, payload: bytes) -> bytes:
        flags = (_SYN, _SYN | _ACK, _ACK, _ACK | _PUSH)[self.shaken]
        own, other = self.sent[direction], self.sent["back" if direction == "there" else "there"]
        # A number in a handshake is carried as data would be, of which conntrack takes no notice.
        head = _TCP.pack(here[1], far[1], own, other if flags & _ACK else 0, 5 << 4, flags, 0x4000, 0, 0)
        pseudo = here[0].packed + far[0].packed + struct.pack("!HH", TCP, len(head) + len(payload))
        check = struct.pack("!H", _checksum(pseudo + head + payload))
        return head[:16] + check + head[18:] + payload

    def _echo(self, direction: Direction, payload: bytes) -> bytes:
        kind = 8 if direction == "there" else 0
        head = _ECHO.pack(kind, 0, 0, self.key.source_port, 1)
        return _ECHO.pack(kind, 0, _checksum(head + payload), self.key.source_port, 1) + payload

    def arrived(self, direction: Direction) -> None:
        """Take note that the packet of a direction has come."""
        if self.key.protocol == TCP:
            self.sent[direction] += _NUMBER.size + (self.shaken < 2)
            self.shaken = min(self.shaken + 1, 3)

    def begin_again(self) -> None:
        """Take note that the edge knows nothing of this connection any more."""
        self.shaken = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came in somewhere: the number of a packet and what is left of its life, or 0 and the port that was reset."""

    number: int
    ttl: int
    reset: int = 0


class Machine:
    """The raw sockets of one machine whose stack keeps quiet."""

    def __init__(self, box: Box, name: str) -> None:
        self._box, self.name = box, name
        for rule in ("tcp flags & rst == rst drop", "icmp type destination-unreachable drop"):
            self._quiet(rule)
        box.run(name, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
        #: Sends packets with headers of our making, and receives nothing.
        self.out = box.socket(name, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._in = [self._listener(protocol) for protocol in _SIZES]

    def _quiet(self, rule: str) -> None:
        table = "add table ip quiet; add chain ip quiet out { type filter hook output priority 0; }"
        self._box.run(self.name, "nft", f"{table}; add rule ip quiet out {rule}")

    def _listener(self, protocol: int) -> socket.socket:
        made = self._box.socket(self.name, socket.AF_INET, socket.SOCK_RAW, protocol)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 24)
        held = ctypes.create_string_buffer(_UNCROWDED, len(_UNCROWDED))
        made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 4, ctypes.addressof(held)))
        made.setblocking(False)
        return made

    def wait(self) -> None:
        """Return when something may have come in."""
        select.select(self._in, [], [], 0.2)

    def drain(self) -> Iterator[Arrival]:
        """Yield what has come in."""
        for each in self._in:
            with suppress(BlockingIOError):
                while True:
                    if found := _read(each.recv(2048)):
                        yield found


def _read(packet: bytes) -> Arrival | None:
    """Read a packet of ours, or a reset."""
    body, protocol = packet[20:], packet[9]
    payload = body[_SIZES[protocol] :]
    if protocol == TCP and body[13] & _RST:
        return Arrival(0, packet[8], int.from_bytes(body[2:4], "big"))
    # Messages about errors quote what they are about.
    if len(payload) != _NUMBER.size or (protocol == ICMP and body[0] not in {0, 8}):
        return None
    return Arrival(_NUMBER.unpack(payload)[0], packet[8])


class Probes:
    """All machines of a box, and what has come in where."""

    def __init__(self, box: Box, *names: str) -> None:
        self.machines = {name: Machine(box, name) for name in names}
        self.seen: dict[str, dict[int, Arrival]] = {name: {} for name in names}
        self._resets: dict[str, set[int]] = {name: set() for name in names}
        self._numbers = count(1)

    def send(self, talk: Talk, direction: Direction) -> int:
        """Send the next packet of a talk; when this returns it has been judged, and has arrived if nothing detains it."""
        source, target = talk.source, talk.destination
        if direction == "back":
            source, target = target, source
        number, sentinel = next(self._numbers), next(self._numbers)
        packets = (
            talk.packet(direction, number),
            Talk.of(source, SENTINEL, target, SENTINEL, UDP).packet("there", sentinel),
        )
        out = self.machines[source].out
        self._resets[source].clear()
        with one_processor():
            for packet, to in packets:
                out.sendto(packet, (to, 0))
        self.arrival(target, sentinel)
        self._take(source)
        return number

    def arrival(self, name: str, number: int) -> Arrival:
        """Return a packet that must arrive at a machine, and wait for it."""

        def there() -> bool:
            if number not in self.seen[name]:
                self.machines[name].wait()
                self._take(name)
            return number in self.seen[name]

        eventually(there, within=20, what=f"packet {number} arrives at {name}")
        return self.seen[name][number]

    def was_reset(self, name: str, port: int) -> bool:
        """Tell whether a machine heard a reset for a port of its own, after the last packet that it sent."""
        return port in self._resets[name]

    def settle(self) -> None:
        """Take in what is there."""
        for name in self.machines:
            self._take(name)

    def _take(self, name: str) -> None:
        for arrival in self.machines[name].drain():
            if arrival.reset:
                self._resets[name].add(arrival.reset)
            else:
                self.seen[name][arrival.number] = arrival
