"""The engines of a node: told in the right order, tried again, ended when nobody wants them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_network

import pytest

from appliance.control.speakers import Speakers, Speaking
from appliance.control.tasks import Tasks
from appliance.model.errors import EngineError
from routing.bgp.values import Announcement, Mode, Speaker
from routing.engines.engine import Event, Lost, Synced
from tests.support.fake_engine import FakeRoom
from tests.support.waiting import eventually_async


def speaker(*prefixes: str, name: str = "router", mode: Mode = Mode.ROUTER) -> Speaker:
    """Return a speaker that announces these."""
    announcements = tuple(Announcement(ip_network(prefix)) for prefix in prefixes)
    return Speaker(name, mode, 64512, IPv4Address("10.255.0.1"), (), announcements=announcements)


A, B, C = "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"


class World:
    """Speakers with fake engines; what they tell is kept, `again` counts the calls."""

    def __init__(self) -> None:
        self.tasks, self.room = Tasks(), FakeRoom()
        self.learned: list[tuple[str, Event]] = []
        self.again = 0
        self.speakers = Speakers(self.tasks, self.room, self._learn, self._again)

    def _learn(self, speaking: Speaking, events: tuple[Event, ...]) -> None:
        self.learned += [(speaking.name, event) for event in events]

    def _again(self) -> None:
        self.again += 1

    async def change(self, *wanted: Speaker, kind: str = "gobgp") -> None:
        """Do what the daemon does when nothing happens in between."""
        await self.speakers.withdraw(kind, wanted)  # type: ignore[arg-type]
        await self.speakers.speak(kind, wanted)  # type: ignore[arg-type]

    def announced(self, name: str = "router") -> set[str]:
        """Return what an engine announces."""
        return self.room.engines["gobgp", name].announced


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Give a world without engines; its tasks end with the test."""
    world = World()
    yield world
    await world.speakers.close()
    await world.tasks.stop()


async def test_withdrawing_tells_what_goes_and_nothing_that_comes(world: World) -> None:
    """What comes is told after the kernel was led there."""
    await world.change(speaker(A, B))
    await world.speakers.withdraw("gobgp", (speaker(B, C),))
    assert world.announced() == {B}
    await world.speakers.speak("gobgp", (speaker(B, C),))
    assert world.announced() == {B, C}
    assert world.speakers.announced == {ip_network(B), ip_network(C)}


async def test_withdrawing_when_nothing_goes_tells_nothing(world: World) -> None:
    """The engine is told once."""
    await world.change(speaker(A))
    await world.change(speaker(A, B))
    await world.change(speaker(A, B))
    assert [len(told.announcements) for told in world.room.engines["gobgp", "router"].told] == [1, 2]


async def test_a_refusal_is_kept_as_detail_and_asked_for_again_once(world: World) -> None:
    """However many refusals, one timer: else each round would start two more."""
    await world.change(speaker(A), speaker(B, name="other"))
    for engine in world.room.engines.values():
        engine.refusals = [EngineError("busy")] * 2
    await world.change(speaker(name="router"), speaker(name="other"))
    assert world.speakers.details == {"router": "busy", "other": "busy"}
    await eventually_async(lambda: world.again)
    assert world.again == 1
    await world.change(speaker(name="router"), speaker(name="other"))
    assert world.speakers.details == {}
    assert world.announced() == set()


async def test_after_a_refusal_the_engine_is_told_even_what_it_took_before(world: World) -> None:
    """It may have carried out a part of what it refused."""
    await world.change(speaker(A))
    engine = world.room.engines["gobgp", "router"]
    engine.refusals = [EngineError("half done")]
    await world.change(speaker(A, B))
    await world.change(speaker(A))
    assert engine.told == [speaker(A), speaker(A)]
    assert world.speakers.details == {}


