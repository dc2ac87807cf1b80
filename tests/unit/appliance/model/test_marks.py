"""Numbers and names that mark what is ours are given out once and refused when there are none left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import marks
from appliance.model.errors import InternalError

SIZES = st.sampled_from([64, 128, 256, 512, 1024, 2048, 4096])
SLOTS = st.sampled_from([4, 8, 16, 32])


@given(SIZES, SLOTS)
def test_the_blocks_of_all_slots_are_disjoint_and_cover_every_usable_port(size: int, slots: int) -> None:
    """Usable are the whole blocks above the reserved ports."""
    ports = [
        port
        for slot in range(slots)
        for start in marks.port_blocks(size, slot, slots)
        for port in range(start, start + size)
    ]
    assert len(ports) == len(set(ports))
    first = -(-marks.FIRST_PORT // size) * size
    assert sorted(ports) == list(range(first, 65536))


@given(SIZES, SLOTS, st.data())
def test_a_block_is_taken_in_ascending_order_and_starts_at_a_multiple_of_its_size(
    size: int, slots: int, data: st.DataObject
) -> None:
    """So that a block is one prefix, and its index means the same after a restart."""
    blocks = marks.port_blocks(size, data.draw(st.integers(0, slots - 1)), slots)
    assert list(blocks) == sorted(blocks)
    assert all(start % size == 0 for start in blocks)


def test_a_slot_may_have_no_block_when_blocks_are_large_and_slots_many() -> None:
    """15 blocks of 4096 above port 1023 do not reach 32 slots; `verify` refuses such a host."""
    assert marks.port_blocks(4096, 0, 32) == ()
    assert marks.port_blocks(4096, 20, 32) == ()
    assert marks.port_blocks(4096, 1, 32) == (4096,)


@pytest.mark.parametrize(("vpc", "zone"), [(1, 1001), (60_000, 61_000)])
def test_the_conntrack_zone_of_a_vpc_fits_into_16_bits(vpc: int, zone: int) -> None:
    """At both ends of the range."""
    assert marks.vpc_zone(vpc) == zone < 1 << 16


@pytest.mark.parametrize("vpc", [0, -1, 60_001])
def test_a_vpc_id_out_of_range_is_refused_and_never_wrapped(vpc: int) -> None:
    """A wrapped zone would mix two tenants' flows."""
    with pytest.raises(InternalError, match="outside"):
        marks.vpc_zone(vpc)


def test_a_device_name_has_at_most_15_octets() -> None:
    """IFNAMSIZ; a cut name would be another VPC's."""
    assert marks.device("ew-v", marks.VPC_IDS) == "ew-v60000"
    with pytest.raises(InternalError, match="longer than 15"):
        marks.device("much-too-long-", 60_000)


def test_the_devices_we_make_carry_the_reserved_prefix() -> None:
    """An intent cannot name them."""
    assert all(name.startswith(marks.DEVICE_PREFIX) for name in (marks.COMPOSE_IN, marks.COMPOSE_OUT))


def test_the_namespace_of_a_vpc_follows_from_its_name() -> None:
    """On every host."""
    assert marks.vpc_namespace("red") == "vpc-red"


def test_next_hop_ids_of_compile_and_bgp_do_not_meet() -> None:
    """Either side may allocate without asking the other."""
    assert 0 < marks.BOX_NH < marks.BGP_NH < marks.NH_END < 1 << 32


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_mac_is_local_unicast_and_depends_on_its_parts_alone(parts: list[str]) -> None:
    """Equal on every node and after every restart."""
    mac = marks.stable_mac(*parts)
    first = int(mac.split(":")[0], 16)
    assert (first & 0b11, len(mac.split(":"))) == (0b10, 6)
    assert mac == marks.stable_mac(*parts)


def test_parts_of_a_mac_do_not_run_into_each_other() -> None:
    """("ab", "c") is not ("a", "bc")."""
    assert marks.stable_mac("ab", "c") != marks.stable_mac("a", "bc")
