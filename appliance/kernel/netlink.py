"""Netlink: attributes to bytes and back, and whole exchanges (batch with acks, dump) on a blocking socket.

Called by every kernel port. Why not pyroute2: its synchronous calls drive an event loop of their own and fail inside a
running one, and decoding costs it 0.8 ms a device. Formats: include/uapi/linux/netlink.h (RFC 3549).

Exchanges block, but only for the time the kernel takes to answer: microseconds a message, no network is involved.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence


NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF
NLMSGERR_ATTR_MSG: Final = 1
NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12

HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")
_PAD: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
#: Messages of one send: their acks fit the receive buffer.
_CHUNK: Final = 256
#: The kernel packs at most 32 KiB of a dump into one datagram.
_RECEIVE: Final = 1 << 16
_SEQUENCE = count(1)
#: The numbers of one send follow each other, whatever other threads send meanwhile.
_NUMBERING = threading.Lock()

Attributes = dict[int, memoryview]


@dataclass(frozen=True, slots=True)
class Message:
    """One request: the payload is what follows the netlink header. An ack is asked for by `batch`."""

    type: int
    payload: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel said to one request of a batch: 0, or a positive errno with its words."""

    errno: int
    message: str = ""


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute, padded to four octets."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + _PAD[length & 3]


def nest(kind: int, *parts: bytes) -> bytes:
    """Encode an attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """Encode a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    """Encode an octet."""
    return attribute(kind, value.to_bytes(1, "little"))


def u32(kind: int, value: int) -> bytes:
    """Encode 32 bits in host order (rtnetlink)."""
    return attribute(kind, struct.pack("=I", value))


def be16(kind: int, value: int) -> bytes:
    """Encode 16 bits in network order."""
    return attribute(kind, value.to_bytes(2, "big"))


def be32(kind: int, value: int) -> bytes:
    """Encode 32 bits in network order (nfnetlink)."""
    return attribute(kind, value.to_bytes(4, "big"))


def parse(buffer: memoryview) -> Attributes:
    """Decode a run of attributes; the last of a repeated kind wins."""
    found: Attributes = {}
    offset, end = 0, len(buffer)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(buffer, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & NLA_TYPE_MASK] = buffer[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def to_text(value: memoryview) -> str:
    """Decode a NUL-terminated string."""
    return bytes(value).split(b"\0", 1)[0].decode(errors="replace")


def to_u32(value: memoryview) -> int:
    """Decode 32 bits in host order."""
    number: int = struct.unpack_from("=I", value)[0]
    return number


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, memoryview]]:
    """Split what was received into (type, flags, sequence, payload)."""
    view = memoryview(datagram)
    offset, end = 0, len(datagram)
    while offset + 16 <= end:
        length, kind, flags, sequence, _ = HEADER.unpack_from(view, offset)
        yield kind, flags, sequence, view[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def answer(flags: int, payload: memoryview) -> Answer:
    """Decode an NLMSG_ERROR with the kernel's words, if it has any (NETLINK_EXT_ACK)."""
    code = -_ERROR.unpack_from(payload)[0]
    words = ""
    if code and flags & NLM_F_ACK_TLVS:
        inner = HEADER.unpack_from(payload, 4)[0]
        start = 4 + (16 if flags & NLM_F_CAPPED else (inner + 3) & ~3)
        said = parse(payload[start:]).get(NLMSGERR_ATTR_MSG)
        words = to_text(said) if said is not None else ""
    return Answer(code, words)


def send(link: socket.socket, requests: Sequence[Message]) -> int:
    """Send in one system call; return the sequence number of the first."""
    with _NUMBERING:
        numbers = [next(_SEQUENCE) & 0x7FFF_FFFF for _ in requests]
    packed = []
    for sequence, request in zip(numbers, requests, strict=True):
        length = 16 + len(request.payload)
        packed += [
            HEADER.pack(length, request.type, request.flags | NLM_F_REQUEST, sequence, 0),
            request.payload,
        ]
        packed.append(_PAD[length & 3])
    link.sendall(b"".join(packed))
    return numbers[0] if numbers else 0


def batch(link: socket.socket, requests: Sequence[Message]) -> list[Answer]:
    """Send all; return the kernel's answer to each, in order. One refused does not stop the others."""
    answers: list[Answer] = []
    for start in range(0, len(requests), _CHUNK):
        answers += _acked(link, requests[start : start + _CHUNK])
    return answers


def get(link: socket.socket, request: Message) -> memoryview | Answer:
    """Ask for one object: its payload, or why there is none."""
    found: memoryview | None = None
    first = send(link, [Message(request.type, request.payload, request.flags | NLM_F_ACK)])
    while True:
        for kind, flags, sequence, payload in messages(link.recv(_RECEIVE)):
            if sequence != first:
                continue
            if kind == NLMSG_ERROR:
                said = answer(flags, payload)
                return found if found is not None and not said.errno else said
            found = payload


def _acked(link: socket.socket, requests: Sequence[Message]) -> list[Answer]:
    """Send, and collect as many acks as there are requests."""
    first = send(
        link,
        [Message(one.type, one.payload, one.flags | NLM_F_ACK) for one in requests],
    )
    answers: dict[int, Answer] = {}
    while len(answers) < len(requests):
        for kind, flags, sequence, payload in messages(link.recv(_RECEIVE)):
            if kind == NLMSG_ERROR and 0 <= sequence - first < len(requests):
                answers[sequence - first] = answer(flags, payload)
    return [answers[place] for place in range(len(requests))]


def stream(link: socket.socket, request: Message) -> Iterator[memoryview]:
    """Yield the payloads of a dump as they come; raise OSError EINTR at the end if a change interrupted it."""
    first = send(link, [Message(request.type, request.payload, request.flags | NLM_F_DUMP)])
    interrupted = False
    while True:
        for kind, flags, sequence, payload in messages(link.recv(_RECEIVE)):
            if sequence != first:
                continue
            interrupted |= bool(flags & NLM_F_DUMP_INTR)
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                said = answer(flags, payload) if kind == NLMSG_ERROR else Answer(-_ERROR.unpack_from(payload)[0])
                if code := said.errno or (errno.EINTR if interrupted else 0):
                    raise OSError(code, said.message or os.strerror(code))
                return
            yield payload
