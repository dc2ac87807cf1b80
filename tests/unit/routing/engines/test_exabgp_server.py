from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import EngineError
from routing.bgp.codec import speaker_to_json
from routing.bgp.nlri import pack
from routing.bgp.routeserver import Bests
from routing.bgp.values import Announcement, Family, Mode, Neighbor, Speaker
from routing.engines import answers, exabgp_server, wire
from routing.engines.engine import Best, Synced
from routing.engines.exabgp_core import Core
from routing.engines.exabgp_server import Server
from tests.support.waiting import eventually_async

PREFIXES = [ip_network((0x0A000000 + (n << 8), 24)) for n in range(2500)]
SPEAKER = Speaker(
    "rs",
    Mode.ROUTER,
    65000,
    IPv4Address(1),
    (),
    neighbors=(Neighbor("n", 65001, IPv4Address("192.0.2.1")),),
    announcements=tuple(Announcement(prefix) for prefix in PREFIXES),
)


class Box:
    """A server on a core, and what it was asked to do."""

    def __init__(self) -> None:
        """Begin with a speaker that originates routes."""
        self.core = Core(SPEAKER, 0)
        self.core.settle()
        self.core.take_events()
        self.applied: list[Speaker] = []
        self.commands: list[str] = []
        self.server = Server(self.core, self.apply, self.commands.append)

    def watched(self) -> bool:
        """Tell whether best paths are news."""
        return self.core.server.watched

    async def apply(self, speaker: Speaker) -> None:
        """Refuse a speaker without neighbours."""
        if not speaker.neighbors:
            raise EngineError("another process is needed")
        self.applied.append(speaker)


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Box]:
    """Serve on a socket."""
    box = Box()
    async with box.server.listening(path):
        yield box


async def ask(path: Path, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask once; return all lines of the answer."""
    reader, writer = await asyncio.open_unix_connection(path, limit=exabgp_server.LIMIT)
    writer.write(json.dumps({"id": 1, **request}).encode() + b"\n")
    lines = [json.loads(await reader.readline())]
    while "part" in lines[-1]:
        lines.append(json.loads(await reader.readline()))
    writer.close()
    return lines


async def test_requests_are_answered(tmp_path: Path) -> None:
    """Sessions, routes in parts, commands; an error is an answer too."""
    path = tmp_path / "s"
    async with serving(path) as box:
        assert path.stat().st_mode & 0o777 == 0o600
        (sessions, end) = await ask(path, {"method": "sessions"})
        assert [wire.session_from_json(item).name for item in sessions["part"]] == ["n"]
        assert end == {"id": 1, "result": True}
        *parts, _ = await ask(path, {"method": "routes", "prefix": None, "neighbor": None})
        assert len(parts) > 1
        assert sum(len(part["part"]) for part in parts) == len(PREFIXES)
        one, _ = await ask(path, {"method": "routes", "prefix": str(PREFIXES[3]), "neighbor": "local"})
        assert wire.route_from_json(one["part"][0]).prefix == PREFIXES[3]
        await ask(path, {"method": "cease", "subcode": 2})
        assert box.commands == ["@cease 2"]
        wanted = replace(SPEAKER, announcements=())
        assert await ask(path, {"method": "apply", "speaker": speaker_to_json(wanted)}) == [{"id": 1, "result": True}]
        assert box.applied == [wanted]
        nobody = speaker_to_json(replace(SPEAKER, neighbors=()))
        assert await ask(path, {"method": "apply", "speaker": nobody}) == [
            {"id": 1, "error": "another process is needed"}
        ]
        assert "error" in (await ask(path, {"method": "fly"}))[0]


async def test_a_watcher_is_told_everything_and_then_what_happens(tmp_path: Path) -> None:
    """In that order, however long everything is; best paths are news as long as somebody watches."""
    path = tmp_path / "s"
    async with serving(path) as box:
        assert not box.watched()
        reader, writer = await asyncio.open_unix_connection(path, limit=exabgp_server.LIMIT)
        writer.write(b'{"id": 0, "method": "watch"}\n')
        events: list[object] = []
        while Synced() not in events:
            events += [wire.event_from_json(item) for item in json.loads(await reader.readline())["events"]]
        assert {event.prefix for event in events[:-1] if isinstance(event, Best)} == set(PREFIXES)
        assert box.watched()
        box.core.configure(replace(SPEAKER, announcements=SPEAKER.announcements[1:]), 0)
        box.server.publish(box.core.take_events())
        (gone,) = json.loads(await reader.readline())["events"]
        assert wire.event_from_json(gone) == Best(PREFIXES[0], None)
        writer.close()
        await writer.wait_closed()
        box.server.publish((Synced(),))
        await eventually_async(lambda: not box.server._listeners, what="the watcher that left is forgotten")
        assert not box.watched()


async def test_a_watcher_who_wants_no_routes_hears_the_rest(tmp_path: Path) -> None:
    """A route server's daemon installs nothing."""
    path = tmp_path / "s"
    async with serving(path) as box:
        reader, writer = await asyncio.open_unix_connection(path, limit=exabgp_server.LIMIT)
        writer.write(b'{"id": 0, "method": "watch", "routes": false}\n')
        await eventually_async(lambda: box.server._listeners, what="the server knows its watcher")
        box.server.publish((Best(PREFIXES[0], None),))
        box.server.publish((Best(PREFIXES[0], None), Synced()))
        heard: list[object] = []
        while len(heard) < 2:
            heard += json.loads(await reader.readline())["events"]
        assert heard == [{"kind": "synced"}] * 2
        assert not box.watched()
        writer.close()


async def test_a_watcher_that_does_not_listen_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes again and gets a fresh snapshot; memory does not grow meanwhile."""
    monkeypatch.setattr(answers, "BEHIND", 1 << 18)
    path = tmp_path / "s"
    async with serving(path) as box:
        reader, writer = await asyncio.open_unix_connection(path, limit=1)
        writer.write(b'{"id": 0, "method": "watch"}\n')
        await eventually_async(lambda: box.server._listeners, what="the server knows its watcher")
        many = (Bests(Family.IPV4, pack(PREFIXES), None),)

        def cut_off() -> bool:
            box.server.publish(many)
            return not box.server._listeners

        await eventually_async(cut_off, what="the watcher is let go")
        heard = await reader.read(-1)
        assert not heard.endswith(b"\n")
        writer.close()
