"""The least BGP speaker that fills a table (RFC 4271): it opens a session, announces, and reads whatever comes."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import IPv4Address, IPv4Network
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MARKER = b"\xff" * 16
OPEN, UPDATE, KEEPALIVE = 1, 2, 4
PORT, HOLD = 179, 0
_PREFIXES = 900


def message(kind: int, body: bytes = b"") -> bytes:
    """Encode a message."""
    return MARKER + struct.pack(">HB", 19 + len(body), kind) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Encode a well-known attribute."""
    return struct.pack(">BBB", 0x40, kind, len(value)) + value


def updates(networks: Iterable[IPv4Network], path: tuple[int, ...], next_hop: IPv4Address) -> Iterator[bytes]:
    """Encode announcements of /24s, as many in a message as fit."""
    segment = struct.pack(f">BB{len(path)}H", 2, len(path), *path)
    attributes = attribute(1, b"\0") + attribute(2, segment) + attribute(3, next_hop.packed)
    head = struct.pack(">HH", 0, len(attributes)) + attributes
    reach = [bytes([network.prefixlen]) + network.network_address.packed[:3] for network in networks]
    for start in range(0, len(reach), _PREFIXES):
        yield message(UPDATE, head + b"".join(reach[start : start + _PREFIXES]))


class Feeder:
    """One session; made in the namespace of the neighbours."""

    def __init__(self, local: str, remote: str, number: int) -> None:
        """Open it, without a hold timer."""
        self.local, self.number = IPv4Address(local), number
        self._socket = socket.create_connection((remote, PORT), timeout=20, source_address=(local, 0))
        body = struct.pack(">BHH4sB", 4, number, HOLD, self.local.packed, 0)
        self._socket.sendall(message(OPEN, body) + message(KEEPALIVE))
        if self._read() != OPEN or self._read() != KEEPALIVE:
            raise ConnectionError(f"no session from {local} to {remote}")
        self._socket.settimeout(None)
        Thread(target=self._drain, daemon=True).start()

    def announce(self, networks: Iterable[IPv4Network], *, detour: int = 0) -> None:
        """Announce; a detour makes the path longer, so that another one is preferred."""
        path = (self.number,) * (1 + detour)
        self._socket.sendall(b"".join(updates(networks, path, self.local)))

    def close(self) -> None:
        """Break the session off."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self) -> int:
        """Read one message; return its type."""
        head = self._exactly(19)
        length, kind = struct.unpack_from(">HB", head, 16)
        self._exactly(length - 19)
        return int(kind)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the session was closed")
            data += part
        return data

    def _drain(self) -> None:
        """Read what comes, so that the other side never waits."""
        with contextlib.suppress(OSError):
            while self._socket.recv(1 << 16):
                pass
