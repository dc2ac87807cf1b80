"""What is our own engine's: its process as the daemon meets it.

Real processes and BIRD in namespaces. The scenarios that every engine must pass are in `scenarios/`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.model.errors import EngineError
from routing.bgp.values import Family, Mode, Neighbor
from routing.engines.engine import Lost, Session, SessionState, Synced
from routing.engines.files import Files
from routing.engines.native.engine import NativeEngine
from routing.engines.native.privileges import USERS
from tests.support.engines import EngineOnLan
from tests.support.lan import Lan
from tests.support.scenario import World, client, name_of, neighbors, only, routes_of, running, speaker
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
MEMBERS = ("bird", "other")
V4 = Family.IPV4


@pytest.fixture
def world() -> Iterator[World]:
    """Run a route server and two BIRDs; each can be helped through a restart, and helps."""
    with Lan("rs", *MEMBERS) as lan:
        wanted = [each for member in MEMBERS for each in neighbors(lan, member, only(member), restart_time=60)]
        routers = {member: client(lan, member, routes_of(lan, member, 0, 1), restart_time=60) for member in MEMBERS}
        with running(lan, "native", speaker(lan, Mode.TRANSPARENT, wanted), routers) as world:
            settled(world)
            yield world


def settled(world: World) -> None:
    """Wait until each has what the other announces."""
    for member, other in (MEMBERS, reversed(MEMBERS)):
        for family in Family:
            world.expect(member, family, world.announced(other, family))


def directory(engine: EngineOnLan) -> Path:
    """Return where the engine keeps its files."""
    return Path(engine._directory.name)


def process(engine: EngineOnLan) -> int:
    """Return the pid of the process."""
    found = engine._engine
    assert isinstance(found, NativeEngine)
    assert found._process is not None
    assert found._process.pid is not None
    return found._process.pid


def status(pid: int) -> dict[str, list[str]]:
    """Return what the kernel says of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: value.split() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_the_process_serves_without_root(world: World) -> None:
    """What it must write belongs to its user, all else to root; it has no threads and nothing of its parent's."""
    found = status(process(world.engine))
    uids = {
        str(line.split(":")[2]) for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[0] in USERS
    }
    assert set(found["Uid"]) <= uids
    assert (found["CapEff"], found["CapBnd"], found["NoNewPrivs"], found["Threads"]) == (
        ["0" * 16],
        ["0" * 16],
        ["1"],
        ["1"],
    )
    place = directory(world.engine)
    owners = {path.name: (path.stat().st_uid, path.stat().st_mode & 0o077) for path in place.iterdir()}
    assert owners.pop("state") == (int(found["Uid"][0]), 0)
    assert set(owners.values()) == {(0, 0)}
    eventually(lambda: len(Files.apart(place).established()) == 4, what="who is up is kept")


def test_the_second_apply_does_nothing(world: World) -> None:
    """Same process, same sessions, no file touched."""
    before, place = process(world.engine), directory(world.engine)
    written = (place / "speaker.json").stat().st_mtime_ns
    since = [world.routers[m].incarnation(world.link(m, V4)) for m in MEMBERS]
    world.apply(replace(world.speaker))
    assert process(world.engine) == before
    assert (place / "speaker.json").stat().st_mtime_ns == written
    assert [world.routers[m].incarnation(world.link(m, V4)) for m in MEMBERS] == since


def test_another_address_or_identity_is_another_process(world: World) -> None:
    """Sockets are bound before root is given up; neighbours are helped through the change."""
    before = process(world.engine)
    world.apply(replace(world.speaker, port=1179))
    assert process(world.engine) != before
    world.apply(replace(world.speaker, port=179))
    settled(world)


def test_a_watcher_is_told_of_the_death_of_the_process(world: World) -> None:
    """Then of every session, and that this is all; the neighbours have kept our routes meanwhile."""
    world.engine.watch()
    eventually(lambda: world.engine.synced, what="the first Synced")
    seen = len(world.engine.events)
    os.kill(process(world.engine), signal.SIGKILL)
    eventually(
        lambda: any(isinstance(event, Synced) for event in world.engine.events[seen:]), what="Synced again", within=60
    )
    told = world.engine.events[seen:]
    assert isinstance(told[0], Lost)
    up = {event.name for event in told if isinstance(event, Session) and event.state is SessionState.ESTABLISHED}
    assert up == {name_of(member, family) for member in MEMBERS for family in Family}
    settled(world)


def test_a_stopped_engine_takes_leave(world: World) -> None:
    """Cease, Administrative Shutdown: the neighbours do not wait for our return, nor the next process for theirs."""
    world.engine.stop()
    for member in MEMBERS:
        for family in Family:
            world.expect(member, family, {})
    assert Files.apart(directory(world.engine)).established() == ()
    world.engine._engine = world.engine._await(world.engine._make())
    world.apply(world.speaker)
    settled(world)


def test_a_process_that_cannot_start_says_why() -> None:
    """A port that is taken: the operator reads the reason in the error, and a later apply succeeds."""
    with Lan("rs") as lan:
        wanted = speaker(lan, Mode.TRANSPARENT, [Neighbor("late", 64999, lan.ipv4("rs") + 9, passive=True)])
        with EngineOnLan("native", lan, "rs") as first, EngineOnLan("native", lan, "rs") as second:
            first.apply(wanted)
            with pytest.raises(EngineError, match=r"native does not run: .*Address already in use"):
                second.apply(wanted)
            first.stop()
            second.apply(wanted)
            first._engine = first._await(first._make())
            assert [view.name for view in second.sessions()] == ["late"]
