"""Raw netlink is a fair measure only if it says what ours says."""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.rtnetlink import RTM_NEWROUTE, Run, unpack_routes
from bench.rawroutes import ACK, CREATE, NEW_ROUTE, RTA_NH_ID, number, pack

if TYPE_CHECKING:
    from appliance.model.facts import Network

FOUR = [IPv4Network(((16 << 24) + (n << 8), 24)) for n in range(2500)]
SIX = [IPv6Network(((0x2001 << 112) + (n << 80), 48)) for n in range(2500)]


@pytest.mark.parametrize("networks", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_every_network_is_in_a_message_and_the_last_of_each_batch_is_acknowledged(networks: list[Network]) -> None:
    """A thousand to a batch, in order, each with its next-hop object."""
    found: list[int] = []
    for batch in pack(NEW_ROUTE, networks, number(RTA_NH_ID, 11), CREATE):
        runs = [run for run in unpack_routes(batch, 0) if isinstance(run, Run)]
        found += [address for run in runs for address in run.destinations]
        assert {nexthop for run in runs for nexthop in run.nexthops} == {11}
        size = struct.unpack_from("=I", batch)[0]
        kinds, flags = zip(
            *(struct.unpack_from("=HH", batch, at + 4) for at in range(0, len(batch), size)), strict=True
        )
        assert set(kinds) == {NEW_ROUTE} == {RTM_NEWROUTE}
        assert [bool(flag & ACK) for flag in flags] == [False] * (len(flags) - 1) + [True]
        assert len(flags) <= 1000
    assert found == [int(network.network_address) for network in networks]
