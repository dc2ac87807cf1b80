"""Flows as people write them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.describe import flow
from appliance.model.errors import OperatorError
from appliance.model.facts import Address, FlowKey
from appliance.model.flow_text import either_way, parse_flow, turned


def key(source: str, sport: int, destination: str, dport: int, protocol: int, zone: int = 0) -> FlowKey:
    """Write a key short."""
    return FlowKey(ip_address(source), sport, ip_address(destination), dport, protocol, zone)


READ = {
    "tcp 10.0.0.1:40000 > 10.0.0.2:80": key("10.0.0.1", 40000, "10.0.0.2", 80, 6),
    "  UDP   10.0.0.1:5 >  10.0.0.2:53 ": key("10.0.0.1", 5, "10.0.0.2", 53, 17),
    "udp [fd00::1]:5 > [fd00::2]:53": key("fd00::1", 5, "fd00::2", 53, 17),
    "icmp 10.0.0.1:77 > 10.0.0.2": key("10.0.0.1", 77, "10.0.0.2", 8 << 8, 1),
    "icmp 10.0.0.1:77 > 10.0.0.2:0": key("10.0.0.1", 77, "10.0.0.2", 0, 1),
    "icmp [fd00::1]:77 > fd00::2": key("fd00::1", 77, "fd00::2", 128 << 8, 58),
    "47 10.0.0.1 > 10.0.0.2": key("10.0.0.1", 0, "10.0.0.2", 0, 47),
}


@pytest.mark.parametrize("text", READ)
def test_a_flow_is_read_as_it_is_written(text: str) -> None:
    """In the zone that is asked about."""
    assert parse_flow(text) == READ[text]
    assert parse_flow(text, 1101).zone == 1101


addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
)
ports = st.integers(0, 65535)


@given(addresses, ports, ports, st.integers(0, 255))
def test_what_is_shown_can_be_written(ends: tuple[Address, Address], sport: int, dport: int, protocol: int) -> None:
    """Copied from a table into a command, of every protocol and family."""
    if protocol in {1, 58}:
        protocol = 1 if ends[0].version == 4 else 58
        dport = ({1: (8, 0), 58: (128, 129)}[protocol][dport % 2]) << 8
    shown = FlowKey(ends[0], sport, ends[1], dport, protocol)
    assert parse_flow(flow(shown)) == shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not PROTOCOL SOURCE > DESTINATION"),
        ("tcp 10.0.0.1:1", "it is not PROTOCOL SOURCE > DESTINATION"),
        ("tcp 10.0.0.1:1 - 10.0.0.2:2", "it is not PROTOCOL SOURCE > DESTINATION"),
        ("tcp 10.0.0.1:1 > [fd00::1]:2", "one address is IPv4, the other IPv6"),
        ("tcp 10.0.0.1 > 10.0.0.2:2", "tcp needs a port at both ends"),
        ("tcp 10.0.0.1:1 > 10.0.0.2", "tcp needs a port at both ends"),
        ("icmp 10.0.0.1 > 10.0.0.2", "the identifier is missing"),
        ("icmp 10.0.0.1:5 > 10.0.0.2:768", "messages of ICMP type 3 belong to the flow that they are about"),
        ("tpc 10.0.0.1:1 > 10.0.0.2:2", "tpc is no protocol"),
        ("256 10.0.0.1:1 > 10.0.0.2:2", "256 is no protocol"),
        ("tcp 10.0.0.1:65536 > 10.0.0.2:2", "10.0.0.1:65536 is no ADDRESS:PORT"),
        ("tcp 10.0.0:1 > 10.0.0.2:2", "10.0.0:1 holds no IP address"),
        ("tcp [10.0.0.1]:1 > 10.0.0.2:2", "stands in brackets"),
        ("tcp r1:1 > 10.0.0.2:2", "r1:1 holds no IP address"),
    ],
)
def test_what_is_no_flow_is_answered_with_the_form(text: str, said: str) -> None:
    """And with the reminder that `>` must be quoted."""
    with pytest.raises(OperatorError) as error:
        parse_flow(text)
    assert said in str(error.value)
    assert "'tcp 10.0.0.1:40000 > 10.0.0.2:80'" in str(error.value)
    assert "shell" in str(error.value)


def test_a_flow_is_seen_from_either_end() -> None:
    """The written tuple comes first."""
    here = READ["tcp 10.0.0.1:40000 > 10.0.0.2:80"]
    assert either_way(here) == (here, key("10.0.0.2", 80, "10.0.0.1", 40000, 6))


@pytest.mark.parametrize(
    ("text", "seen_there"),
    [
        ("icmp 10.0.0.1:77 > 10.0.0.2", "icmp 10.0.0.2:77 > 10.0.0.1"),
        ("icmp [fd00::1]:77 > fd00::2", "icmp [fd00::2]:77 > fd00::1"),
    ],
)
def test_an_echo_is_found_whichever_end_asked(text: str, seen_there: str) -> None:
    """The tuples of its answer have the answer's type; the identifier is the same in both."""
    echo, there = parse_flow(text), parse_flow(seen_there)
    assert set(either_way(echo)) == set(either_way(there))
    assert turned(echo) in either_way(there)
    assert turned(echo).destination_port >> 8 in {0, 129}
    assert turned(turned(echo)) == echo
