"""Lists are complete, exact where that is cheap, and bear with sessions that end meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from appliance.model.errors import EngineError
from routing.bgp.values import Address, Attributes, Family, ImportPolicy, Mode, Neighbor, Network, PrefixRule, Speaker
from routing.engines.engine import SessionState
from routing.engines.gobgp_codec import PathView, PeerView
from routing.engines.gobgp_lists import list_routes, list_sessions

ONE, SIX = ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")
A, B, FAR = (ip_address(text) for text in ("192.0.2.2", "192.0.2.10", "10.0.0.1"))
OPEN = ImportPolicy(accept=(PrefixRule.exact(ONE), PrefixRule.exact(SIX)))
SPEAKER = Speaker(
    "rs",
    Mode.ROUTER,
    65000,
    IPv4Address("192.0.2.1"),
    (),
    neighbors=(
        Neighbor("a", 65001, A, imports=OPEN),
        Neighbor("b", 65002, B, imports=OPEN),
        Neighbor("many", 65003, range=ip_network("10.0.0.0/8"), imports=OPEN),
    ),
)
PEER = PeerView(
    address=A,
    asn=65001,
    router_id=IPv4Address("192.0.2.2"),
    group="",
    state=SessionState.ESTABLISHED,
    over_limit=False,
    detail="",
    families=(Family.IPV4,),
    complete=frozenset(),
    promised=frozenset(),
    up_since=0.0,
    received=10,
    accepted=9,
    advertised=0,
)


class FakeClient:
    """The calls of `Client` that list; a session in `left` is not there when it is asked about."""

    def __init__(self, *peers: PeerView) -> None:
        self.listed = peers
        self.left: set[Address] = set()
        self.own: list[PathView] = []

    async def peers(self, *, advertised: bool = False) -> list[PeerView]:
        """List sessions."""
        return [replace(peer, advertised=7 if advertised else 0) for peer in self.listed]

    async def refused(self, address: Address, family: Family) -> int:
        """Count what is refused."""
        if address in self.left:
            raise EngineError("gobgpd: no such neighbour")
        return 2

    async def table(self, family: Family, prefix: Network | None = None) -> AsyncIterator[PathView]:
        """Yield the global table."""
        for path in self.own:
            if Family.of(path.prefix) is family:
                yield path

    async def received(
        self, address: Address, family: Family, prefix: Network | None = None
    ) -> AsyncIterator[PathView]:
        """Yield what a neighbour said."""
        if address in self.left:
            raise EngineError("gobgpd: no such neighbour")
        yield path(ONE if family is Family.IPV4 else SIX, address)


def path(prefix: Network, neighbor: Address | None, *, best: bool = False) -> PathView:
    """Return a path."""
    attributes = Attributes(neighbor or IPv4Address(0))
    return PathView(prefix, neighbor, IPv4Address(0), attributes, best=best, stale=False, refused=False)


async def test_sessions_are_sorted_by_name_and_address() -> None:
    """Two sessions of one range have one name."""
    others = [replace(PEER, address=ip_address(text), group="many") for text in ("10.0.0.20", "10.0.0.3")]
    views = await list_sessions(FakeClient(*others, replace(PEER, address=B), PEER), SPEAKER, 60.0)  # type: ignore[arg-type]
    assert [(view.name, str(view.address)) for view in views] == [
        ("a", "192.0.2.2"),
        ("b", "192.0.2.10"),
        ("many", "10.0.0.3"),
        ("many", "10.0.0.20"),
    ]


async def test_counts_are_exact_while_tables_are_small() -> None:
    """Gobgpd counts as accepted what only the policy refuses."""
    (view,) = await list_sessions(FakeClient(PEER), SPEAKER, 60.0)  # type: ignore[arg-type] # a fake
    assert (view.received, view.accepted, view.advertised) == (10, 7, 7)


async def test_counting_does_not_stop_a_gobgpd_with_large_tables() -> None:
    """It would do nothing else meanwhile."""
    (view,) = await list_sessions(FakeClient(replace(PEER, received=10**6)), SPEAKER, 60.0)  # type: ignore[arg-type]
    assert (view.accepted, view.advertised) == (9, 0)


async def test_a_dynamic_session_that_ends_meanwhile_is_no_error() -> None:
    """It may go at any moment."""
    client = FakeClient(PEER, replace(PEER, address=FAR, group="many"))
    client.left = {FAR}
    views = await list_sessions(client, SPEAKER, 60.0)  # type: ignore[arg-type] # a fake
    assert [view.accepted for view in views] == [7, 9]
    routes = await list_routes(client, SPEAKER, {}, None)  # type: ignore[arg-type] # a fake
    assert [view.neighbor for view in routes] == ["a"]


async def test_a_gobgpd_that_does_not_answer_is_an_error() -> None:
    """An empty list would say that there are no routes."""
    client = FakeClient(PEER)
    client.left = {A}
    with pytest.raises(EngineError):
        await list_routes(client, SPEAKER, {}, None)  # type: ignore[arg-type] # a fake


async def test_routes_are_ours_and_those_of_every_neighbour() -> None:
    """Of the families that the session has; the best one is gobgpd's."""
    client = FakeClient(PEER, replace(PEER, address=B, families=(Family.IPV6,)))
    client.own = [path(ONE, None), path(ONE, A, best=True)]
    routes = await list_routes(client, SPEAKER, {}, None)  # type: ignore[arg-type] # a fake
    assert [(view.prefix, view.neighbor, view.best) for view in routes] == [
        (ONE, "a", True),
        (ONE, "local", False),
        (SIX, "b", True),
    ]
    only = await list_routes(client, SPEAKER, {}, SIX)  # type: ignore[arg-type] # a fake
    assert {view.prefix for view in only} == {SIX}
