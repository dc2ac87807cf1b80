"""ctnetlink messages, without a kernel."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.conntrack_codec import (
    CTA_MARK,
    CTA_PROTOINFO,
    CTA_STATUS,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_REPLY,
    CTA_ZONE,
    CtEntry,
    CtTuple,
    Icmp,
    ZoneDirection,
    _tuple,
    decode,
    delete_message,
    dump_message,
)
from appliance.kernel.netlink import attribute, be16, be32, nest, parse

PORT = st.integers(0, 65535)
PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
WITH_PORTS = st.builds(lambda pair, one, two: CtTuple(pair[0], pair[1], one, two), PAIRS, PORT, PORT)
ECHOES = st.builds(lambda pair, number: CtTuple(pair[0], pair[1], icmp=Icmp(8, 0, number)), PAIRS, PORT)


def encode(entry: CtEntry) -> memoryview:
    """Write a record as the kernel dumps it."""
    body = struct.pack("=BBH", 2, 0, 0)
    directed = {"original": (entry.zone, None), "reply": (None, entry.zone), "both": (None, None)}[entry.zone_direction]
    body += _tuple(CTA_TUPLE_ORIG, entry.l4proto, entry.orig, directed[0])
    body += _tuple(CTA_TUPLE_REPLY, entry.l4proto, entry.reply, directed[1])
    body += be32(CTA_STATUS, entry.status) + be32(CTA_MARK, entry.mark)
    body += be16(CTA_ZONE, entry.zone) if entry.zone and entry.zone_direction == "both" else b""
    if entry.tcp_state:
        body += nest(CTA_PROTOINFO, nest(1, attribute(1, b"\3")))
    return memoryview(body)


@given(
    st.one_of(WITH_PORTS, ECHOES),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.sampled_from(["both", "original", "reply"]),
)
def test_every_record_is_decoded_as_it_was(orig: CtTuple, zone: int, mark: int, direction: ZoneDirection) -> None:
    """Both families, with ports and without, whatever the zone is part of."""
    reply = replace(orig, source=orig.destination, destination=orig.source, sport=orig.dport, dport=orig.sport)
    entry = CtEntry(6 if orig.icmp is None else 1, orig, reply, zone, 0xE, mark, 0, "established")
    entry = replace(entry, zone_direction=direction if zone else "both")
    assert decode(encode(entry)) == entry


def test_a_protocol_without_ports_has_none() -> None:
    """GRE, ESP and the like."""
    body = nest(1, nest(1, attribute(1, b"\1\1\1\1"), attribute(2, b"\2\2\2\2")), nest(2, attribute(1, b"\x32")))
    reply = nest(2, nest(1, attribute(1, b"\2\2\2\2"), attribute(2, b"\1\1\1\1")), nest(2, attribute(1, b"\x32")))
    entry = decode(memoryview(bytes(4) + body + reply))
    assert entry == CtEntry(50, CtTuple(IPv4Address("1.1.1.1"), IPv4Address("2.2.2.2")), entry.reply)


@pytest.mark.parametrize(
    ("zone", "direction", "where"), [(7, "both", "message"), (7, "original", "tuple"), (0, "both", "nowhere")]
)
def test_a_delete_names_the_zone_where_the_kernel_looks_for_it(zone: int, direction: ZoneDirection, where: str) -> None:
    """Otherwise the record is not found."""
    orig = CtTuple(ip_address("2001:db8::1"), IPv6Address("2001:db8::2"), 1, 2)
    message = delete_message(CtEntry(17, orig, orig, zone, zone_direction=direction))
    found = parse(memoryview(message.payload)[4:])
    assert message.payload[0] == 10
    assert (CTA_ZONE in found) == (where == "message")
    assert (3 in parse(found[CTA_TUPLE_ORIG])) == (where == "tuple")


def test_a_dump_asks_the_kernel_for_no_more_than_is_wanted() -> None:
    """A mark goes with its mask."""
    assert dump_message().payload == bytes(4)
    found = parse(memoryview(dump_message(mark=0x10, mask=0xFF, zone=7).payload)[4:])
    assert {kind: int.from_bytes(value, "big") for kind, value in found.items()} == {8: 0x10, 21: 0xFF, 18: 7}
