"""What is above a limit is found once, by who came last, and let in when there is room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

from routing.bgp.values import Address, Attributes, Family, ImportPolicy, Mode, Neighbor, Network, PrefixRule, Speaker
from routing.engines.engine import SessionState
from routing.engines.gobgp_codec import PathView, PeerView
from routing.engines.gobgp_limits import Limits, above

A, FAR = ip_address("192.0.2.2"), ip_address("10.0.0.1")
ONE, TWO, THREE, BAD = (ip_network(f"198.51.{number}.0/24") for number in (1, 2, 3, 99))
NEVER = (PrefixRule.exact(BAD),)
LIMITED = ImportPolicy(accept=(PrefixRule(ip_network("198.51.0.0/16"), 24, 24),), never=NEVER, max_prefixes=2)
NEIGHBOR = Neighbor("a", 65001, A, imports=LIMITED)
MANY = Neighbor("many", 65002, range=ip_network("10.0.0.0/8"), imports=LIMITED)
SPEAKER = Speaker("rs", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.1"), (), neighbors=(NEIGHBOR, MANY))


def path(prefix: Network, age: float, *, refused: bool = False) -> PathView:
    """Return a path that came at a time."""
    return PathView(prefix, A, IPv4Address(0), Attributes(A), best=False, stale=False, refused=refused, age=age)


class FakeClient:
    """The calls of `Client` that look; it counts how often tables were asked for."""

    def __init__(self, tables: dict[Address, list[PathView]]) -> None:
        self.tables = tables
        self.updates = 0
        self.asked = 0

    async def peers(self) -> list[PeerView]:
        """List sessions."""
        return [
            PeerView(
                address=address,
                asn=1,
                router_id=IPv4Address(0),
                group="",
                state=SessionState.ESTABLISHED,
                over_limit=False,
                detail="",
                families=(Family.IPV4,),
                complete=frozenset(),
                promised=frozenset(),
                up_since=0.0,
                received=len(table),
                accepted=0,
                advertised=0,
                updates=self.updates,
            )
            for address, table in self.tables.items()
        ]

    async def received(self, address: Address, family: Family) -> AsyncIterator[PathView]:
        """Yield a table."""
        self.asked += 1
        for item in self.tables[address]:
            yield item


def test_the_first_that_came_stay() -> None:
    """In the order of prefixes when they came at once."""
    assert above([path(THREE, 5), path(TWO, 9), path(ONE, 9)], 2) == {TWO}
    assert above([path(ONE, 5), path(TWO, 5)], 2) == frozenset()


def test_what_was_refused_before_does_not_push_out_what_was_accepted() -> None:
    """An accepted route that is announced again has a later time."""
    assert above([path(ONE, 1, refused=True), path(TWO, 9), path(THREE, 9)], 2) == {ONE}


async def test_only_acceptable_routes_count() -> None:
    """A refused route takes nobody's place."""
    client, limits = FakeClient({A: [path(ONE, 2), path(BAD, 1), path(TWO, 3)]}), Limits()
    assert not await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    client.tables[A].append(path(THREE, 4))
    client.updates += 1
    assert await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    assert limits.excess == {A: {THREE}}


async def test_a_neighbour_that_says_nothing_is_not_looked_at_again() -> None:
    """Its table may be large."""
    client, limits = FakeClient({A: [path(ONE, 1), path(TWO, 1), path(THREE, 1)]}), Limits()
    assert await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    assert not await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    assert client.asked == 1


async def test_a_place_that_becomes_free_is_given_away() -> None:
    """And a smaller table is not even asked for."""
    client, limits = FakeClient({A: [path(ONE, 1), path(TWO, 1), path(THREE, 1)]}), Limits()
    await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    client.tables[A] = [path(TWO, 1), path(THREE, 1, refused=True)]
    client.updates += 1
    assert await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    assert (limits.excess, client.asked) == ({}, 1)


async def test_every_session_of_a_range_has_a_limit_of_its_own() -> None:
    """And what is above it goes with the session."""
    table = [path(ONE, 1), path(TWO, 1), path(THREE, 1)]
    client, limits = FakeClient({A: table[:2], FAR: table}), Limits()
    assert await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    assert limits.excess == {FAR: {THREE}}
    del client.tables[FAR]
    assert await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    assert limits.excess == {}


async def test_another_limit_is_another_look() -> None:
    """Without one, nothing is above it and nobody is asked."""
    client, limits = FakeClient({A: [path(ONE, 1), path(TWO, 1), path(THREE, 1)]}), Limits()
    await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    lower = replace(NEIGHBOR, imports=replace(LIMITED, max_prefixes=1))
    assert await limits.look(client, replace(SPEAKER, neighbors=(lower,)))  # type: ignore[arg-type] # a fake
    assert limits.excess == {A: {TWO, THREE}}
    free = replace(NEIGHBOR, imports=replace(LIMITED, max_prefixes=None))
    assert await limits.look(client, replace(SPEAKER, neighbors=(free,)))  # type: ignore[arg-type] # a fake
    assert limits.excess == {}


async def test_another_gobgpd_is_looked_at_from_the_beginning() -> None:
    """It knows nothing of what was above a limit."""
    client, limits = FakeClient({A: [path(ONE, 1), path(TWO, 1), path(THREE, 1)]}), Limits()
    await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
    limits.forget()
    assert limits.excess == {}
    assert await limits.look(client, SPEAKER)  # type: ignore[arg-type] # a fake
