"""Routes by packed raw netlink: what a program costs that knows nothing but its destinations, the measure for ours.

A thousand messages in each send, and an acknowledgement asked for only of the last: it says that the kernel is through
with all of them. Whatever follows the destination is packed once.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from appliance.kernel.namespaces import Namespaces
    from appliance.model.facts import Namespace

PROTOCOL: Final = 186
NEW_ROUTE, DELETE_ROUTE, NEW_NEXTHOP = 24, 25, 104
REQUEST, ACK, REPLACE, CREATE = 0x1, 0x4, 0x100, 0x400
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_NH_ID = 1, 4, 5, 30
NHA_ID, NHA_GROUP, NHA_OIF, NHA_GATEWAY = 1, 2, 5, 6
_ERROR, _MAIN, _UNICAST, _BATCH = 2, 254, 1, 1000
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_HEADER: Final = struct.Struct("=IHHII")
#: Beyond the limit of the machine (SO_SNDBUFFORCE, SO_RCVBUFFORCE): a batch, and an error for each of its messages.
_BUFFERS, _BUFFER = (32, 33), 8 << 20


def attribute(kind: int, value: bytes) -> bytes:
    """Encode an attribute; values here are of whole words."""
    return struct.pack("=HH", 4 + len(value), kind) + value


def number(kind: int, value: int) -> bytes:
    """Encode an attribute that is a number."""
    return attribute(kind, struct.pack("=I", value))


@dataclass(frozen=True)
class Raw:
    """A socket of a namespace, and the index of the device that all routes lead to."""

    link: socket.socket
    index: int

    @classmethod
    def open(cls, namespaces: Namespaces, ns: Namespace, device: str) -> Raw:
        """Make the socket."""
        with namespaces.in_namespace(ns):
            link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            index = socket.if_nametoindex(device)
        for option in _BUFFERS:
            link.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        link.bind((0, 0))
        return cls(link, index)

    def close(self) -> None:
        """Close it."""
        self.link.close()

    def gateway(self, via: IPv4Address | IPv6Address) -> bytes:
        """Encode where a route leads without a next-hop object."""
        return attribute(RTA_GATEWAY, via.packed) + number(RTA_OIF, self.index)

    def object(self, name: int) -> bytes:
        """Encode where a route leads by a next-hop object."""
        return number(RTA_NH_ID, name)

    def hop(self, name: int, via: IPv4Address | IPv6Address) -> None:
        """Make a next-hop object, or another of it."""
        self._object(_FAMILY[via.version], name, number(NHA_OIF, self.index) + attribute(NHA_GATEWAY, via.packed))

    def group(self, name: int, member: int) -> None:
        """Make a group of one next-hop object, or another of it."""
        self._object(socket.AF_UNSPEC, name, attribute(NHA_GROUP, struct.pack("=IBBH", member, 0, 0, 0)))

    def _object(self, family: int, name: int, rest: bytes) -> None:
        body = struct.pack("=BBBBI", family, 0, PROTOCOL, 0, 0) + number(NHA_ID, name) + rest
        flags = REQUEST | ACK | CREATE | REPLACE
        self.push([_HEADER.pack(_HEADER.size + len(body), NEW_NEXTHOP, flags, 0, 0) + body])

    def push(self, packed: Sequence[bytes]) -> None:
        """Send packed messages, each time waiting for the acknowledgement of the last."""
        for batch in packed:
            self.link.sendall(batch)
            said = self.link.recv(1 << 16)
            code = struct.unpack_from("=i", said, _HEADER.size)[0]
            assert _HEADER.unpack_from(said)[1] == _ERROR
            assert code == 0, f"the kernel refuses: {-code}"


def pack(kind: int, networks: Sequence[IPv4Network | IPv6Network], way: bytes, flags: int) -> list[bytes]:
    """Encode a message for each network, all of one length and with one way."""
    first = networks[0]
    size = first.max_prefixlen // 8
    body = struct.pack("=8BI", _FAMILY[first.version], first.prefixlen, 0, 0, _MAIN, PROTOCOL, 0, _UNICAST, 0)
    body += struct.pack("=HH", 4 + size, RTA_DST)
    length = _HEADER.size + len(body) + size + len(way)
    head, last = (_HEADER.pack(length, kind, REQUEST | flags | ack, 0, 0) + body for ack in (0, ACK))
    return [*_batches(head, last, [network.network_address.packed for network in networks], way)]


def _batches(head: bytes, last: bytes, destinations: Sequence[bytes], way: bytes) -> Iterator[bytes]:
    for start in range(0, len(destinations), _BATCH):
        some = destinations[start : start + _BATCH]
        yield b"".join([head + destination + way for destination in some[:-1]]) + last + some[-1] + way
