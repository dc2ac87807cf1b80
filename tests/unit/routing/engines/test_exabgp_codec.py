from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest

from routing.bgp.attributes import encode
from routing.bgp.nlri import pack
from routing.bgp.session import Established
from routing.bgp.values import Attributes, Family, Neighbor, Origin, Segment, SegmentType, UnknownAttribute
from routing.engines import exabgp_codec as codec
from routing.engines.engine import SessionState
from routing.engines.exabgp_messages import (
    Answered,
    Down,
    EndOfTable,
    Message,
    Numbered,
    Opened,
    Refresh,
    Refused,
    Reloaded,
    State,
    Up,
    Update,
)

PEER = IPv4Address("192.0.2.2")
HOP = IPv4Address("192.0.2.3")
ONE = pack([ip_network("10.0.0.0/24")])
TWO = pack([ip_network("10.0.0.0/24"), ip_network("10.0.1.0/24")])


def line(kind: str, **body: Any) -> str:
    """Write a line as ExaBGP 5.0.15 does."""
    head = {"exabgp": "5.0.0", "time": 1.5, "host": "h", "pid": 1, "ppid": 1, "counter": 9, "type": kind}
    neighbor = {"address": {"local": "192.0.2.1", "peer": str(PEER)}, "asn": {"local": 65000, "peer": 65001}}
    return json.dumps({**head, "neighbor": {**neighbor, "direction": "receive", **body}})


CAPABILITIES = {
    "1": {"name": "multiprotocol", "families": ["ipv4/unicast", "ipv6/unicast", "ipv4/flow"]},
    "5": {"name": "nexthop", "conversion": ["ipv4/unicast/ipv6"]},
    "64": {"time": 120, "address-family-flags": {"ipv4/unicast": ["restart"], "ipv6/unicast": []}, "restart-flags": []},
}
FULL = {
    "origin": "egp",
    "as-path": {
        "0": {"element": "as-sequence", "value": [65001, 4200000000]},
        "1": {"element": "as-set", "value": [7, 8]},
    },
    "med": 0,
    "local-preference": 200,
    "atomic-aggregate": True,
    "aggregator": "65001:192.0.2.9",
    "community": [[1, 2], [65535, 65281]],
    "large-community": [[1, 2, 4294967295]],
    "extended-community": [{"value": 842122827661315, "string": "target:65000:3"}],
    "originator-id": "10.0.0.1",
    "cluster-list": ["10.0.0.2", "10.0.0.3"],
    "attribute-0x63-0xE0": "0x0102",
    "aigp": "0x000000000000000a",
}
ATTRIBUTES = Attributes(
    next_hop=HOP,
    origin=Origin.EGP,
    as_path=(Segment(SegmentType.SEQUENCE, (65001, 4200000000)), Segment(SegmentType.SET, (7, 8))),
    med=0,
    local_pref=200,
    atomic_aggregate=True,
    aggregator=(65001, IPv4Address("192.0.2.9")),
    communities=((1, 2), (65535, 65281)),
    large_communities=((1, 2, 4294967295),),
    extended_communities=(bytes.fromhex("0002fde800000003"),),
    originator_id=IPv4Address("10.0.0.1"),
    cluster_list=(IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")),
    unknown=(UnknownAttribute(0xE0, 0x63, b"\x01\x02"),),
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("done\n", Answered(done=True)),
        ("error", Answered(done=False)),
        ("no json", None),
        ("[]", None),
        (line("keepalive"), None),
        ('{"type": "notification", "notification": "shutdown"}', None),
        ('{"type": "session", "address": "2001:db8::1", "number": 7}', Numbered(IPv6Address("2001:db8::1"), 7)),
        ('{"type": "reloaded", "error": "line 3"}', Reloaded("line 3")),
        ('{"type": "refused", "command": "@x", "error": "e"}', Refused("@x", "e")),
        (line("fsm", state="OPENSENT"), State(PEER, SessionState.OPENSENT)),
        (line("state", state="connected"), None),
        (line("state", state="up"), Up(PEER, IPv4Address("192.0.2.1"))),
        (line("state", state="down", reason="r"), Down(PEER, "r")),
        (
            line("refresh", **{"route-refresh": {"afi": "ipv6", "safi": "unicast", "subtype": "request"}}),
            Refresh(PEER, Family.IPV6),
        ),
        (line("update", message={"eor": {"afi": "ipv4", "safi": "unicast"}}), EndOfTable(PEER, Family.IPV4)),
        (line("update", message={"eor": {"afi": "ipv4", "safi": "flow"}}), None),
    ],
)
def test_lines_are_read(text: str, message: Message | None) -> None:
    """Everything ExaBGP says that matters to us, and some that does not."""
    assert codec.parse(text) == message


