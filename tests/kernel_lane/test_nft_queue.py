"""nft gives packets to a program and does what it says: `queue`, read here over netlink as `nfnetlink_queue.h` has it."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from tests.kernel_lane.yard import attribute, nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel_lane.yard import Yard

NETLINK_NETFILTER: Final = 12
QUEUE: Final = 3 << 8
PACKET, VERDICT, CONFIG = QUEUE, QUEUE | 1, QUEUE | 2
REQUEST_ACK: Final = 5
NUMBER: Final = 7
DROP, ACCEPT = 0, 1
RULES = f"table ip t {{ chain c {{ type filter hook forward priority 0; udp dport 7 queue num {NUMBER}; }}; }}"


def _message(kind: int, attributes: bytes, flags: int = 1) -> bytes:
    """Frame a message about our queue."""
    body = struct.pack(">BBH", socket.AF_INET, 0, NUMBER) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _attributes(octets: bytes) -> Iterator[tuple[int, bytes]]:
    while octets:
        length, kind = struct.unpack_from("=HH", octets)
        yield kind & 0x3FFF, octets[4:length]
        octets = octets[(length + 3) & ~3 :]


class Reader:
    """The program."""

    def __init__(self, connection: socket.socket) -> None:
        """Bind to the queue, and want whole packets."""
        self._socket = connection
        for attributes in (
            attribute(1, struct.pack(">BxH", 1, socket.AF_INET)),
            attribute(2, struct.pack(">IB", 0xFFFF, 2)),
        ):
            connection.send(_message(CONFIG, attributes, REQUEST_ACK))
            assert struct.unpack_from("=i", connection.recv(65536), 16) == (0,)

    def judge(self, forbidden: bytes) -> bytes:
        """Take one packet; refuse it if this is in it; return it."""
        octets = self._socket.recv(1 << 17)
        assert struct.unpack_from("=H", octets, 4) == (PACKET,)
        found = dict(_attributes(octets[20:]))
        payload = found[10]
        verdict = DROP if forbidden in payload else ACCEPT
        self._socket.send(_message(VERDICT, attribute(2, struct.pack(">I", verdict) + found[1][:4])))
        return payload


def test_a_program_decides_which_packets_pass(yard: Yard) -> None:
    """One after the other; a packet waits for its verdict."""
    yard.make("c", "r", "s")
    yard.cable("c/e0 10.0.0.2/24", "r/e0 10.0.0.1/24")
    yard.cable("s/e0 10.0.1.2/24", "r/e1 10.0.1.1/24")
    yard.ip("c", "route add default via 10.0.0.1")
    yard.forwarding("r")
    yard.nft("r", RULES)
    reader = Reader(yard.socket("r", socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
    client, server = yard.udp("c"), yard.udp("s", 7)
    for text in (b"good 1", b"evil", b"good 2"):
        client.sendto(text, ("10.0.1.2", 7))
        assert nothing(server)
        assert reader.judge(b"evil").endswith(text)
        if text != b"evil":
            assert server.recv(100) == text
    assert nothing(server)
