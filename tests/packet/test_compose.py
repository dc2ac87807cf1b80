"""Composed destinations, packet by packet (design 0003): what goes in, the verdict, what comes out."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from appliance.kernel.compose_table import SLOTS, slots
from appliance.model.composed import Kind
from tests.packet.composing import DROP, ETHERNET, PASS, Composer

pytestmark = pytest.mark.kernel

CLIENT, NAT, VIP = "198.51.100.2", "203.0.113.1", "203.0.113.7"
TO_NAT, TO_VIP = IP(src=CLIENT, dst=NAT), IP(src=CLIENT, dst=VIP)
ERRORS = (3, 4, 5, 11, 12)


@pytest.fixture(autouse=True)
def _without_members(composer: Composer) -> None:
    """Start each test without members."""
    composer.configure({})


def members(composer: Composer, *ids: int) -> None:
    """Have nodes serve the VIP."""
    composer.configure({IPv4Address(VIP): ids})


# -- kind 1: by port --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "selector"),
    [
        (TCP(sport=80, dport=4097), 4097),
        (UDP(sport=53, dport=65535) / b"answer", 65535),
        (SCTP(sport=9, dport=5000), 5000),
        (Raw(bytes.fromhex("00091389") + bytes(12)), 5001),
        (ICMP(type=0, id=777) / b"pong", 777),
        (ICMP(type=8, id=778) / b"ping", 778),
        (ICMP(type=14, id=779), 0),
        (Raw(b"\0\0\x08\x00gre"), 0),
    ],
    ids=["TCP", "UDP", "SCTP", "DCCP", "echo reply", "echo request", "timestamp", "GRE"],
)
def test_the_selector_is_what_the_host_knows_the_flow_by(composer: Composer, payload: Packet, selector: int) -> None:
    """Destination port, or identifier of an echo; nothing else has one."""
    number = 33 if selector == 5001 else 47 if payload.name == "Raw" else None
    packet = TO_NAT.copy()
    if number is not None:
        packet.proto = number
    made = composer.compose(packet / payload)
    assert (made.kind, made.address, made.selector) == (Kind.SNAT, IPv4Address(NAT), selector)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(
    ("sent", "selector"),
    [
        (TCP(sport=4097, dport=80), 4097),
        (UDP(sport=4098, dport=53) / b"query", 4098),
        (ICMP(type=8, id=4099), 4099),
        (ICMP(type=13, id=4099), 0),
    ],
    ids=["TCP", "UDP", "echo", "timestamp"],
)
def test_an_icmp_error_goes_where_its_flow_is_known(composer: Composer, kind: int, sent: Packet, selector: int) -> None:
    """It carries what we sent, so our port is the source; who tells does not matter."""
    error = IP(src="192.0.2.99", dst=NAT) / ICMP(type=kind) / IP(src=NAT, dst=CLIENT) / sent
    made = composer.compose(error)
    assert (made.kind, made.address, made.selector) == (Kind.SNAT, IPv4Address(NAT), selector)


def test_an_icmp_error_with_eight_octets_of_its_flow_is_enough(composer: Composer) -> None:
    """RFC 792 asks for no more, also behind options."""
    carried = IP(src=NAT, dst=CLIENT, options=[IPOption_RR()]) / UDP(sport=4100, dport=53)
    short = bytes(carried)[: carried.__class__(bytes(carried)).ihl * 4 + 8]
    assert composer.compose(IP(src=CLIENT, dst=NAT) / ICMP(type=3, code=3) / Raw(short)).selector == 4100


@pytest.mark.parametrize(
    "carried",
    [
        IP(src="192.0.2.66", dst=CLIENT) / UDP(sport=4100, dport=53),
        IP(src=NAT, dst=CLIENT, frag=5) / Raw(b"\x10\x04ports?.."),
    ],
    ids=["of somebody else", "a later fragment"],
)
def test_an_icmp_error_about_no_flow_of_ours_names_no_port(composer: Composer, carried: Packet) -> None:
    """What looks like a port there is none."""
    assert composer.compose(TO_NAT / ICMP(type=3, code=3) / carried).selector == 0


def test_only_the_first_fragment_has_a_port(composer: Composer) -> None:
    """Later ones start with payload."""
    first = TO_NAT.copy()
    first.flags = "MF"
    assert composer.compose(first / UDP(sport=53, dport=4098) / Raw(bytes(32))).selector == 4098
    later = TO_NAT.copy()
    later.frag, later.proto = 5, 17
    assert composer.compose(later / Raw(b"\x12\x34\x56\x78" * 8)).selector == 0


@pytest.mark.parametrize("options", [1, 4, 40])
def test_options_are_stepped_over(composer: Composer, options: int) -> None:
    """A header has up to 60 octets."""
    packet = IP(src=CLIENT, dst=NAT, options=[IPOption_NOP()] * options) / TCP(sport=80, dport=4101)
    assert composer.compose(packet).selector == 4101


# -- the outer header -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tos", [0, 1, 2, 3, 0x2E << 2, 0xFF])
def test_traffic_class_and_ecn_are_copied(composer: Composer, tos: int) -> None:
    """RFC 2473 and RFC 6040."""
    packet = IP(src=CLIENT, dst=NAT, tos=tos) / TCP(sport=80, dport=4097)
    made = composer.compose(packet)
    assert made.outer.tc == tos


def test_the_flow_label_is_one_per_flow(composer: Composer) -> None:
    """RFC 6438: routers on the way spread flows by it."""
    flows = [TO_NAT / TCP(sport=port, dport=4097) for port in range(1000, 1060)]
    labels = [composer.compose(flow).outer.fl for flow in flows]
    assert labels == [composer.compose(flow / b"more of it").outer.fl for flow in flows]
    assert len(set(labels)) > 55
    assert all(0 <= label < 1 << 20 for label in labels)


def test_padding_is_not_payload(composer: Composer) -> None:
    """Ethernet pads short frames; the outer length tells where the packet ends."""
    frame = bytes(ETHERNET / TO_NAT / TCP(sport=80, dport=4097))
    verdict, out = composer.run(frame.ljust(60, b"\0"))
    assert (verdict, Ether(out)[IPv6].plen) == (PASS, 40)


# -- what is let alone, what is dropped -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        ETHERNET / IPv6(src="fd00::2", dst="fd00::3") / TCP(),
        ETHERNET / ARP(),
        ETHERNET / IP(src=CLIENT, dst="224.0.0.251") / UDP(),
        ETHERNET / IP(src=CLIENT, dst="255.255.255.255") / UDP(),
        Ether(type=0x88CC) / Raw(b"lldp"),
    ],
    ids=["IPv6", "ARP", "multicast", "broadcast", "LLDP"],
)
def test_what_is_not_routed_ipv4_goes_on_untouched(composer: Composer, other: Packet) -> None:
    """The device has a life of its own."""
    sent = bytes(other)
    assert composer.run(sent) == (PASS, sent)


@pytest.mark.parametrize("length", range(14 + 20, 14 + 20 + 20))
def test_a_packet_that_is_cut_short_is_dropped(composer: Composer, length: int) -> None:
    """It says it is longer than it is; less than an IPv4 header cannot be tested this way."""
    assert composer.run(bytes(ETHERNET / TO_NAT / TCP(sport=80, dport=4097))[:length])[0] == DROP


@pytest.mark.parametrize(
    "packet",
    [
        IP(src=CLIENT, dst=NAT, proto=6) / Raw(b"\x10\x01\x10"),
        IP(src=CLIENT, dst=NAT, proto=17),
        IP(src=CLIENT, dst=NAT, proto=1) / Raw(b"\x08\0\0\0"),
        TO_NAT / ICMP(type=3) / Raw(b"\x45"),
        TO_NAT / ICMP(type=3) / Raw(bytes(IP(src=NAT, dst=CLIENT, proto=6)) + b"\x10\x01"),
        TO_NAT / ICMP(type=3) / Raw(b"\x44" + bytes(40)),
        TO_NAT / ICMP(type=3) / Raw(b"\x65" + bytes(40)),
        IP(src=CLIENT, dst=NAT, version=5) / TCP(),
        IP(src=CLIENT, dst=NAT, ihl=4) / TCP(),
        IP(src=CLIENT, dst=NAT, len=19) / TCP(),
        IP(src=CLIENT, dst=NAT, len=41) / TCP(),
        IP(src=CLIENT, dst=NAT, ihl=15) / TCP(),
    ],
    ids=[
        "half a port",
        "no ports",
        "half an echo",
        "error about nothing",
        "error about half a port",
        "error about a bad header",
        "error about IPv6",
        "version 5",
        "header of 16",
        "shorter than its header",
        "longer than the frame",
        "options that are not there",
    ],
)
def test_a_malformed_packet_is_dropped(composer: Composer, packet: Packet) -> None:
    """A router would have dropped it; nothing is guessed about it."""
    assert composer.run(bytes(ETHERNET / packet))[0] == DROP


@given(st.binary(min_size=20, max_size=120), st.booleans())
def test_no_octets_make_it_stumble(composer: Composer, octets: bytes, vip: bool) -> None:
    """Whatever comes is passed or dropped, and what is composed is an IPv6 packet around what came."""
    sent = bytes(ETHERNET)[:12] + b"\x08\x00" + octets
    if vip:
        members(composer, 1, 2)
    verdict, out = composer.run(sent)
    assert verdict in (PASS, DROP)
    if verdict == PASS and out != sent:
        assert (out[12:15], out[54:]) == (b"\x86\xdd" + out[14:15], sent[14:])
        assert out[14] >> 4 == 6


# -- kind 2: one of several -------------------------------------------------------------------------------------------


def picked(composer: Composer, frames: list[bytes]) -> list[int]:
    """Return the member that each frame goes to."""
    return [composer.selector(frame, Kind.VIP) for frame in frames]


def frame(packet: Packet) -> bytes:
    """Put a packet into a frame."""
    return bytes(ETHERNET / packet)


def flows(count: int) -> list[bytes]:
    """Return the first frames of as many connections, from a few clients."""
    some = [frame(IP(src=f"198.51.100.{number}", dst=VIP) / TCP(dport=443)) for number in range(5)]
    ports = [(20000 + number).to_bytes(2) for number in range(count)]
    return [some[number % 5][:34] + port + some[number % 5][36:] for number, port in enumerate(ports)]


def test_members_get_flows_as_they_have_slots(composer: Composer) -> None:
    """Hashing is even over the slots, so shares are those of the table."""
    members(composer, 3, 17, 42)
    seen = Counter(picked(composer, flows(4000)))
    table = Counter(slots(IPv4Address(VIP), (3, 17, 42)))
    assert seen.keys() == table.keys()
    for member, share in table.items():
        assert abs(seen[member] / 4000 - share / SLOTS) < 0.03


def test_a_member_that_leaves_moves_only_its_own_flows(composer: Composer) -> None:
    """The rest keep their state."""
    members(composer, 3, 17, 42)
    before = picked(composer, flows(500))
    members(composer, 3, 42)
    after = picked(composer, flows(500))
    assert all(new == old if old != 17 else new in (3, 42) for old, new in zip(before, after, strict=True))
    members(composer, 3, 17, 42)
    assert picked(composer, flows(500)) == before


def test_an_icmp_error_follows_the_flow_that_it_is_about(composer: Composer) -> None:
    """It carries what the member sent: turned round, that is what the client sends."""
    members(composer, *range(1, 9))
    errors, forward = [], []
    for number in range(60):
        port = 30000 + number
        for there, back in (
            (TCP(sport=port, dport=443), TCP(sport=443, dport=port)),
            (UDP(sport=port, dport=443), UDP(sport=443, dport=port)),
            (ICMP(type=8, id=port), ICMP(type=0, id=port)),
        ):
            forward.append(frame(TO_VIP / there))
            error = IP(src="192.0.2.1", dst=VIP) / ICMP(type=3, code=4)
            errors.append(frame(error / IP(src=VIP, dst=CLIENT) / back))
    assert picked(composer, errors) == picked(composer, forward)


def test_the_fragments_of_a_datagram_stay_together(composer: Composer) -> None:
    """Later ones have no ports, so none of them is asked."""
    members(composer, *range(1, 9))
    for number in range(100):
        first = IP(src=f"198.51.100.{number}", dst=VIP, flags="MF", id=number) / UDP(sport=number, dport=53)
        later = IP(src=f"198.51.100.{number}", dst=VIP, frag=9, id=number, proto=17) / Raw(bytes(64))
        one, other = picked(composer, [frame(first / Raw(bytes(64))), frame(later)])
        assert one == other


def test_an_address_whose_members_are_all_gone_means_nobody(composer: Composer) -> None:
    """Kind 2, selector 0: no node announces that, so the sender is told by ICMP that there is no route."""
    members(composer)
    assert set(picked(composer, flows(20))) == {0}


def test_members_of_one_address_are_nothing_to_others(composer: Composer) -> None:
    """The shared address next to it goes by port."""
    members(composer, 1, 2, 3)
    made = composer.compose(TO_NAT / TCP(sport=80, dport=4097))
    assert (made.kind, made.selector) == (Kind.SNAT, 4097)