def test_an_open_tells_what_the_neighbour_can() -> None:
    """Families, next hops of RFC 8950, restart time and what was preserved."""
    text = line("open", open={"version": 4, "asn": 65001, "router_id": "10.0.0.9", "capabilities": CAPABILITIES})
    restart = {Family.IPV4: True, Family.IPV6: False}
    assert codec.parse(text) == Opened(PEER, IPv4Address("10.0.0.9"), frozenset(Family), True, 120, restart)
    bare = line("open", open={"router_id": "10.0.0.9", "capabilities": {}})
    expected = Opened(PEER, IPv4Address("10.0.0.9"), frozenset({Family.IPV4}), False, None, {})
    assert codec.parse(bare) == expected


def test_an_update_is_read_with_every_attribute() -> None:
    """By next hop; families that we do not carry are left out."""
    announced = {"ipv4 unicast": {str(HOP): ["10.0.0.0/24", "10.0.1.0/24"]}, "ipv4 flow": {"no-nexthop": []}}
    body = {"update": {"attribute": FULL, "announce": announced, "withdraw": {"ipv6 unicast": ["2001:db8::/32"]}}}
    withdrawn = ((Family.IPV6, pack([ip_network("2001:db8::/32")])),)
    assert codec.parse(line("update", message=body)) == Update(PEER, ((Family.IPV4, ATTRIBUTES, TWO),), withdrawn)


def test_a_link_local_next_hop_beside_a_global_one_is_dropped() -> None:
    """ExaBGP gives the prefixes twice; alone, a link-local next hop is all there is."""
    both = {"ipv6 unicast": {"2001:db8::2": ["2001:db8:1::/48"], "fe80::1": ["2001:db8:1::/48"]}}
    message = codec.parse(line("update", message={"update": {"attribute": {"origin": "igp"}, "announce": both}}))
    assert isinstance(message, Update)
    assert [found.next_hop for _, found, _ in message.announced] == [ip_address("2001:db8::2")]
    alone = {"ipv6 unicast": {"fe80::1": ["2001:db8:1::/48"]}}
    message = codec.parse(line("update", message={"update": {"attribute": {"origin": "igp"}, "announce": alone}}))
    assert isinstance(message, Update)
    assert [found.next_hop for _, found, _ in message.announced] == [ip_address("fe80::1")]


def test_what_is_treated_as_withdrawn_is_told_apart() -> None:
    """RFC 7606: ExaBGP marks the attributes with an error."""
    body = {"update": {"attribute": {"error": "treat-as-withdraw"}, "withdraw": {"ipv4 unicast": ["10.0.0.0/24"]}}}
    assert codec.parse(line("update", message=body)) == Update(PEER, malformed=((Family.IPV4, ONE),))


@pytest.mark.parametrize(("hop", "asn"), [("192.0.2.3", 0), ("0.0.0.0", 7), ("127.0.0.1", 7), ("224.0.0.1", 7)])
def test_what_exabgp_lets_through_is_malformed_all_the_same(hop: str, asn: int) -> None:
    """AS 0 (RFC 7607), and a next hop that is nobody's address (RFC 4271 6.3)."""
    path = {"0": {"element": "as-sequence", "value": [65001, asn]}}
    body = {"update": {"attribute": {"as-path": path}, "announce": {"ipv4 unicast": {hop: ["10.0.0.0/24"]}}}}
    assert codec.parse(line("update", message=body)) == Update(PEER, malformed=((Family.IPV4, ONE),))


