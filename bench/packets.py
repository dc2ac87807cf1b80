"""Packets without a sender: an XDP program under BPF_PROG_TEST_RUN whose every run is a packet that a device receives.

Called by the benches of the packet path. The kernel makes real buffers of the frames (BPF_F_TEST_XDP_LIVE_FRAMES) and
hands them to the stack on the thread that asks, so that thread's CPU time is what the packets cost, to where they are
dropped. `bpf/packets.bpf.c` writes flow i of n into each; UDP, TCP with given flags, IPv4 and IPv6 (RFC 768, 9293, 791,
8200), checksums right.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from contextlib import contextmanager
from ctypes import byref
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from appliance.kernel.libbpf import Program, RunOptions, checked, library
from appliance.model.facts import Address, Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from appliance.kernel.namespaces import Namespaces

OBJECT: Final = Path(__file__).parent / "bpf" / "packets.bpf.o"
TCP, UDP = 6, 17
SYN, ACK = 0x02, 0x10
#: Every device that receives has this address.
MAC: Final = "02:00:00:00:00:0e"
#: Flows that differ only in their port; the next flow has another address.
PORTS: Final = 50_000
_FRAME, _ETHERNET, _V4, _V6 = 80, 14, 20, 40
_LIVE_FRAMES: Final = 2
_STREAM: Final = struct.Struct("=80s11I")
_KEY: Final = bytes(4)


@dataclass(frozen=True, slots=True)
class Stream:
    """Packets of `flows` flows in turn, from the first one's tuple on; `answers` vary their destination instead."""

    source: Address
    source_port: int
    destination: Address
    destination_port: int
    protocol: int = UDP
    flows: int = 1
    flags: int = 0
    sequence: int = 0
    acknowledges: int = 0
    answers: bool = False

    def back(self) -> Stream:
        """Return what comes back."""
        return replace(
            self,
            source=self.destination,
            source_port=self.destination_port,
            destination=self.source,
            destination_port=self.source_port,
            answers=not self.answers,
        )


def handshake(stream: Stream) -> tuple[Stream, ...]:
    """Return what opens each flow of a TCP stream: SYN, SYN and ACK, ACK; repeat the last one as you like."""
    first = replace(stream, flags=SYN, sequence=1000)
    return (
        first,
        replace(first.back(), flags=SYN | ACK, sequence=2000, acknowledges=1001),
        replace(first, flags=ACK, sequence=1001, acknowledges=2001),
    )


def pack(stream: Stream) -> bytes:
    """Lay a stream out for the program."""
    v4 = isinstance(stream.source, IPv4Address)
    l4 = _transport(stream, _FRAME - _ETHERNET - (_V4 if v4 else _V6))
    ip = _v4(stream, len(l4)) if v4 else _v6(stream, len(l4))
    frame = bytes.fromhex(MAC.replace(":", "")) + bytes.fromhex("0200000000ee") + (b"\x08\0" if v4 else b"\x86\xdd")
    frame = (frame + ip + l4).ljust(_FRAME, b"\0")
    varied, port = _varied(stream)
    address_at = _ETHERNET + len(ip) - (4 if stream.answers else 4 + len(stream.destination.packed))
    port_at = _ETHERNET + len(ip) + (2 if stream.answers else 0)
    pseudo = stream.source.packed + stream.destination.packed + struct.pack(">HH", stream.protocol, len(l4))
    fixed = _sum(pseudo) + _sum(l4) - _sum(varied) - port
    return _STREAM.pack(
        frame,
        stream.flows,
        PORTS,
        0,
        int.from_bytes(varied),
        port,
        _sum(ip) - _sum(varied) if v4 else 0,
        fixed,
        address_at,
        port_at,
        _ETHERNET + len(ip) + (16 if stream.protocol == TCP else 6),
        _ETHERNET + 10 if v4 else 0,
    )


def _varied(stream: Stream) -> tuple[bytes, int]:
    """Return the last four octets of the address that varies, and the port."""
    if stream.answers:
        return stream.destination.packed[-4:], stream.destination_port
    return stream.source.packed[-4:], stream.source_port


def _transport(stream: Stream, room: int) -> bytes:
    """Return the header, and of UDP as many octets as there is room for; without checksum."""
    ports = struct.pack(">HH", stream.source_port, stream.destination_port)
    if stream.protocol == UDP:
        return ports + struct.pack(">HH", room, 0) + bytes(room - 8)
    return ports + struct.pack(">IIBBHHH", stream.sequence, stream.acknowledges, 0x50, stream.flags, 0xFFFF, 0, 0)


def _v4(stream: Stream, length: int) -> bytes:
    """Return the header of RFC 791 without checksum."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, _V4 + length, 0, 0x4000, 64, stream.protocol, 0)
    return head + stream.source.packed + stream.destination.packed


def _v6(stream: Stream, length: int) -> bytes:
    """Return the header of RFC 8200."""
    return struct.pack(">IHBB", 6 << 28, length, stream.protocol, 64) + stream.source.packed + stream.destination.packed


def _sum(data: bytes) -> int:
    """Add the 16-bit words up (RFC 1071), not folded."""
    return sum(struct.unpack(f">{len(data) // 2}H", data))


class Generator:
    """The program in the kernel. A context: it is gone at the end."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Load it."""
        self.namespaces = namespaces
        self._program = Program.load(OBJECT, "packets")
        self._data = ctypes.create_string_buffer(_FRAME)

    def send(self, ns: Namespace, device: str, stream: Stream, count: int) -> float:
        """Have a device receive so many packets of a stream; return the CPU nanoseconds that each one took.

        The device's queue must be registered: a veth's is with `ethtool -K DEVICE gro on`.
        """
        with self.namespaces.in_namespace(ns):
            self._program.maps["streams"].update(_KEY, pack(stream))
            context = struct.pack("=6I", 0, _FRAME, 0, socket.if_nametoindex(device), 0, 0)
            held = ctypes.create_string_buffer(context, len(context))
            options = self._options(held, count)
            before = time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)
            checked(library().bpf_prog_test_run_opts(self._program.fd, byref(options)), "test run")
            return (time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID) - before) / count

    def _options(self, context: ctypes.Array[Any], count: int) -> RunOptions:
        """Ask for live frames."""
        return RunOptions(
            sz=ctypes.sizeof(RunOptions),
            data_in=ctypes.addressof(self._data),
            data_size_in=_FRAME,
            ctx_in=ctypes.addressof(context),
            ctx_size_in=len(context),
            repeat=count,
            flags=_LIVE_FRAMES,
            batch_size=64,
        )

    def close(self) -> None:
        """Let the kernel forget it."""
        self._program.close()

    def __enter__(self) -> Self:
        """Be a context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close at the end."""
        self.close()


@contextmanager
def pinned() -> Iterator[None]:
    """Keep this thread on one processor, so that its caches are its own and its time is comparable."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
