"""One ICMP echo on one link of a namespace (RFC 792); called by `appliance.control.health`.

A raw socket bound to the device: an answer that comes another way does not count. Unprivileged echo sockets would need a
sysctl in every namespace (net.ipv4.ping_group_range) and gain nothing for a process that may do everything there.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from ipaddress import IPv4Address
from typing import Final

from appliance.kernel.namespaces import Namespaces
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace

ECHO_REPLY, ECHO = 0, 8
_ECHO: Final = struct.Struct("!BBHHH")
_LARGEST: Final = 2048
#: One for as long as this process lives: all questions to a target are one flow of conntrack, not one each.
IDENTIFIER: Final = secrets.randbelow(1 << 16)


def checksum(octets: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    even = octets + b"\0" * (len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo(identifier: int, sequence: int) -> bytes:
    """Return an echo request."""
    bare = _ECHO.pack(ECHO, 0, 0, identifier, sequence)
    return _ECHO.pack(ECHO, 0, checksum(bare), identifier, sequence)


def answers(packet: bytes, identifier: int, sequence: int) -> bool:
    """Tell whether an IPv4 packet is the reply to an echo request."""
    start = 4 * (packet[0] & 0xF) if packet else 0
    if len(packet) < start + _ECHO.size:
        return False
    kind, _, _, *numbers = _ECHO.unpack_from(packet, start)
    return kind == ECHO_REPLY and numbers == [identifier, sequence]


async def ping(namespaces: Namespaces, ns: Namespace, link: str, address: IPv4Address, patience: float) -> bool:
    """Tell whether an address answers on a link within `patience` seconds."""
    try:
        with namespaces.in_namespace(ns):
            made = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    except (KernelError, OSError):
        return False
    with made:
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
            made.connect((str(address), 0))  # from now on the kernel gives us only what comes from there
            async with asyncio.timeout(patience):
                await _exchange(made)
        except OSError:
            return False
    return True


async def _exchange(made: socket.socket) -> None:
    """Ask, and return when the answer has come."""
    loop, sequence = asyncio.get_running_loop(), secrets.randbelow(1 << 16)
    await loop.sock_sendall(made, echo(IDENTIFIER, sequence))
    while not answers(await loop.sock_recv(made, _LARGEST), IDENTIFIER, sequence):
        pass
