from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.nlri import pack
from routing.bgp.values import Family, Network
from routing.engines.prefix_text import packed, unpacked

FOUR = st.builds(lambda a, n: IPv4Network((a, n), strict=False), st.integers(0, (1 << 32) - 1), st.integers(0, 32))
SIX = st.builds(lambda a, n: IPv6Network((a, n), strict=False), st.integers(0, (1 << 128) - 1), st.integers(0, 128))


@given(st.one_of(st.lists(FOUR, min_size=1), st.lists(SIX, min_size=1)))
def test_prefixes_are_written_and_read_as_everybody_does(prefixes: list[Network]) -> None:
    """As `ipaddress` has them, of both families."""
    family, nlri = Family.of(prefixes[0]), pack(prefixes)
    assert [type(prefixes[0])(text) for text in unpacked(nlri, family)] == prefixes
    assert packed(map(str, prefixes), family) == nlri
    assert packed(unpacked(nlri, family), family) == nlri


def test_host_bits_mean_nothing() -> None:
    """RFC 4271 4.3."""
    assert packed(["10.0.0.255/25", "0.0.0.0/0"], Family.IPV4) == bytes.fromhex("190a00008000")
    assert packed(["2001:db8::1/31"], Family.IPV6) == bytes.fromhex("1f20010db8")


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/24", "2001:db8::/32", "x/8", ""])
def test_what_is_no_prefix_of_the_family_is_refused(text: str) -> None:
    """By one error, whatever is wrong."""
    with pytest.raises(ValueError, match=r"."):
        packed(["10.0.0.0/8", text], Family.IPV4)
