"""WireGuard, set up over generic netlink as `linux/wireguard.h` has it: the image has no `wg`."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

from tests.kernel_lane.yard import attribute, exchange, protocols

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard

NETLINK_GENERIC: Final = 16
CONTROLLER: Final = 0x10
REQUEST_ACK: Final = 5
NESTED: Final = 0x8000
PORT: Final = 51820
#: RFC 7748, section 6.1: private and public keys of two people.
KEYS = {
    "a": (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    ),
    "b": (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ),
}


def _key(place: str, number: int) -> bytes:
    return bytes.fromhex(KEYS[place][number])


def _ask(connection: socket.socket, kind: int, command: int, attributes: bytes) -> bytes:
    """Send a message; return the first answer."""
    body = struct.pack("=BBH", command, 1, 0) + attributes
    connection.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST_ACK, 1, 0) + body)
    answer = connection.recv(65536)
    if struct.unpack_from("=H", answer, 4) == (2,):
        assert struct.unpack_from("=i", answer, 16) == (0,)
    else:
        connection.recv(65536)  # the acknowledgement
    return answer


def _family(connection: socket.socket) -> int:
    """Ask for the number of WireGuard's messages."""
    answer = _ask(connection, CONTROLLER, 3, attribute(2, b"wireguard\0"))
    position = answer.index(struct.pack("=HH", 6, 1), 20)
    number: int = struct.unpack_from("=H", answer, position + 4)[0]
    return number


def _configure(yard: Yard, place: str, other: str, endpoint: str, allowed: str) -> None:
    connection = yard.socket(place, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
    inner = attribute(1, struct.pack("=H", socket.AF_INET)) + attribute(2, IPv4Address(allowed).packed)
    address = attribute(NESTED, inner + attribute(3, b"\x20"))
    where = struct.pack("=H", socket.AF_INET) + struct.pack(">H", PORT) + IPv4Address(endpoint).packed + bytes(8)
    peer = attribute(1, _key(other, 1)) + attribute(4, where) + attribute(9 | NESTED, address)
    device = attribute(2, b"wg0\0") + attribute(3, _key(place, 0)) + attribute(6, struct.pack("=H", PORT))
    _ask(connection, _family(connection), 1, device + attribute(8 | NESTED, attribute(NESTED, peer)))


def test_two_ends_that_know_each_others_keys_talk_in_secret(yard: Yard) -> None:
    """The wire carries UDP of WireGuard and nothing that can be read."""
    yard.make("a", "b")
    yard.cable("a/eth0 192.0.2.1/24", "b/eth0 192.0.2.2/24")
    for number, (place, other) in enumerate((("a", "b"), ("b", "a")), 1):
        yard.ip(place, "link add wg0 type wireguard")
        _configure(yard, place, other, f"192.0.2.{3 - number}", f"10.1.0.{3 - number}")
        yard.ip(place, f"address add 10.1.0.{number}/24 dev wg0", "link set wg0 up")
    ends = (yard.ear("a", "eth0"), yard.ear("b", "eth0"))
    exchange(yard.udp("a"), yard.udp("b", 7), ("10.1.0.2", 7), b"a secret of two")
    frames = [frame for wire in ends for frame in wire.heard()]
    assert protocols(frames) == {socket.IPPROTO_UDP}
    ports = {int.from_bytes(frame[36:38], "big") for _, frame in frames if protocols([(0, frame)])}
    assert ports == {PORT}
    assert not any(b"secret" in frame for _, frame in frames)
