"""What gobgpd says, in the words of the engine contract."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

from routing.bgp.values import (
    Address,
    Attributes,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    PrefixRule,
    Reason,
    Segment,
    SegmentType,
    Speaker,
)
from routing.engines.engine import SessionState
from routing.engines.gobgp_codec import PathView, PeerView
from routing.engines.gobgp_views import Judge, ranked, session_view

NET = ip_network("198.51.100.0/24")
OPEN = ImportPolicy(accept=(PrefixRule.exact(NET),))
A = Neighbor("a", 65001, ip_address("192.0.2.2"), imports=OPEN)
B = Neighbor("b", 65002, ip_address("192.0.2.3"), imports=OPEN)
RS = Speaker("rs", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.1"), (), neighbors=(A, B))
PEER = PeerView(
    address=ip_address("192.0.2.2"),
    asn=65001,
    router_id=IPv4Address("192.0.2.2"),
    group="",
    state=SessionState.ESTABLISHED,
    over_limit=False,
    detail="",
    families=(Family.IPV4,),
    complete=frozenset(),
    promised=frozenset(),
    up_since=100.0,
    received=3,
    accepted=2,
    advertised=1,
)


def said(address: Address, *path: int, refused: bool = False) -> PathView:
    """Return a path that a neighbour announced."""
    attributes = Attributes(address, as_path=(Segment(SegmentType.SEQUENCE, path),))
    return PathView(NET, address, IPv4Address(0), attributes, best=False, stale=False, refused=refused)


def test_uptime_is_counted_from_the_establishment() -> None:
    """And is never negative when a clock was set."""
    assert session_view(PEER, "a", 160.0).uptime == 60.0
    assert session_view(PEER, "a", 99.0).uptime == 0.0
    assert session_view(replace(PEER, up_since=None), "a", 160.0).uptime is None


def test_the_shorter_path_wins_and_says_so() -> None:
    """Gobgpd names no best path for route-server clients."""
    judge = Judge(RS, {})
    one = judge.received(said(ip_address("192.0.2.2"), 65001, 1), A, PEER)
    two = judge.received(said(ip_address("192.0.2.3"), 65002), B, replace(PEER, address=ip_address("192.0.2.3")))
    assert one is not None
    assert two is not None
    first, second = ranked([one, two], chosen=())
    assert (first.neighbor, first.best, first.why) == ("b", True, "AS_PATH length 1 against 2")
    assert (second.neighbor, second.best, second.why) == ("a", False, "AS_PATH length 2 against 1")


def test_what_gobgpd_chose_is_the_best() -> None:
    """It forwards by its choice, not by ours."""
    judge = Judge(replace(RS, mode=Mode.ROUTER), {})
    one = judge.received(said(ip_address("192.0.2.2"), 65001, 1), A, PEER)
    own = judge.own(NET, Attributes(IPv4Address(0)))
    assert one is not None
    assert [view.neighbor for view in ranked([one, own], {(NET, None)})] == ["local", "a"]
    assert [view.neighbor for view in ranked([one, own], {(NET, ip_address("192.0.2.2"))})] == ["a", "local"]


def test_a_refused_path_has_its_reason_and_comes_last() -> None:
    """It never wins."""
    judge = Judge(RS, {})
    bad = judge.received(replace(said(ip_address("192.0.2.2")), prefix=ip_network("10.0.0.0/8"), refused=True), A, PEER)
    loop = judge.received(said(ip_address("192.0.2.2"), 65000), A, PEER)
    good = judge.received(said(ip_address("192.0.2.3"), 65002, 1, 2), B, PEER)
    assert bad is not None
    assert loop is not None
    assert good is not None
    views = list(ranked([bad, loop, good], chosen=()))
    assert [(str(v.prefix), v.reason, v.best) for v in views] == [
        ("10.0.0.0/8", Reason.NOT_OWNED, False),
        ("198.51.100.0/24", None, True),
        ("198.51.100.0/24", Reason.AS_LOOP, False),
    ]


def test_what_only_gobgpd_refuses_is_shown_as_refused() -> None:
    """It is not in use, whatever we think of it."""
    found = Judge(RS, {}).received(said(ip_address("192.0.2.2"), 65001, refused=True), A, PEER)
    assert found is not None
    assert found.view.reason is Reason.NO_POLICY


def test_what_is_above_the_limit_says_so() -> None:
    """It would be accepted otherwise; a better reason comes first."""
    judge = Judge(RS, {ip_address("192.0.2.2"): frozenset({NET})})
    paths = (said(ip_address("192.0.2.2"), 65001, refused=True), said(ip_address("192.0.2.2"), 65000))
    found = [judge.received(item, A, PEER) for item in paths]
    assert [item and item.view.reason for item in found] == [Reason.MAX_PREFIXES, Reason.AS_LOOP]


def test_a_withdrawal_is_no_route() -> None:
    """There is nothing to show."""
    assert Judge(RS, {}).received(replace(said(ip_address("192.0.2.2")), attributes=None), A, PEER) is None
