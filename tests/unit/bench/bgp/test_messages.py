from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest

from bench.bgp import messages
from bench.bgp.exchange import client
from bench.bgp.inbox import Recorder
from bench.bgp.messages import Path
from bench.bgp.tables import Space
from routing.bgp.values import Address, Family

HOP: dict[Family, Address] = {Family.IPV4: IPv4Address("10.255.1.0"), Family.IPV6: IPv6Address("fd00:255::1:0")}


def lengths(octets: bytes) -> list[int]:
    """Return the lengths of messages that follow each other."""
    found = []
    while octets:
        assert octets.startswith(b"\xff" * 16)
        found.append(int.from_bytes(octets[16:18], "big"))
        octets = octets[found[-1] :]
    return found


@pytest.mark.parametrize("family", Family)
def test_announcements_are_as_full_as_messages_may_be(family: Family) -> None:
    """RFC 4271 4: at most 4096 octets; no room for one more prefix is left but in the last."""
    prefixes = Space(family).take(3000)
    sizes = lengths(messages.announcements(Path((1, 2), HOP[family]), prefixes))
    assert max(sizes) <= 4096
    assert all(size + len(prefixes[0]) > 4096 for size in sizes[:-1])


@pytest.mark.parametrize("family", Family)
def test_what_is_announced_and_withdrawn_is_read_back(family: Family) -> None:
    """The other end finds every prefix once, with the attributes, and then none."""
    prefixes = Space(family).take(2000)
    box = Recorder()
    box.feed(messages.announcements(Path((1, 2), HOP[family], med=7), prefixes), 1.0)
    assert list(box.held) == prefixes
    assert box.announced == sum(map(len, prefixes))
    box.feed(messages.withdrawals(family, prefixes), 2.0)
    assert not box.held
    assert box.withdrawn == box.announced


@pytest.mark.parametrize("family", Family)
def test_an_end_of_rib_says_nothing_of_prefixes(family: Family) -> None:
    """RFC 4724 2."""
    box = Recorder()
    box.feed(messages.end_of_rib(family), 1.0)
    assert (box.updates, box.announced, box.withdrawn) == (1, 0, 0)


@pytest.mark.parametrize("text", ["16.0.0.0/8", "16.2.0.0/15", "16.1.2.0/24", "10.0.0.1/32"])
def test_a_prefix_has_only_the_octets_it_needs(text: str) -> None:
    """RFC 4271 4.3."""
    encoded = messages.nlri(ip_network(text))
    assert len(encoded) == 1 + (IPv4Network(text).prefixlen + 7) // 8
    assert messages.network(Family.IPV4, encoded) == ip_network(text)


def test_a_client_with_a_large_number_opens_as_as_trans() -> None:
    """RFC 6793 4.2.3: two octets hold 23456, the capability holds the number."""
    one = client(3, Family.IPV4)
    octets = messages.opening(one, Family.IPV4)
    assert lengths(octets) == [len(octets)]
    assert octets[20:22] == (23456).to_bytes(2, "big")
    assert octets.endswith(bytes([65, 4]) + one.asn.to_bytes(4, "big"))


def test_long_attributes_have_extended_lengths() -> None:
    """RFC 4271 4.3: more than 255 octets."""
    octets = Path(tuple(range(1, 101)), HOP[Family.IPV4]).attributes()
    assert octets[4:6] == bytes([0x50, messages.AS_PATH])
