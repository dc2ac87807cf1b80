"""What is ExaBGP's own: three processes that die and come back, and changes that leave sessions alone.

Real ExaBGP and BIRD in namespaces. The scenarios that every engine must pass are in `scenarios/`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from appliance.model.errors import EngineError
from routing.bgp.values import Announcement, Family, Mode, Neighbor, Network
from routing.engines.engine import Event, Lost, Session, SessionState, Synced
from routing.engines.exabgp import ExaBgpEngine
from tests.support.engines import EngineOnLan
from tests.support.lan import Lan
from tests.support.routers.bird import Bird
from tests.support.routers.common import Route, Router
from tests.support.scenario import (
    ACCEPT_ALL,
    ASNS,
    SEND_ALL,
    World,
    attributes,
    client,
    link,
    name_of,
    neighbors,
    only,
    prefix,
    routes_of,
    running,
    speaker,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
MEMBERS = ("bird", "other")
V4 = Family.IPV4
OURS: Network = IPv4Network("203.0.113.0/24")


@pytest.fixture
def world() -> Iterator[World]:
    """Run a route server and two BIRDs; each can be helped through a restart, and helps."""
    with Lan("rs", *MEMBERS, "late") as lan:
        wanted = [each for member in MEMBERS for each in neighbors(lan, member, only(member), restart_time=60)]
        routers = {member: client(lan, member, routes_of(lan, member, 0, 1), restart_time=60) for member in MEMBERS}
        with running(lan, "exabgp", speaker(lan, Mode.TRANSPARENT, wanted), routers) as world:
            settled(world)
            yield world


def settled(world: World) -> None:
    """Wait until each has what the other announces."""
    for member, other in (MEMBERS, reversed(MEMBERS)):
        for family in Family:
            world.expect(member, family, world.announced(other, family))


def engine(world: World) -> ExaBgpEngine:
    """Return the engine object."""
    found = world.engine._engine
    assert isinstance(found, ExaBgpEngine)
    return found


def exabgp(world: World) -> int:
    """Return the pid of ExaBGP."""
    process = engine(world)._process
    assert process is not None
    assert process.pid is not None
    return process.pid


def child(world: World) -> int:
    """Return the pid of ExaBGP's API process."""
    pid = exabgp(world)

    def children() -> list[str]:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    return int(eventually(children, what="exabgp has started its API process")[0])


def incarnations(world: World) -> dict[str, str | None]:
    """Return since when each session is up, as the neighbours see it."""
    return {
        name_of(member, family): world.routers[member].incarnation(world.link(member, family))
        for member in world.routers
        for family in Family
    }


def never_less(world: World, until: Callable[[], bool]) -> None:
    """Look at every table all the time until the condition holds: not one route may be missing at any look."""
    tables = [(m, f, set(world.received(m, f))) for m in MEMBERS for f in Family]

    def held() -> bool:
        for member, family, complete in tables:
            lost = complete - set(world.received(member, family))
            if lost:
                pytest.fail(f"{member} has lost {lost}")
        return until()

    eventually(held, within=60, what="the condition, all routes being there meanwhile")


def since(world: World, count: int) -> list[Event]:
    """Return the events after the first `count`."""
    return world.engine.events[count:]


def test_the_second_apply_does_nothing(world: World) -> None:
    """Same processes, same sessions, no file touched."""
    before = (exabgp(world), child(world), incarnations(world))
    files = {path: path.stat().st_mtime_ns for path in Path(world.engine._directory.name).glob("*.[cj]*")}
    assert files
    world.apply(world.speaker)
    world.apply(replace(world.speaker))
    assert (exabgp(world), child(world), incarnations(world)) == before
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_a_new_daemon_adopts_the_processes(world: World) -> None:
    """Nothing is started, no session moves, and what was learned while nobody looked is known."""
    before = (exabgp(world), child(world), incarnations(world))
    world.engine._await(engine(world).close(stop=False))
    world.routers["bird"].announce(*routes_of(world.lan, "bird", 0, 1, 2))
    for family in Family:
        world.expect("other", family, world.announced("bird", family))
    world.engine._engine = world.engine._await(world.engine._make())
    world.apply(world.speaker)
    assert (exabgp(world), child(world), incarnations(world)) == before
    assert len(world.engine.routes(neighbor=name_of("bird", V4))) == 3


@pytest.mark.parametrize("victim", [exabgp, child])
def test_neighbours_lose_nothing_when_a_process_is_killed(world: World, victim: Callable[[World], int]) -> None:
    """A watcher is told `Lost`, then every best path, then `Synced`; the neighbours keep our routes meanwhile."""
    world.engine.watch()
    eventually(lambda: world.engine.synced, what="the first Synced")
    seen, first, before = len(world.engine.events), victim(world), incarnations(world)
    os.kill(first, signal.SIGKILL)
    never_less(world, lambda: any(isinstance(event, Synced) for event in since(world, seen)))
    assert victim(world) != first
    told = since(world, seen)
    assert isinstance(next(event for event in told if isinstance(event, (Lost, Synced))), Lost)
    assert len(world.engine.best) == 2 * len(MEMBERS) * len(Family)
    settled(world)
    eventually(lambda: all(world.engine.established(n) for n in before), what="every session is back")
    assert not set(incarnations(world).values()) & set(before.values())
    changes = {event.state for event in told if isinstance(event, Session)}
    assert SessionState.ESTABLISHED in changes


