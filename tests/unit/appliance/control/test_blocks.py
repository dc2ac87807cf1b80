"""Port blocks: another is taken before one is full, announced before it is used, and remembered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Network

import pytest

from appliance.control.blocks import SETTLE, Blocks, translated_port
from appliance.kernel.conntrack_codec import CtEntry, CtTuple, Icmp
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace
from appliance.model.intent import Intent
from appliance.state.store import MemoryStore
from services.nat import block_network, own_blocks
from services.place import Place
from tests.support.intents import changed, intent, one_vpc

RED = Namespace("vpc-red")
SHARED, GUEST, FAR = IPv4Address("203.0.113.1"), IPv4Address("172.16.1.12"), IPv4Address("198.51.100.10")


def zone(**more: object) -> Intent:
    """Return a zone whose blocks have 64 ports and are full at half."""
    snat = {"address": str(SHARED), "block": 64, "watermark": 0.5} | more
    return intent(changed(one_vpc(), "vpcs.red.snat", snat))


def flow(port: int, protocol: int = 6) -> CtEntry:
    """Return a flow that is translated to a port."""
    return CtEntry(protocol, CtTuple(GUEST, FAR, port, 80), CtTuple(FAR, SHARED, 80, port))


class World:
    """Blocks of host h2 with the flows the test makes; time is what the test says."""

    def __init__(self) -> None:
        self.intent = zone()
        self.store, self.flows = MemoryStore(), FakeConntrack()
        self.blocks = Blocks(self.store, self.flows)
        self.announced: set[IPv6Network] = {self.network(0)}
        self.now = 0.0

    def network(self, index: int) -> IPv6Network:
        """Return the composed prefix of one of our blocks."""
        nat, place = self.intent.vpcs["red"].snat, Place.of(self.intent, "h2", "red")
        assert nat is not None
        return block_network(nat, own_blocks(nat, place.slot, place.slots)[index], place.composed)

    def fill(self, index: int, count: int = 33) -> None:
        """Use ports of one of our blocks."""
        nat, place = self.intent.vpcs["red"].snat, Place.of(self.intent, "h2", "red")
        assert nat is not None
        start = own_blocks(nat, place.slot, place.slots)[index]
        for port in range(start, start + count):
            self.flows.add(RED, flow(port))

    async def step(self, seconds: float = 1.0) -> bool:
        """Let time pass and look once."""
        self.now += seconds
        return await self.blocks.step(self.intent, "h2", self.announced, self.now)

    @property
    def taken(self) -> tuple[int, ...]:
        """What is taken now."""
        return self.blocks.taken(self.intent, "h2").get("red", (0,))


@pytest.fixture
def world() -> World:
    """Give a world without flows."""
    return World()


async def test_while_few_ports_are_in_use_nothing_is_taken(world: World) -> None:
    """The first block is everybody's by right."""
    world.fill(0, 31)
    assert not await world.step()
    assert world.taken == (0,)


async def test_a_block_is_used_only_when_its_announcement_had_time_to_spread(world: World) -> None:
    """Announced, told to the engines, settled, used: in this order, and not before."""
    world.fill(0)
    assert await world.step()
    assert world.taken == (1, 0)
    assert not await world.step(100)
    world.announced.add(world.network(1))
    assert not await world.step()
    assert not await world.step(SETTLE / 2)
    assert world.taken == (1, 0)
    assert await world.step(SETTLE / 2)
    assert world.taken == (0, 1)


async def test_a_block_that_emptied_is_used_again_at_once(world: World) -> None:
    """It was announced all the time."""
    world.fill(0)
    for _ in range(4):
        await world.step()
        world.announced.add(world.network(1))
    assert world.taken == (0, 1)
    world.flows.delete(RED, list(world.flows.dump(RED)))
    world.fill(1)
    assert await world.step()
    assert world.taken == (1, 0)


async def test_what_is_taken_is_remembered_and_an_announced_block_still_waits(world: World) -> None:
    """A daemon that dies between announcing and using must not use what its successor has not announced."""
    world.fill(0)
    await world.step()
    world.blocks = Blocks(world.store, world.flows)
    assert world.taken == (1, 0)
    await world.step()
    assert world.taken == (1, 0)
    world.announced.add(world.network(1))
    await world.step()
    assert await world.step(SETTLE)
    assert world.taken == (0, 1)


@pytest.mark.parametrize(
    "other", [{"block": 128}, {"address": "203.0.113.9"}], ids=["another size of blocks", "another address"]
)
async def test_blocks_taken_under_another_intent_count_for_nothing(world: World, other: dict[str, object]) -> None:
    """Their numbers mean other ports now; when the old intent comes back, so do they."""
    world.fill(0)
    await world.step()
    world.intent = zone(**other)
    assert world.blocks.taken(world.intent, "h2") == {}
    assert not await world.step(100)
    world.intent = zone()
    assert world.taken == (1, 0)


async def test_a_vpc_without_source_nat_or_guests_here_takes_nothing(world: World) -> None:
    """There is nothing to translate."""
    world.fill(0)
    world.intent = intent(changed(one_vpc(), "vpcs.red.snat", ...))
    assert not await world.step()
    world.intent = zone()
    assert not await world.blocks.step(world.intent, "gw1", (), 1.0)


async def test_a_namespace_that_is_not_there_yet_has_no_flows(world: World) -> None:
    """Blocks are looked at from the first second on."""

    class Broken(FakeConntrack):
        def count(self, ns: Namespace) -> int:
            raise KernelError("conntrack", ns, 19)

    world.blocks = Blocks(world.store, Broken())
    assert not await world.step()


async def test_counting_many_flows_lets_others_run(world: World) -> None:
    """The loop has best paths to put into the kernel meanwhile."""
    turns: list[int] = []

    class Counting(FakeConntrack):
        def dump(self, ns: Namespace, *_: object, **__: object) -> Iterator[CtEntry]:
            for number in range(5000):
                yield flow(number % 65536)
            turns.append(other.turns)

        def count(self, ns: Namespace) -> int:
            return 5000

    class Other:
        turns = 0

        async def run(self) -> None:
            while True:
                self.turns += 1
                await asyncio.sleep(0)

    other = Other()
    world.blocks = Blocks(world.store, Counting())
    task = asyncio.create_task(other.run())
    await asyncio.sleep(0)
    await world.step()
    task.cancel()
    assert turns[0] >= 9


def test_the_port_of_a_flow_is_where_its_replies_go() -> None:
    """For ICMP it is the identifier; a flow with another address is none of ours."""
    nat = zone().vpcs["red"].snat
    assert nat is not None
    assert translated_port(flow(2000), nat) == 2000
    echo = CtEntry(1, CtTuple(GUEST, FAR, icmp=Icmp(8, 0, 7)), CtTuple(FAR, SHARED, icmp=Icmp(0, 0, 2001)))
    assert translated_port(echo, nat) == 2001
    inside = CtEntry(6, CtTuple(GUEST, FAR, 2000, 80), CtTuple(FAR, GUEST, 80, 2000))
    assert translated_port(inside, nat) is None


async def test_the_store_has_words_a_person_can_read(world: World) -> None:
    """What was taken, and under what."""
    world.fill(0)
    await world.step()
    row = world.store.get("blocks/red")
    assert row is not None
    assert json.loads(row[0]) == {"under": "203.0.113.1/64/12/16", "blocks": [1, 0]}
