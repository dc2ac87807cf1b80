"""The engine's process outlives the daemon, and the daemon outlives the engine's process (design 0001)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from routing.bgp.values import Announcement, Attributes, ExportPolicy, Family, Mode, Network
from tests.support.lan import Lan
from tests.support.routers.common import Route, normal
from tests.support.scenario import (
    ASNS,
    SEND_ALL,
    World,
    attributes,
    client,
    neighbors,
    only,
    prefix,
    routes_of,
    running,
    speaker,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
MEMBERS = ("bird", "frr")


@pytest.fixture(scope="module", params=[Mode.TRANSPARENT, Mode.ROUTER], ids=lambda mode: mode.value)
def world(request: pytest.FixtureRequest, engine_name: str) -> Iterator[World]:
    """Run a speaker with two eBGP neighbours, which learn from each other through it."""
    if engine_name == "bird":
        pytest.skip("the reference is not supervised")
    mode: Mode = request.param
    with Lan("rs", *MEMBERS) as lan:
        wanted = [each for member in MEMBERS for each in neighbors(lan, member, only(member))]
        # Only a router has something of its own to say.
        own = tuple(Announcement(prefix("host", 0, f)) for f in Family) if mode is Mode.ROUTER else ()
        routers = {member: client(lan, member, routes_of(lan, member, 0, 1)) for member in MEMBERS}
        with running(lan, engine_name, speaker(lan, mode, wanted, announcements=own), routers) as world:
            yield world


def _expect(world: World, *, hidden: str = "") -> None:
    """Both have what the other one announces and the speaker's own, unless one is hidden from."""
    for family in Family:
        for receiver, sender in (MEMBERS, reversed(MEMBERS)):
            wanted = set() if receiver == hidden else set(world.announced(sender, family))
            if world.speaker.announcements and receiver != hidden:
                wanted.add(prefix("host", 0, family))
            eventually(
                lambda r=receiver, f=family, w=wanted: set(world.received(r, f)) == w,  # type: ignore[misc] # bound now
                within=60,
                what=f"{receiver} has the {family.name} prefixes {wanted}",
            )


def _incarnations(world: World) -> dict[tuple[str, Family], str | None]:
    return {(m, f): world.routers[m].incarnation(world.link(m, f)) for m in MEMBERS for f in Family}


def _told(world: World) -> dict[Network, Attributes]:
    return {p: best.attributes for p, best in world.engine.best.items() if best.attributes is not None}


def test_a_new_daemon_adopts_the_running_process(world: World) -> None:
    """No session notices; the new one sees the same sessions and routes, and its changes take effect."""
    _expect(world)
    before = _incarnations(world)
    routes = {(v.prefix, v.neighbor, normal(v.attributes)) for v in world.engine.routes()}
    world.engine.succeed()
    world.engine.apply(world.speaker)
    _expect(world)
    assert _incarnations(world) == before
    assert {(v.prefix, v.neighbor, normal(v.attributes)) for v in world.engine.routes()} == routes
    original = world.speaker
    silenced = tuple(
        replace(n, exports=ExportPolicy() if n.asn == ASNS["frr"] else SEND_ALL) for n in original.neighbors
    )
    world.apply(replace(original, neighbors=silenced))
    _expect(world, hidden="frr")
    world.apply(original)
    _expect(world)
    assert _incarnations(world) == before


def test_what_changed_while_no_daemon_watched_is_seen_by_the_next_one(world: World) -> None:
    """The process serves on alone; the daemon that comes back with another speaker makes it so."""
    _expect(world)
    before = _incarnations(world)
    bird = world.routers["bird"]
    routes = bird.routes
    late = [Route(prefix("bird", 7, f), attributes(world.lan, "bird", f)) for f in Family]
    world.engine.succeed()
    bird.announce(*routes, *late)
    world.apply(world.speaker)
    _expect(world)
    bird.announce(*routes)
    _expect(world)
    assert _incarnations(world) == before


def test_a_killed_process_comes_back_with_everything(world: World) -> None:
    """`watch` says Lost, then all best paths and Synced; the neighbours have all routes again."""
    _expect(world)
    world.engine.watch()
    eventually(lambda: world.engine.synced, what="the first round of events is over")
    world.engine.kill()
    eventually(lambda: world.engine.lost, what="the engine says that its process is gone")
    eventually(lambda: world.engine.synced, within=60, what="the engine is back")
    _expect(world)
    if world.speaker.mode is Mode.ROUTER:
        learned = {p for member in MEMBERS for f in Family for p in world.announced(member, f)}
        own = {announcement.prefix for announcement in world.speaker.announcements}
        eventually(lambda: _told(world).keys() == learned | own, what="every best path was told")
