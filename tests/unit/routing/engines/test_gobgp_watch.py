"""Events wait for their consumer without growing, and Synced comes when everything was named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from appliance.model.errors import EngineError
from routing.bgp.values import Attributes, Family, Network
from routing.engines.engine import Best, Event, Session, SessionState, Synced
from routing.engines.gobgp_client import Paths, PeersListed, WatchedEvent
from routing.engines.gobgp_codec import PathView, PeerView
from routing.engines.gobgp_watch import QUIET, Inbox, Settle, follow, settled

ONE, TWO, THREE = (ip_network(f"10.{number}.0.0/16") for number in (1, 2, 3))
A = ip_address("192.0.2.2")
WAY = Attributes(A)
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
    up_since=100.0,
    received=3,
    accepted=2,
    advertised=1,
)


def best(prefix: Network, *, gone: bool = False) -> PathView:
    """Return a best path of a neighbour."""
    return PathView(prefix, A, IPv4Address(0), None if gone else WAY, best=False, stale=False, refused=False)


class FakeClient:
    """A gobgpd that says, watch by watch, what it is told to, and then either waits or is gone."""

    def __init__(self, *watches: list[WatchedEvent], gone: bool = False) -> None:
        self.watches = list(watches)
        self.gone = gone
        self.said = asyncio.Event()

    async def watch(self, *, best: bool) -> AsyncGenerator[WatchedEvent, None]:
        """Say the next list."""
        for event in self.watches.pop(0):
            yield event
        self.said.set()
        if self.gone and not self.watches:
            raise EngineError("gobgpd: gone")
        await asyncio.Event().wait()


async def collect(client: FakeClient, settle: Settle | None = None, *, table: bool = True) -> list[Event]:
    """Return every event up to the first Synced."""
    events: list[Event] = []
    following = follow(client, lambda _: "a", best=table, settle=settle)  # type: ignore[arg-type] # a fake
    async with asyncio.timeout(10):
        async for batch in following:
            events += batch
            if Synced() in batch:
                break
    await following.aclose()
    return events


async def test_the_table_comes_first_and_then_synced() -> None:
    """Whoever forwards by it may then forget what was not named."""
    client = FakeClient([PEER, PeersListed(), Paths((best(ONE),)), Paths((best(TWO),), whole=True)])
    assert await collect(client) == [
        Session("a", A, SessionState.ESTABLISHED),
        Best(ONE, WAY, "a"),
        Best(TWO, WAY, "a"),
        Synced(),
    ]


async def test_an_empty_table_is_a_table() -> None:
    """There is nothing to wait for."""
    assert await collect(FakeClient([PeersListed(), Paths((), whole=True)])) == [Synced()]


async def test_a_route_server_is_in_sync_when_its_peers_are_named() -> None:
    """Gobgpd shows no best paths of its clients."""
    assert await collect(FakeClient([PEER, PeersListed()]), table=False) == [
        Session("a", A, SessionState.ESTABLISHED),
        Synced(),
    ]


async def test_a_batch_has_the_last_word_on_every_prefix() -> None:
    """What waits for a slow consumer is bounded by the table."""
    inbox = Inbox()
    for _ in range(1000):
        inbox.put(Best(ONE, WAY, "a"))
        inbox.put(Best(TWO, WAY, "a"))
        inbox.put(Best(ONE, None, "a"))
    assert await inbox.take() == (Best(TWO, WAY, "a"), Best(ONE, None, "a"))


async def test_an_ended_inbox_gives_what_it_has_and_then_nothing() -> None:
    """Nothing is lost by the end."""
    inbox = Inbox()
    inbox.put(Synced())
    inbox.end()
    assert [await inbox.take(), await inbox.take()] == [(Synced(),), ()]


async def test_the_end_of_gobgpd_is_an_error_after_the_last_event() -> None:
    """The engine makes `Lost` of it."""
    client = FakeClient([PeersListed(), Paths((best(ONE),), whole=True)], gone=True)
    batches = follow(client, lambda _: "a", best=True, settle=None)  # type: ignore[arg-type] # a fake
    assert await anext(batches) == (Best(ONE, WAY, "a"), Synced())
    with pytest.raises(EngineError, match="gone"):
        await anext(batches)


async def test_synced_waits_until_the_neighbours_have_settled() -> None:
    """What came and went meanwhile is taken back, what a second look shows is named."""
    early: list[WatchedEvent] = [PeersListed(), Paths((best(ONE),), whole=True), Paths((best(TWO),))]
    late: list[WatchedEvent] = [PeersListed(), Paths((best(TWO), best(THREE)), whole=True)]
    client = FakeClient(early, late)
    events = await collect(client, settle=client.said.wait)  # type: ignore[arg-type] # what it returns is not used
    assert events.index(Synced()) == len(events) - 1
    last = {event.prefix: event.attributes for event in events if isinstance(event, Best)}
    assert last == {ONE: None, TWO: WAY, THREE: WAY}


async def test_a_failure_while_settling_is_the_end() -> None:
    """Gobgpd died again."""

    async def fails() -> None:
        raise EngineError("gobgpd: gone")

    with pytest.raises(EngineError, match="gone"):
        await collect(FakeClient([PeersListed()]), settle=fails)


def test_end_of_rib_settles_a_neighbour() -> None:
    """Of each family that promises one."""
    promising = replace(PEER, promised=frozenset({Family.IPV4}))
    assert not settled([A], {A: promising}, {A: promising}, 1000.0)
    assert settled([A], {A: replace(promising, complete=frozenset({Family.IPV4}))}, {}, 100.0)


def test_a_silent_neighbour_settles_when_nothing_more_comes() -> None:
    """It must have had time to say something."""
    now = 100.0 + QUIET
    assert settled([A], {A: PEER}, {A: PEER}, now)
    assert not settled([A], {A: PEER}, {A: PEER}, now - 1)
    assert not settled([A], {A: PEER}, {A: replace(PEER, received=2)}, now)
    assert not settled([A], {A: PEER}, {}, now)


def test_a_neighbour_that_is_down_is_waited_for_and_one_that_is_gone_is_not() -> None:
    """The engine ends the waiting some time."""
    down = replace(PEER, state=SessionState.ACTIVE)
    assert not settled([A], {A: down}, {A: down}, 1000.0)
    assert settled([A], {}, {}, 0.0)
    assert settled([], {A: down}, {}, 0.0)
