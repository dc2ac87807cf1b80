"""The daemon's side of an engine of our own RIB, against a process that says what the test wants."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.model.errors import EngineError
from routing.bgp.values import Attributes, Mode, Neighbor, Speaker
from routing.engines import ribengine, wire
from routing.engines.engine import Event, Lost, RouteView, SessionState, SessionView
from routing.engines.files import Files
from routing.engines.process import Process
from routing.engines.ribengine import RibEngine
from tests.support.waiting import eventually_async

SPEAKER = Speaker("rs", Mode.ROUTER, 65000, IPv4Address(1), (), neighbors=(Neighbor("n", 1, IPv4Address(2)),))
ROUTES = [
    RouteView(ip_network((n << 8, 24)), "n", IPv4Address(2), Attributes(IPv4Address(2 + n // 3))) for n in range(6)
]
SESSION = SessionView("n", IPv4Address(2), 1, SessionState.ESTABLISHED, uptime=5.0)

# Writes down every request, answers from a file, says who it is to watchers, and leaves its socket behind when it is killed.
PROGRAM = """
import asyncio, json, os, sys
from pathlib import Path
place = Path(sys.argv[1])
place.joinpath("rib.sock").unlink(missing_ok=True)
async def serve(reader, writer):
    while line := await reader.readline():
        with open(place / "heard", "ab") as heard:
            heard.write(line)
        if not line.startswith(b'{"id"'):
            continue
        request = json.loads(line)
        if request["method"] == "watch":
            writer.write(json.dumps({"events": [{"kind": "lost", "detail": str(os.getpid())}]}).encode() + b"\\n")
            await writer.drain()
            await reader.read()
            return
        if request["method"] == "sessions" and place.joinpath("dying").exists():
            writer.write(b'{"id": 1, "part": [')
            await writer.drain()
            os._exit(1)
        if request["method"] == "cease":
            place.joinpath("sessions").write_text("")
        for part in place.joinpath(request["method"]).read_text().splitlines():
            writer.write(part.encode() + b"\\n")
        writer.write(json.dumps({"id": request["id"], "result": True}).encode() + b"\\n")
        await writer.drain()
async def main():
    async with await asyncio.start_unix_server(serve, place / "rib.sock") as server:
        await server.serve_forever()
if place.joinpath("broken").exists():
    sys.exit("it cannot be")
asyncio.run(main())
"""


class Scripted(RibEngine):
    """An engine whose process is the program above."""

    def __init__(self, directory: Path) -> None:
        super().__init__("scripted", Files(directory))

    def _process_for(self, speaker: Speaker) -> Process:
        argv = (sys.executable, "-c", PROGRAM, str(self._files.directory))
        return Process("scripted", argv, {"PORT": str(speaker.port)}, self._files.directory)

    def _request(self, speaker: Speaker) -> Iterator[bytes]:
        yield json.dumps({"id": 1, "method": "apply"}).encode() + b"\n"
        for neighbor in speaker.neighbors:
            yield neighbor.name.encode() + b"\n"


class Stage:
    """A directory with answers, and the engines made for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.answer("apply")
        self.answer("cease")
        self.answer("sessions", [wire.session_to_json(SESSION)])
        self.answer("routes", *([wire.route_to_json(view)] for view in ROUTES))
        self.engine = Scripted(directory)

    def answer(self, method: str, *parts: list[Any]) -> None:
        """Let the process answer in these parts."""
        (self.directory / method).write_text("".join(json.dumps({"id": 1, "part": part}) + "\n" for part in parts))

    def heard(self, word: str) -> int:
        """Return how often the process heard a word."""
        return (self.directory / "heard").read_text().count(word)

    @property
    def pid(self) -> int:
        """The process."""
        assert self.engine._process is not None
        assert self.engine._process.pid is not None
        return self.engine._process.pid


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Give a stage; its process is ended."""
    stage = Stage(tmp_path)
    yield stage
    await Scripted(tmp_path).close(stop=True)


async def test_the_process_is_started_and_told_line_by_line(stage: Stage) -> None:
    """The desired state is in its file before it starts."""
    await stage.engine.apply(SPEAKER)
    assert Files(stage.directory).speaker() == SPEAKER
    heard = stage.directory / "heard"
    await eventually_async(lambda: heard.read_text().splitlines() == ['{"id": 1, "method": "apply"}', "n"])


async def test_lists_come_in_parts_and_share_their_attributes(stage: Stage) -> None:
    """A table has many prefixes for each attribute set."""
    await stage.engine.apply(SPEAKER)
    views = await stage.engine.routes(ip_network("10.0.0.0/8"), "n")
    assert views == tuple(ROUTES)
    assert len({id(view.attributes) for view in views}) == 2
    assert stage.heard('"prefix": "10.0.0.0/8", "neighbor": "n"') == 1
    assert await stage.engine.sessions() == (SESSION,)


async def test_a_refusal_is_an_error(stage: Stage) -> None:
    """In the words of the process."""
    (stage.directory / "apply").write_text('{"id": 1, "error": "not so"}\n')
    with pytest.raises(EngineError, match="not so"):
        await stage.engine.apply(SPEAKER)


async def test_a_process_that_cannot_start_says_why(stage: Stage) -> None:
    """Its last words are the error."""
    (stage.directory / "broken").touch()
    with pytest.raises(EngineError, match="scripted does not run: it cannot be"):
        await stage.engine.apply(SPEAKER)


async def test_a_process_that_does_not_answer_is_waited_for_only_so_long(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon has other things to do."""
    await stage.engine.apply(SPEAKER)
    monkeypatch.setattr(ribengine, "PATIENCE", 0.3)
    os.kill(stage.pid, signal.SIGSTOP)
    try:
        with pytest.raises(EngineError, match="no answer"):
            await stage.engine.sessions()
    finally:
        os.kill(stage.pid, signal.SIGCONT)


