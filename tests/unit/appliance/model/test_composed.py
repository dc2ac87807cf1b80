"""The codec of composed destinations: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.composed import FULL, Composed, Kind, decompose

ZONE = IPv6Network("fd00:ed9e::/48")
addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
selectors = st.integers(0, 2**16 - 1)
singles = st.builds(Composed, st.sampled_from(Kind), addresses, selectors)
blocks = st.builds(
    lambda address, power, index: Composed(Kind.SNAT, address, (index << power) & 0xFFFF, 1 << power),
    addresses,
    st.integers(0, 16),
    selectors,
)


@given(st.one_of(singles, blocks))
def test_what_is_composed_decomposes_to_the_same(composed: Composed) -> None:
    """The round trip of the codec, for single selectors and blocks of ports."""
    assert decompose(composed.network(ZONE), ZONE) == composed


@given(st.one_of(singles, blocks))
def test_a_composed_prefix_lies_in_the_zone_and_ends_with_the_selector(composed: Composed) -> None:
    """16 octets of address are prefix, kind, address, selector, zero."""
    network = composed.network(ZONE)
    assert network.subnet_of(ZONE)
    assert network.prefixlen == FULL + 1 - composed.width.bit_length()
    assert int(network.network_address) & 0xFFFF == 0


@given(singles, singles)
def test_two_composed_prefixes_of_one_selector_never_overlap(one: Composed, other: Composed) -> None:
    """Different meanings, different destinations."""
    assert (one == other) == one.network(ZONE).overlaps(other.network(ZONE))


def test_the_layout_is_the_one_of_the_design_note() -> None:
    """The gateway's BPF program writes the same octets."""
    network = Composed(Kind.SNAT, IPv4Address("203.0.113.1"), 11264, 1024).network(ZONE)
    assert network == IPv6Network("fd00:ed9e:0:1:cb00:7101:2c00:0/102")


@pytest.mark.parametrize(
    "text",
    [
        "fd00:ed9f:0:1:cb00:7101:2c00:0/102",  # another zone
        "fd00:ed9e:0:4:cb00:7101:2c00:0/102",  # a kind that is none
        "fd00:ed9e:0:0:cb00:7101:2c00:0/102",
        "fd00:ed9e:0:1:cb00:7100::/95",  # the address is not whole
        "fd00:ed9e:0:1:cb00:7101:2c00:0/113",  # longer than the selector
        "fd00:ed9e:0:2:cb00:7150::/96",  # every node at once
        "fd00:ed9e:0:3:ac10:10b:0:0/111",  # two VPCs at once
        "fd00:ed9e::/48",
        "::/0",
    ],
)
def test_anything_else_means_nothing(text: str) -> None:
    """Other prefixes are routes like any other."""
    assert decompose(IPv6Network(text), ZONE) is None


def test_an_ipv4_prefix_means_nothing() -> None:
    """Best paths of both families are asked about."""
    assert decompose(ip_network("203.0.113.0/24"), ZONE) is None
    assert decompose(IPv4Network("0.0.0.0/0"), ZONE) is None


def test_a_block_that_starts_inside_another_is_no_prefix() -> None:
    """A selector that is no multiple of the width is a bug of the caller, not another prefix."""
    with pytest.raises(ValueError, match="host bits"):
        Composed(Kind.SNAT, IPv4Address("203.0.113.1"), 1000, 1024).network(ZONE)
