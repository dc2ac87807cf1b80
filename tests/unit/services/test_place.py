"""Names and addresses of an edge: distinct for every VPC, and such as the kernel takes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from appliance.model.marks import NODE_IDS, VPC_IDS
from services.place import OVERLAY_LENGTH, Place, overlay_address, overlay_mac
from tests.support.intents import intent, one_vpc

vpc_ids = st.integers(1, VPC_IDS)


def place(vpc_id: int = 101, node_id: int = 11, slots: int = 16) -> Place:
    """Return a place with these numbers."""
    return Place("h1", node_id, "red", vpc_id, IPv6Network("fd00:ed9e::/48"), slots)


def addresses(one: Place) -> set[IPv4Address]:
    """Return what a VPC takes in the host's namespace."""
    return {one.host_address, one.uplink_address, one.inward_address}


def test_a_place_is_looked_up_in_the_intent() -> None:
    """Ids of node and VPC, and the zone's numbers."""
    assert Place.of(intent(one_vpc()), "h1", "red") == place()
    assert place().ns == "vpc-red"


@given(vpc_ids, vpc_ids)
def test_two_vpcs_never_share_an_address_or_a_device_of_the_host(one: int, other: int) -> None:
    """All of them meet in the host's namespace."""
    if one != other:
        assert not addresses(place(one)) & addresses(place(other))
        assert place(one).host_end != place(other).host_end


@given(vpc_ids)
def test_the_ends_of_an_uplink_are_one_pair(vpc_id: int) -> None:
    """A /31 (RFC 3021), and the name of the device fits."""
    made = place(vpc_id)
    network = IPv4Interface(f"{made.host_address}/31").network
    assert set(network) == {made.host_address, made.uplink_address}
    assert made.inward_address not in network
    assert len(made.host_end) <= 15


@given(st.integers(1, NODE_IDS))
def test_the_overlay_address_of_every_node_can_be_a_next_hop(node_id: int) -> None:
    """The kernel takes no next hop that is the broadcast address of its subnet."""
    network = IPv4Interface(f"{overlay_address(node_id)}/{OVERLAY_LENGTH}").network
    assert overlay_address(1) in network
    assert overlay_address(node_id) not in (network.network_address, network.broadcast_address)


def test_the_gateway_of_a_vpc_has_one_mac_on_all_hosts_and_overlays_have_one_each() -> None:
    """A moved guest keeps its neighbour entry; a VXLAN device drops frames from its own MAC."""
    other = Place("h2", 12, "red", 101, IPv6Network("fd00:ed9e::/48"), 16)
    assert place().lan_mac == other.lan_mac
    macs = [overlay_mac(node, vpc) for node in ("h1", "h2") for vpc in ("red", "blue")]
    assert len({*macs, place().lan_mac}) == 5


@given(st.sampled_from([4, 8, 16, 32]), st.integers(1, NODE_IDS))
def test_a_slot_is_one_of_the_slots(slots: int, node_id: int) -> None:
    """Node ids that differ in slot own different blocks."""
    assert place(node_id=node_id, slots=slots).slot == node_id % slots < slots