async def test_an_answer_that_breaks_off_is_an_error(stage: Stage) -> None:
    """In the middle of a line, too."""
    await stage.engine.apply(SPEAKER)
    (stage.directory / "dying").touch()
    with pytest.raises(EngineError, match="the process of scripted ended while it answered"):
        await stage.engine.sessions()


async def test_another_daemon_adopts_the_process_unless_it_must_be_another(stage: Stage) -> None:
    """Other arguments or environment: another process."""
    await stage.engine.apply(SPEAKER)
    first = stage.pid
    await stage.engine.close(stop=False)
    stage.engine = Scripted(stage.directory)
    await stage.engine.apply(SPEAKER)
    assert stage.pid == first
    await stage.engine.apply(replace(SPEAKER, port=1179))
    assert stage.pid != first


async def test_a_watcher_is_told_of_a_death_and_the_process_is_back(stage: Stage) -> None:
    """It is told again what to be."""
    await stage.engine.apply(SPEAKER)
    first, said = stage.pid, list[Event]()
    async with aclosing(cast("Any", stage.engine.watch(routes=False))) as batches:
        async for batch in batches:
            said += batch
            if said == [Lost(str(first))]:
                os.kill(first, signal.SIGKILL)
            elif len(said) > 2:
                break
    assert stage.pid != first
    assert said[1:] == [Lost("the process of scripted ended"), Lost(str(stage.pid))]
    assert stage.heard('"routes": false') == 2
    assert stage.heard('"apply"') == 2


async def test_stopping_takes_leave_of_the_neighbours_first(stage: Stage) -> None:
    """Until no session is up; nobody waits for our return then."""
    await stage.engine.apply(SPEAKER)
    Files(stage.directory).write_established([IPv4Address(2)])
    process = stage.engine._process
    assert process is not None
    await stage.engine.close(stop=True)
    assert stage.heard('"cease", "subcode": 2') == 1
    assert not process.alive()
    assert Files(stage.directory).established() == ()


async def test_what_an_earlier_daemon_left_is_ended_by_who_never_applied(stage: Stage) -> None:
    """A speaker that is no longer wanted is ended by an engine that is made for that alone."""
    await stage.engine.apply(SPEAKER)
    left, heir = stage.engine._process, Scripted(stage.directory)
    assert left is not None
    await heir.close(stop=True)
    assert not left.alive()
    assert stage.heard('"cease"') == 1


async def test_closing_ends_a_watch(stage: Stage) -> None:
    """No `Lost` for what was let go."""
    await stage.engine.apply(SPEAKER)
    said: list[Event] = []

    async def collect() -> None:
        async for batch in stage.engine.watch():
            said.extend(batch)

    task = asyncio.create_task(collect())
    await eventually_async(lambda: said)
    await stage.engine.close(stop=True)
    async with asyncio.timeout(20):
        await task
    assert len(said) == 1
