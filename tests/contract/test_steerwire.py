"""Pieces of steers as the kernel has them; what the port makes of them is tested with the port."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from appliance.kernel.netlink import u8, u32
from appliance.kernel.steerwire import (
    BACKSTOP,
    FRA_FWMARK,
    FRA_PROTOCOL,
    PRIORITY,
    RTM_DELRULE,
    RTM_NEWRULE,
    WAY,
    MarkRule,
    Piece,
    Way,
    create,
    pieces,
    read_rule,
    read_way,
    remove,
)
from appliance.model.facts import Address
from appliance.model.marks import PROTO_BOX, STEER, STEERS


@pytest.mark.parametrize(("version", "via"), [(4, IPv4Address("10.9.0.1")), (6, IPv6Address("fd00::1")), (4, None)])
@pytest.mark.parametrize("number", [1, STEERS])
def test_what_is_sent_is_what_is_read(version: int, via: Address | None, number: int) -> None:
    """A message that makes a piece has the form of a dump."""
    for piece in pieces(version, number, 7, via):
        payload = memoryview(create(piece, 0).payload)
        found: Piece | None = read_rule(payload) if isinstance(piece, MarkRule) else read_way(payload)
        assert found == piece
        assert remove(piece).payload == create(piece, 0).payload


def test_what_drops_is_made_first_and_the_rule_last() -> None:
    """A packet never meets a table that has no answer."""
    backstop, way, rule = pieces(4, 3, 7, IPv4Address("10.9.0.1"))
    assert backstop == Way(4, 3, BACKSTOP)
    assert way == Way(4, 3, WAY, 7, IPv4Address("10.9.0.1"))
    assert rule == MarkRule(4, 3, PRIORITY, table=STEER + 3)
    assert pieces(4, 3, None, None) == (backstop, rule)
    assert (create(rule, 0).type, remove(rule).type) == (RTM_NEWRULE, RTM_DELRULE)


@pytest.mark.parametrize(
    ("mark", "proto", "ours"),
    [
        (STEER + 1, PROTO_BOX, True),
        (STEER, PROTO_BOX, False),
        (STEER + STEERS + 1, PROTO_BOX, False),
        (STEER + 1, 0, False),
    ],
)
def test_a_rule_is_ours_by_mark_and_protocol(mark: int, proto: int, ours: bool) -> None:
    """One that is ours and not as we make it is not plain."""
    header = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 0, 0, 0, 1, 0)
    found = read_rule(memoryview(header + u32(FRA_FWMARK, mark) + u8(FRA_PROTOCOL, proto) + u32(1, 9)))
    assert (found is not None) == ours
    assert found is None or not found.plain