async def test_what_will_never_be_taken_is_not_asked_for_again(world: World) -> None:
    """The error says so."""
    error = EngineError("cannot")
    error.retry = False
    world.room.refusals = [error]
    await world.change(speaker(A))
    assert world.speakers.details == {"router": "cannot"}
    assert world.speakers._timer is None
    assert not world.tasks.names()


async def test_an_engine_is_listened_to_from_the_first_speaker_it_takes(world: World) -> None:
    """And only once."""
    await world.change(speaker(A))
    await world.change(speaker(A, B))
    world.room.engines["gobgp", "router"].push(Synced())
    await eventually_async(lambda: world.learned)
    assert world.learned == [("router", Synced())]
    assert world.room.engines["gobgp", "router"].listeners == 1


@pytest.mark.parametrize(("mode", "wanted"), [(Mode.ROUTER, True), (Mode.REFLECTOR, False), (Mode.TRANSPARENT, False)])
async def test_only_a_router_is_told_best_paths(world: World, mode: Mode, wanted: bool) -> None:
    """What a route server relays becomes nothing here, and telling it would cost more than relaying it."""
    await world.change(speaker(A, mode=mode))
    engine = world.room.engines["gobgp", "router"]
    await eventually_async(lambda: engine.listeners)
    assert engine.routes_wanted is wanted


async def test_an_engine_nobody_wants_is_ended_before_the_kernel_changes(world: World) -> None:
    """Its sessions must not attract what the kernel no longer carries."""
    await world.change(speaker(A), speaker(B, name="other"))
    await world.speakers.withdraw("gobgp", (speaker(A),))
    assert world.room.engines["gobgp", "other"].ended
    assert not world.room.engines["gobgp", "router"].ended
    assert set(world.speakers.running) == {"router"}
    assert world.tasks.names() == {"engine router"}
    assert [type(event) for name, event in world.learned if name == "other"] == [Lost]


async def test_another_kind_replaces_the_engine(world: World) -> None:
    """Two engines cannot listen on one port."""
    await world.change(speaker(A))
    await world.change(speaker(A), kind="exabgp")
    assert world.room.engines["gobgp", "router"].ended
    assert world.room.engines["exabgp", "router"].announced == {A}
    assert world.room.swept == [("gobgp", frozenset({"router"})), ("exabgp", frozenset({"router"}))]


async def test_leftovers_that_cannot_be_ended_are_tried_again(world: World) -> None:
    """A daemon before us may have run other speakers."""
    world.room.sweeping = [EngineError("still there")]
    await world.change(speaker(A))
    await eventually_async(lambda: world.again)
    await world.change(speaker(A))
    assert world.room.swept == [("gobgp", frozenset({"router"}))]


async def test_a_broken_stream_is_told_as_lost_and_begun_again(world: World) -> None:
    """What it will not name anew is gone."""
    await world.change(speaker(A))
    engine = world.room.engines["gobgp", "router"]
    engine.fail(ValueError("garbage"))
    await eventually_async(lambda: world.learned)
    assert world.learned == [("router", Lost("stopped listening: garbage"))]
    engine.push(Synced())
    await eventually_async(lambda: len(world.learned) == 2)


async def test_closing_lets_engines_run(world: World) -> None:
    """The next daemon adopts them."""
    await world.change(speaker(A))
    engine = world.room.engines["gobgp", "router"]
    engine.refusals = [EngineError("busy")]
    await world.change(speaker(B))
    await world.speakers.close()
    assert not engine.ended
    assert engine.listeners == 0
    again = world.again
    await asyncio.sleep(0)
    assert world.again == again
    assert world.speakers._timer is not None
    assert world.speakers._timer.cancelled()


async def test_attributes_of_an_announcement_that_stays_are_no_withdrawal(world: World) -> None:
    """It is changed in place, afterwards."""
    await world.change(speaker(A))
    new = replace(speaker(A), announcements=(Announcement(ip_network(A), med=5),))
    await world.speakers.withdraw("gobgp", (new,))
    assert world.room.engines["gobgp", "router"].told == [speaker(A)]
