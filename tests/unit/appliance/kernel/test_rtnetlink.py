"""Bytes of routes and next hops, beside the `ip` command that would send the same."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.netlink import HEADER, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP_INTR, NLM_F_EXCL, messages
from appliance.kernel.rtnetlink import (
    RTM_DELROUTE,
    RTM_NEWROUTE,
    SCOPE_LINK,
    SCOPE_NOWHERE,
    End,
    GroupObject,
    HopObject,
    Run,
    Shape,
    ask_ack,
    hop_version,
    pack_group,
    pack_hop,
    pack_nexthop_id,
    pack_routes,
    unpack_nexthop,
    unpack_routes,
)
from appliance.model.facts import Decapsulate, Hop

CREATE = NLM_F_CREATE | NLM_F_EXCL


def split(packed: bytes | bytearray) -> list[bytes | bytearray]:
    """Return the messages one by one."""
    found = []
    while packed:
        length = HEADER.unpack_from(packed)[0]
        found.append(packed[:length])
        packed = packed[length:]
    return found


def test_an_ipv4_route_to_a_next_hop_object() -> None:
    """As ip route add 192.0.2.0/24 nhid 7 proto 218 metric 2048 scope link mtu lock 1400."""
    shape = Shape(4, 24, 218, 2048, nexthop=7, mtu=1400, scope=SCOPE_LINK)
    assert pack_routes(RTM_NEWROUTE, CREATE, shape, IPv4Address("192.0.2.0").packed, 9).hex(" ", 4) == (
        "48000000 18000106 09000000 00000000"  # length 72, RTM_NEWROUTE, REQUEST|CREATE|EXCL, sequence 9
        " 02180000 fedafd01 00000000"  # AF_INET/24; main, 218, link, unicast
        " 08000100 c0000200"  # RTA_DST
        " 08000600 00080000"  # RTA_PRIORITY
        " 14000880 08000100 04000000 08000200 78050000"  # RTA_METRICS: lock, mtu 1400
        " 08001e00 07000000"  # RTA_NH_ID
    )


def test_an_ipv6_route_to_delete() -> None:
    """As ip route del 2001:db8::/32 proto 217 metric 512."""
    shape = Shape(6, 32, 217, 512, scope=SCOPE_NOWHERE)
    assert pack_routes(RTM_DELROUTE, 0, shape, IPv6Address("2001:db8::").packed, 1).hex(" ", 4) == (
        "38000000 19000100 01000000 00000000 0a200000 fed9ff01 00000000"
        " 14000100 20010db8 00000000 00000000 00000000 08000600 00020000"
    )


def test_many_routes_differ_in_destination_and_sequence_number_alone() -> None:
    """Packing by columns gives what packing one by one would give."""
    for shape, some in (
        (Shape(4, 24, 218, 2048, nexthop=7), [IPv4Address(256 * number).packed for number in range(300)]),
        (Shape(6, 48, 218, 2048, nexthop=7), [IPv6Address(number << 80).packed for number in range(300)]),
    ):
        together = split(pack_routes(RTM_NEWROUTE, CREATE, shape, b"".join(some), 5))
        alone = [pack_routes(RTM_NEWROUTE, CREATE, shape, one, 5 + place) for place, one in enumerate(some)]
        assert together == alone


def test_only_the_last_message_asks_for_an_answer() -> None:
    """NLM_F_ACK stands in the last header, and nothing else changes."""
    packed = pack_routes(RTM_NEWROUTE, CREATE, Shape(4, 24, 218, 2048, nexthop=7), bytes(12), 1)
    asked = packed[:]
    ask_ack(asked)
    flags = [HEADER.unpack_from(message)[2] & NLM_F_ACK for message in split(asked)]
    assert flags == [0, 0, NLM_F_ACK]
    assert [message[16:] for message in split(asked)] == [message[16:] for message in split(packed)]


# -- dumps ------------------------------------------------------------------------------------------------------------


def dumped(routes: list[tuple[IPv4Network | IPv6Network, int, int | None, int]]) -> bytes:
    """Make what a kernel would dump; (destination, group, mtu, metric)."""
    return b"".join(
        pack_routes(
            RTM_NEWROUTE,
            0,
            Shape(network.version, network.prefixlen, 218, metric, nexthop=group, mtu=mtu),
            network.network_address.packed,
            1,
        )
        for network, group, mtu, metric in routes
    )


def told(runs: list[Run | End]) -> list[tuple[IPv4Network | IPv6Network, int, int | None, int]]:
    """Undo `dumped`."""
    return [
        (
            (IPv4Network if run.shape.version == 4 else IPv6Network)((address, length)),
            group,
            run.shape.mtu,
            run.shape.metric,
        )
        for run in runs
        if isinstance(run, Run)
        for address, length, group in zip(run.destinations, run.lengths, run.nexthops, strict=True)
    ]


networks = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda pair: IPv4Network(pair, strict=False)),
    st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(lambda pair: IPv6Network(pair, strict=False)),
)
routes = st.tuples(networks, st.integers(1, 9), st.sampled_from([None, 1280, 1400]), st.sampled_from([512, 2048]))


@given(st.lists(routes, max_size=40))
def test_what_was_packed_is_unpacked(some: list[tuple[IPv4Network | IPv6Network, int, int | None, int]]) -> None:
    """In any order and mixture, nothing is lost and nothing is mixed up."""
    runs = list(unpack_routes(dumped(some), 1))
    assert told(runs) == some
    assert all(isinstance(run, Run) and run.plain and not run.interrupted for run in runs)


def test_routes_of_one_make_are_one_run() -> None:
    """That is what makes reading fast; the end of the dump behind them does no harm."""
    some = [(IPv4Network((number << 8, 24 - number % 2)), 1 + number % 3, None, 2048) for number in range(0, 400, 2)]
    end = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)
    run, last = unpack_routes(dumped(list(some)) + end, 1)
    assert isinstance(run, Run)
    assert len(run.destinations) == 200
    assert last == End(0, interrupted=False)


def test_what_belongs_to_another_request_is_passed_over() -> None:
    """Sequence numbers tell: an answer that came too late is no route."""
    assert list(unpack_routes(dumped([(IPv4Network("10.0.0.0/8"), 1, None, 512)]), 2)) == []


def test_an_interrupted_dump_says_so() -> None:
    """NLM_F_DUMP_INTR on any message spoils the dump."""
    packed = bytearray(dumped([(IPv4Network("10.0.0.0/8"), 1, None, 512)] * 2))
    struct.pack_into("=H", packed, len(packed) // 2 + 6, NLM_F_DUMP_INTR)
    assert [run.interrupted for run in unpack_routes(bytes(packed), 1)] == [False, True]


def test_a_failed_dump_ends_with_its_errno() -> None:
    """The kernel counts errors downwards from zero."""
    assert list(unpack_routes(struct.pack("=IHHIIi", 20, 3, 2, 1, 0, -22), 1)) == [End(22, interrupted=False)]


def test_a_default_route_needs_no_destination() -> None:
    """The kernel leaves RTA_DST out of 0.0.0.0/0."""
    whole = dumped([(IPv4Network("0.0.0.0/0"), 3, None, 512)])
    without = struct.pack("=I", len(whole) - 8) + whole[4:28] + whole[36:]
    assert told(list(unpack_routes(without, 1))) == [(IPv4Network("0.0.0.0/0"), 3, None, 512)]


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (Shape(4, 24, 218, 2048), "no next-hop object"),
        (Shape(4, 24, 218, 2048, nexthop=1, tos=16), "a type of service"),
        (Shape(4, 24, 218, 2048, nexthop=1, kind=6), "a blackhole"),
    ],
)
def test_what_we_would_not_make_is_not_plain(shape: Shape, what: str) -> None:
    """So that the caller can tell and replace it."""
    (run,) = unpack_routes(bytes(pack_routes(RTM_NEWROUTE, 0, shape, bytes(4), 1)), 1)
    assert isinstance(run, Run)
    assert not run.plain, what


# -- next-hop objects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        HopObject(7, 218, 4, 3, IPv4Address("192.0.2.1")),
        HopObject(7, 218, 6, 3, IPv6Address("fe80::1")),
        HopObject(7, 217, 4, 3),
        HopObject(7, 217, 6, 3, None, Decapsulate(IPv4Address("192.0.2.9"))),
        HopObject(7, 217, 6, 3, IPv6Address("fe80::1"), Decapsulate(IPv4Address("192.0.2.9"))),
    ],
)
def test_a_hop_object_survives_the_wire(made: HopObject) -> None:
    """What is sent is what a dump gives back."""
    assert unpack_nexthop(memoryview(pack_hop(made))) == made


def test_a_hop_that_decapsulates() -> None:
    """As ip -6 nexthop add id 7 encap seg6local action End.DX4 nh4 192.0.2.9 dev (3) proto 217."""
    made = HopObject(7, 217, 6, 3, None, Decapsulate(IPv4Address("192.0.2.9")))
    assert pack_hop(made).hex(" ", 4) == (
        "0a00d900 00000000 08000100 07000000 08000500 03000000"  # id, device
        " 06000700 07000000 14000880 08000100 06000000 08000400 c0000209"  # seg6local: End.DX4, nh4
    )


def test_a_group_survives_the_wire_in_order() -> None:
    """As ip nexthop add id 9 group 8/7 proto 218."""
    made = GroupObject(9, 218, (8, 7))
    assert unpack_nexthop(memoryview(pack_group(made))) == made


def test_objects_of_other_kinds_are_nothing() -> None:
    """A blackhole has no device."""
    assert unpack_nexthop(memoryview(pack_nexthop_id(4))) is None


@pytest.mark.parametrize(
    ("hop", "of_routes", "version"),
    [
        (Hop("a0"), 4, 4),
        (Hop("a0"), 6, 6),
        (Hop("a0", IPv6Address("fe80::1")), 4, 6),
        (Hop("a0", IPv4Address("192.0.2.1")), 4, 4),
        (Hop("a0", None, Decapsulate(IPv4Address("192.0.2.1"))), 6, 6),
    ],
)
def test_the_version_of_a_hop(hop: Hop, of_routes: int, version: int) -> None:
    """A gateway's version counts; RFC 8950 lets an IPv4 route have an IPv6 one."""
    assert hop_version(hop, of_routes) == version


def test_packed_routes_are_messages_like_others() -> None:
    """The general decoder agrees on where each begins and ends."""
    packed = pack_routes(RTM_NEWROUTE, CREATE, Shape(6, 48, 218, 2048, nexthop=7, mtu=1400), bytes(32), 3)
    assert [(kind, sequence) for kind, _, sequence, _ in messages(bytes(packed))] == [
        (RTM_NEWROUTE, 3),
        (RTM_NEWROUTE, 4),
    ]
