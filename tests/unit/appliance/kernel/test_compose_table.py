"""The slots of an address: shared fairly, and stable when members come and go."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.compose_table import SLOTS, slots

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
members = st.sets(st.integers(1, 63), min_size=2, max_size=12)


@given(addresses, members, st.data())
def test_a_member_that_leaves_moves_only_its_own_slots(
    address: IPv4Address, some: set[int], data: st.DataObject
) -> None:
    """And one that comes takes slots only for itself: the same seen backwards."""
    gone = data.draw(st.sampled_from(sorted(some)))
    before, after = slots(address, some), slots(address, some - {gone})
    assert all(old == new for old, new in zip(before, after, strict=True) if old != gone)
    assert gone not in after


@given(addresses, members)
def test_the_order_of_members_does_not_matter(address: IPv4Address, some: set[int]) -> None:
    """Every gateway computes the same table."""
    assert slots(address, sorted(some)) == slots(address, sorted(some, reverse=True))


def test_members_share_evenly_over_many_addresses() -> None:
    """No member is preferred; on one address shares differ by the luck of 64 draws."""
    shares: Counter[int] = Counter()
    for number in range(500):
        shares.update(slots(IPv4Address(number << 8), (1, 2, 3, 4)))
    assert all(abs(share / (500 * SLOTS) - 0.25) < 0.02 for share in shares.values())


def test_nobody_serves_an_address_without_members() -> None:
    """Selector 0 of kind 2 is no node, so such packets have no route."""
    assert slots(IPv4Address("192.0.2.1"), ()) == (0,) * SLOTS
