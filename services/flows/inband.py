"""What service nodes say about flows, in band: datagrams to octets and back (design 0007). Pure.

A service node sends a request over UDP from its link address to the edge's, port `marks.INSTRUCT_PORT`; the answer
comes from there when the kernel has the instruction. All numbers are in network order. A request has 24 octets for
IPv4 (addresses of 4 octets), 48 for IPv6 (of 16), an answer 12::

    octet   0-1    2         3      4-7      8        9         10        11    12-13   14-15   16-
    request "EW"   version   1      number   action   IP 4, 6   protocol  0     ports: source,  addresses: source,
                                                                                destination     destination
    answer  "EW"   version   2      number   status   0         0         0

`number` is the node's own and comes back in the answer. The tuple is that of a packet as the node sees it, in either
direction; for ICMP the source port is the identifier and the destination port type * 256 + code. Octets 0-7 mean the
same in every version, so that an unknown version can be answered. Other lengths, and zeros that are not zero, are
malformed: they are the room of later versions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from appliance.model.errors import InternalError
from appliance.model.facts import Address, FlowKey
from appliance.model.marks import Action

MAGIC: Final = b"EW"
VERSION: Final = 1
REQUEST, ANSWER = 1, 2
#: No datagram of this version is longer.
LONGEST: Final = 48

_HEAD: Final = struct.Struct("!2sBBI")
_REQUEST: Final = struct.Struct("!BBBBHH")
_ANSWER: Final = struct.Struct("!BBBB")
_SIZES: Final = {4: 4, 6: 16}


class Order(IntEnum):
    """What a service node wants for a flow that is redirected to it."""

    #: Forget what was ordered: the rules decide again.
    CLEAR = 0
    #: Let the flow pass by this node.
    ALLOW = 1
    DENY = 2
    #: End it with a reset, or an ICMP error.
    REJECT = 3

    @property
    def action(self) -> Action | None:
        """What is done with the flow's packets from then on; None is what the rules say."""
        return None if self is Order.CLEAR else Action[self.name]


class Status(IntEnum):
    """What became of a request."""

    DONE = 0
    #: No live flow with this tuple.
    NO_SUCH_FLOW = 1
    #: There is one, but it is not redirected to this node.
    REFUSED = 2
    #: Not a request of a version that is understood here.
    MALFORMED = 3
    #: The edge could not do it: asking again may help.
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Request:
    """One order for one flow; `flow` is as the service node sees it, so its zone is 0."""

    number: int
    order: Order
    flow: FlowKey


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the request with this number."""

    number: int
    status: Status


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not a request; `number` is what an answer would carry, None when nobody waits for one that we could tell."""

    number: int | None


def encode_request(request: Request) -> bytes:
    """Write a request."""
    flow = request.flow
    if flow.source.version != flow.destination.version:
        raise InternalError(f"{flow} has addresses of two IP versions")
    ports = (flow.source_port, flow.destination_port)
    body = _REQUEST.pack(request.order, flow.source.version, flow.protocol, 0, *ports)
    addresses = flow.source.packed + flow.destination.packed
    return _HEAD.pack(MAGIC, VERSION, REQUEST, request.number) + body + addresses


def decode_request(octets: bytes) -> Request | Malformed:
    """Read a request from any octets."""
    if len(octets) < _HEAD.size:
        return Malformed(None)
    magic, version, kind, number = _HEAD.unpack_from(octets)
    if magic != MAGIC or kind == ANSWER:
        return Malformed(None)
    body = octets[_HEAD.size :]
    if (version, kind) != (VERSION, REQUEST) or len(body) < _REQUEST.size:
        return Malformed(number)
    order, family, protocol, zero, source_port, destination_port = _REQUEST.unpack_from(body)
    addresses = _addresses(family, body[_REQUEST.size :])
    if addresses is None or order not in Order.__members__.values() or zero:
        return Malformed(number)
    source, destination = addresses
    return Request(number, Order(order), FlowKey(source, source_port, destination, destination_port, protocol))


def _addresses(family: int, octets: bytes) -> tuple[Address, Address] | None:
    size = _SIZES.get(family, 0)
    if not size or len(octets) != 2 * size:
        return None
    kind = IPv4Address if size == 4 else IPv6Address  # noqa: PLR2004 - octets of an address
    return kind(octets[:size]), kind(octets[size:])


def encode_answer(answer: Answer) -> bytes:
    """Write an answer."""
    return _HEAD.pack(MAGIC, VERSION, ANSWER, answer.number) + _ANSWER.pack(answer.status, 0, 0, 0)


def decode_answer(octets: bytes) -> Answer | None:
    """Read an answer from any octets; None if they are none."""
    if len(octets) != _HEAD.size + _ANSWER.size:
        return None
    magic, version, kind, number = _HEAD.unpack_from(octets)
    status, *zeros = _ANSWER.unpack_from(octets, _HEAD.size)
    known = status in Status.__members__.values() and not any(zeros)
    return Answer(number, Status(status)) if (magic, version, kind) == (MAGIC, VERSION, ANSWER) and known else None