@pytest.mark.parametrize("victim", [exabgp, child])
def test_what_goes_while_a_process_is_dead_does_not_stay(world: World, victim: Callable[[World], int]) -> None:
    """End-of-RIB comes when every neighbour has told what it has; then stale routes go, and only those."""
    os.kill(victim(world), signal.SIGKILL)
    world.routers["bird"].announce(*routes_of(world.lan, "bird", 1))
    world.engine.watch()
    for family in Family:
        world.expect("other", family, world.announced("bird", family), within=60)
        world.expect("bird", family, world.announced("other", family), within=60)


def test_policies_and_neighbours_change_beside_sessions_that_stay(world: World) -> None:
    """A policy never moves a session, not even its own; a new neighbour moves nobody."""
    before = incarnations(world)
    wanted = world.speaker
    narrow = replace(only("bird"), max_prefixes=1)
    changed = [replace(n, imports=narrow) if n.name == name_of("bird", V4) else n for n in wanted.neighbors]
    late = Neighbor("late", 64999, world.lan.ipv4("late"), passive=True)
    dynamic = Neighbor("range", 64998, range=IPv4Network("192.0.2.128/25"))
    world.apply(replace(wanted, neighbors=(*changed, late, dynamic), announcements=(Announcement(OURS),)))
    (kept,) = [view.prefix for view in world.engine.routes(neighbor=name_of("bird", V4)) if view.reason is None]
    own = {OURS: attributes(world.lan, "rs", V4, asn=world.speaker.asn)}
    world.expect("other", V4, {kept: world.announced("bird", V4)[kept]} | own)
    world.apply(wanted)
    settled(world)
    assert incarnations(world) == before


def test_a_removed_neighbour_is_told_so_and_keeps_nothing(world: World) -> None:
    """Cease, Peer De-configured: with graceful restart a silent end would leave our routes there as stale."""
    wanted = world.speaker
    rest = [n for n in wanted.neighbors if not n.name.startswith("bird")]
    world.apply(replace(wanted, neighbors=tuple(rest)))
    for family in Family:
        world.expect("bird", family, {})
        world.expect("other", family, {})


def test_the_sessions_of_a_range_outlive_a_reload() -> None:
    """Two neighbours from one range have routes of their own, and stay when another neighbour is added."""
    with Lan("rs", *MEMBERS, "late") as lan:
        asn = ASNS["bird"]
        dynamic = Neighbor("range", asn, range=IPv4Network("192.0.2.0/29"), imports=ACCEPT_ALL, exports=SEND_ALL)
        routes = {m: [Route(prefix(m, 0, V4), attributes(lan, m, V4, 7, asn=asn + i))] for i, m in enumerate(MEMBERS)}
        routers = {m: _dynamic(lan, m, asn, routes[m]) for m in MEMBERS}
        with running(lan, "exabgp", speaker(lan, Mode.TRANSPARENT, [dynamic]), routers) as world:
            eventually(lambda: len(world.engine.sessions()) == 2, what="both are there")
            # The second path holds another AS, so that it may go to the first neighbour.
            world.expect("bird", V4, world.announced("other", V4))
            before = [world.routers[m].incarnation(world.link(m, V4)) for m in MEMBERS]
            late = Neighbor("late", 64999, lan.ipv4("late"), passive=True)
            world.apply(replace(world.speaker, neighbors=(dynamic, late)))
            world.routers["other"].announce()
            world.expect("bird", V4, {})
            assert [world.routers[m].incarnation(world.link(m, V4)) for m in MEMBERS] == before
            world.apply(replace(world.speaker, neighbors=(late,)))
            eventually(lambda: [v.name for v in world.engine.sessions()] == ["late"], what="the range is gone")


def _dynamic(lan: Lan, member: str, asn: int, routes: list[Route]) -> Callable[[], Router]:
    return lambda: Bird(lan, member, asn, [link(lan, member, V4)], routes)


def test_a_stopped_engine_takes_leave(world: World) -> None:
    """Cease, Administrative Shutdown: the neighbours do not wait for our return."""
    begun = time.monotonic()
    world.engine._await(engine(world).close(stop=True))
    for member in MEMBERS:
        for family in Family:
            world.expect(member, family, {})
    assert time.monotonic() - begun < 30, "the neighbours' restart time ran instead"
    world.engine._engine = world.engine._await(world.engine._make())
    world.apply(world.speaker)
    settled(world)


def test_a_process_that_cannot_start_says_why() -> None:
    """An address that is not there: the operator reads the reason in the error."""
    with Lan("rs") as lan:
        wanted = replace(speaker(lan, Mode.TRANSPARENT, []), listen=(lan.ipv4("rs") + 77,))
        with EngineOnLan("exabgp", lan, "rs") as runner, pytest.raises(EngineError, match="exabgp does not run"):
            runner.apply(wanted)