def test_what_does_not_cross_the_border_is_dropped_on_the_way_in() -> None:
    """LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST of eBGP; unknown non-transitive attributes of anybody."""
    full = replace(ATTRIBUTES, unknown=(*ATTRIBUTES.unknown, UnknownAttribute(0x80, 98, b"x")))
    assert codec.imported(full, internal=True) == ATTRIBUTES
    outside = replace(ATTRIBUTES, local_pref=None, originator_id=None, cluster_list=())
    assert codec.imported(full, internal=False) == outside


def test_two_opens_agree_on_what_both_have() -> None:
    """And on nothing that we did not offer."""
    opened = codec.parse(line("open", open={"router_id": "10.0.0.9", "capabilities": CAPABILITIES}))
    assert isinstance(opened, Opened)
    local = IPv4Address("192.0.2.1")
    neighbor = Neighbor("n", 65001, PEER, families=(Family.IPV4,), extended_next_hop=True)
    agreed = Established(
        router_id=IPv4Address("10.0.0.9"),
        local_address=local,
        families=frozenset({Family.IPV4}),
        extended_next_hop=True,
        restart_time=120,
        kept=frozenset(Family),
        preserved=frozenset({Family.IPV4}),
    )
    assert codec.established(neighbor, opened, local, tuple(Family)) == agreed
    without = Neighbor("n", 65001, PEER, families=(Family.IPV4,), restart_time=0)
    plain = codec.established(without, opened, local, (Family.IPV4,))
    assert (plain.restart_time, plain.kept, plain.extended_next_hop) == (None, frozenset(), False)


def test_an_announcement_is_written_with_every_attribute() -> None:
    """Numbers of sessions, attributes, prefixes; communities as octets."""
    (command,) = codec.announce([3, 4], Family.IPV4, encode(ATTRIBUTES, Family.IPV4), TWO)
    assert command == (
        "@announce 3,4 next-hop 192.0.2.3 origin egp as-path [ 65001 4200000000 ] ( 7 8 ) med 0 local-preference 200 "
        "atomic-aggregate aggregator ( 65001:192.0.2.9 ) attribute [ 0x08 0xc0 0x00010002ffffff01 ] "
        "attribute [ 0x09 0x80 0x0a000001 ] attribute [ 0x0a 0x80 0x0a0000020a000003 ] "
        "attribute [ 0x10 0xc0 0x0002fde800000003 ] attribute [ 0x20 0xc0 0x0000000100000002ffffffff ] "
        "attribute [ 0x63 0xe0 0x0102 ] ; 10.0.0.0/24 10.0.1.0/24"
    )
    (bare,) = codec.announce([1], Family.IPV4, encode(Attributes(next_hop=HOP), Family.IPV4), ONE)
    assert bare == "@announce 1 next-hop 192.0.2.3 origin igp as-path [ ] ; 10.0.0.0/24"
    six = Attributes(IPv6Address("2001:db8::1"), communities=((1, 2),) * 64)
    (long,) = codec.announce([1], Family.IPV6, encode(six, Family.IPV6), pack([ip_network("2001:db8:1::/48")]))
    octets = "00010002" * 64
    assert long == (
        f"@announce 1 next-hop 2001:db8::1 origin igp as-path [ ] attribute [ 0x08 0xc0 0x{octets} ] ; 2001:db8:1::/48"
    )


def test_long_lists_are_written_in_several_commands() -> None:
    """Every session is told every prefix once."""
    prefixes = [ip_network((0x0A000000 + (n << 8), 24)) for n in range(1201)]
    commands = list(codec.withdraw(range(700), Family.IPV4, pack(prefixes)))
    assert len(commands) == 6
    told = [(number, prefix) for c in commands for number in _sessions(c) for prefix in c.partition(" ; ")[2].split()]
    assert len(told) == len(set(told)) == 700 * 1201
    assert codec.end_of_rib(5, Family.IPV6) == "@eor 5 6"


def _sessions(command: str) -> list[str]:
    return command.split()[1].split(",")
