"""Paths and peers of gobgpd's API, to and from our values."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from routing.bgp.values import Announcement, Family
from routing.engines.engine import SessionState
from routing.engines.gobgp_api import attribute_pb2 as attr
from routing.engines.gobgp_api import capability_pb2 as capability
from routing.engines.gobgp_api import gobgp_pb2 as api
from routing.engines.gobgp_codec import announce, announcement_of, path_view, peer_view, withdraw
from routing.engines.gobgp_messages import family


def packed(message: Any) -> AnyMessage:
    """Return a message as gobgpd sends it."""
    made = AnyMessage()
    made.Pack(message)
    return made


def heard(prefix: str, length: int, *attributes: Any, kind: Family = Family.IPV4) -> api.Path:
    """Return a path as gobgpd tells it."""
    nlri = packed(attr.IPAddressPrefix(prefix=prefix, prefix_len=length))
    return api.Path(family=family(kind), nlri=nlri, pattrs=[packed(item) for item in attributes])


@pytest.mark.parametrize(
    ("announcement", "nlri", "octets"),
    [
        (Announcement(ip_network("0.0.0.0/0")), "00", ["5001000100", "5003000400000000"]),
        (
            Announcement(ip_network("10.128.0.0/9"), ip_address("192.0.2.1"), ((65000, 7),), ((1, 2, 3),), 9),
            "090a80",
            [
                "5001000100",
                "9004000400000009",
                "d0080004fde80007",
                "d020000c000000010000000200000003",
                "50030004c0000201",
            ],
        ),
        (
            Announcement(ip_network("10.0.0.0/8"), ip_address("2001:db8::1")),
            "080a",
            ["5001000100", "900e001700010110" + "20010db8000000000000000000000001" + "00" + "080a"],
        ),
        (
            Announcement(ip_network("2001:db8::/32"), ip_address("192.0.2.1")),
            "2020010db8",
            ["5001000100", "900e001a00020110" + "00000000000000000000ffffc0000201" + "00" + "2020010db8"],
        ),
    ],
)
def test_an_announcement_is_what_the_wire_would_carry(announcement: Announcement, nlri: str, octets: list[str]) -> None:
    """RFC 4271 4.3, RFC 4760 3, RFC 8950: the next hop is where its family wants it."""
    made = announce(announcement)
    assert made.nlri_binary.hex() == nlri
    assert [item.hex() for item in made.pattrs_binary] == octets
    assert made.family == family(Family.of(announcement.prefix))


def test_a_withdrawal_has_no_attributes() -> None:
    """It ends our own path and no other."""
    made = withdraw(ip_network("10.0.0.0/8"))
    assert (made.is_withdraw, made.nlri_binary.hex(), list(made.pattrs_binary)) == (True, "080a", [])
    path = heard("10.0.0.0", 8)
    path.is_withdraw = True
    assert path_view(path).attributes is None
    assert announcement_of(path_view(path)) is None


def test_our_own_path_tells_what_we_announced() -> None:
    """An unspecified next hop stands for the local address of each session."""
    communities = attr.CommunitiesAttribute(communities=[(65000 << 16) | 7])
    path = heard("10.0.0.0", 8, attr.NextHopAttribute(next_hop="0.0.0.0"), communities)
    assert announcement_of(path_view(path)) == Announcement(ip_network("10.0.0.0/8"), communities=((65000, 7),))


def test_a_neighbours_path_is_not_ours() -> None:
    """Ours has no neighbour; Go prints that as `<nil>`."""
    path = heard("10.0.0.0", 8, attr.NextHopAttribute(next_hop="192.0.2.2"))
    path.neighbor_ip, path.source_id, path.stale, path.filtered = "fe80::2%eth0", "192.0.2.9", True, True
    view = path_view(path)
    assert (view.neighbor, view.router_id) == (ip_address("fe80::2"), IPv4Address("192.0.2.9"))
    assert (view.stale, view.refused, view.best) == (True, True, False)
    assert announcement_of(view) is None
    path.neighbor_ip, path.source_id = "<nil>", "<nil>"
    assert path_view(path).neighbor is None


def test_a_mapped_prefix_is_one_of_ipv6() -> None:
    """Gobgpd prints it as if it were of IPv4: 10.0.0.0 with a length of 104."""
    path = heard("10.0.0.0", 104, kind=Family.IPV6)
    path.is_withdraw = True
    assert path_view(path).prefix == ip_network("::ffff:10.0.0.0/104")


def established() -> api.Peer:
    """Return a peer with both families configured, of which the other side has IPv4 only."""
    made = api.Peer(
        conf=api.PeerConf(neighbor_address="192.0.2.2", peer_asn=65001),
        state=api.PeerState(
            neighbor_address="192.0.2.2",
            session_state=api.PeerState.ESTABLISHED,
            router_id="192.0.2.9",
            remote_cap=[
                packed(capability.RouteRefreshCapability()),
                packed(capability.MultiProtocolCapability(family=family(Family.IPV4))),
            ],
        ),
    )
    for value in Family:
        item = made.afi_safis.add(
            config=api.AfiSafiConfig(family=family(value)), state=api.AfiSafiState(received=5, accepted=4, advertised=3)
        )
        item.mp_graceful_restart.state.received = True
    made.timers.state.uptime.FromSeconds(1000)
    return made


def test_an_established_session_has_the_families_of_both_sides() -> None:
    """Counts are of those."""
    view = peer_view(established())
    assert (view.families, view.received, view.accepted, view.advertised) == ((Family.IPV4,), 5, 4, 3)
    assert (view.state, view.up_since, view.router_id) == (SessionState.ESTABLISHED, 1000.0, IPv4Address("192.0.2.9"))
    assert (view.group, view.detail, view.over_limit) == ("", "", False)


def test_a_session_that_is_down_has_the_families_it_is_to_have() -> None:
    """And no uptime."""
    peer = established()
    peer.state.session_state = api.PeerState.ACTIVE
    view = peer_view(peer)
    assert (view.state, view.families, view.up_since) == (SessionState.ACTIVE, tuple(Family), None)


def test_end_of_rib_is_seen_per_family() -> None:
    """Who restarts gracefully promises one."""
    peer = established()
    assert (peer_view(peer).promised, peer_view(peer).complete) == (frozenset({Family.IPV4}), frozenset())
    peer.afi_safis[0].mp_graceful_restart.state.end_of_rib_received = True
    assert peer_view(peer).complete == frozenset({Family.IPV4})


def test_a_dynamic_neighbour_names_its_group() -> None:
    """It has no configured address."""
    peer = established()
    peer.conf.neighbor_address, peer.conf.peer_group = "", "many"
    view = peer_view(peer)
    assert (view.group, view.address) == ("many", ip_address("192.0.2.2"))


def test_a_session_above_its_limit_says_so() -> None:
    """It stays down until it is enabled again."""
    peer = established()
    peer.state.admin_state = api.PeerState.PFX_CT
    view = peer_view(peer)
    assert view.over_limit
    assert "more prefixes" in view.detail
