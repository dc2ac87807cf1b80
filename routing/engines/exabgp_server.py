"""The daemon's side door into the API process: requests and events as JSON lines on a Unix socket.

Called by `routing.engines.exabgp_child`. A watcher that does not keep up is cut off; it comes again and starts with a
fresh snapshot. Long answers go in parts, so that ExaBGP is heard in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from appliance.model.errors import EdgewayError
from routing.bgp.codec import speaker_from_json
from routing.bgp.values import Speaker
from routing.engines import wire
from routing.engines.engine import Best, Event
from routing.engines.exabgp_core import Core

#: One line may hold a whole speaker.
LIMIT = 256 << 20
PART = 1000
#: Batches that a watcher may be behind.
BEHIND = 10_000
#: How often a watcher to whom nothing happens is looked after, in seconds.
LOOK_AROUND = 5.0

Json = dict[str, Any]


class Watcher:
    """What waits for one who watches; `routes`: whether best paths are wanted."""

    def __init__(self, *, routes: bool) -> None:
        """Nothing waits yet."""
        self._routes = routes
        self.waiting: asyncio.Queue[tuple[Event, ...]] = asyncio.Queue()

    def put(self, events: tuple[Event, ...]) -> None:
        """Let it wait."""
        wanted = events if self._routes else tuple(event for event in events if not isinstance(event, Best))
        if wanted:
            self.waiting.put_nowait(wanted)


class Server:
    """Answers the daemon."""

    def __init__(self, core: Core, apply: Callable[[Speaker], Awaitable[None]], command: Callable[[str], None]) -> None:
        """Take whom to ask, how to change the speaker and how to command ExaBGP."""
        self._core, self._apply, self._command = core, apply, command
        self._watchers: dict[asyncio.StreamWriter, Watcher] = {}

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Listen on a socket that only our user may open."""
        _remove(path)
        mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, path, limit=LIMIT)
        finally:
            os.umask(mask)
        async with server:
            yield

    def publish(self, events: tuple[Event, ...]) -> None:
        """Tell all watchers; let go of those too far behind."""
        for writer, watcher in list(self._watchers.items()):
            if watcher.waiting.qsize() > BEHIND:
                del self._watchers[writer]
                writer.close()
            else:
                watcher.put(events)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                while line := await reader.readline():
                    request = json.loads(line)
                    if request["method"] == "watch":
                        await self._watch(reader, writer, Watcher(routes=request.get("routes", True)))
                        return
                    await self._answer(request, writer)
            finally:
                self._watchers.pop(writer, None)
                writer.close()

    async def _answer(self, request: Json, writer: asyncio.StreamWriter) -> None:
        try:
            for part in await self._result(request):
                await _send(writer, {"id": request["id"], "part": part})
            answer: Json = {"id": request["id"], "result": True}
        except EdgewayError as error:
            answer = {"id": request["id"], "error": str(error)}
        await _send(writer, answer)

    async def _result(self, request: Json) -> Iterator[list[Json]]:
        match request["method"]:
            case "apply":
                await self._apply(speaker_from_json(request["speaker"]))
                return iter(())
            case "sessions":
                return _parts([wire.session_to_json(view) for view in self._core.sessions(time.monotonic())])
            case "routes":
                prefix = ip_network(request["prefix"]) if request["prefix"] else None
                return (
                    [wire.route_to_json(view) for view in part]
                    for part in _parts(self._core.routes(prefix, request["neighbor"]))
                )
            case "cease":
                self._command(f"@cease {request['subcode']}")
                return iter(())
            case _:
                raise EdgewayError(f"no such method: {request['method']}")

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watcher: Watcher) -> None:
        """Stream events until the connection ends: the snapshot first, what happens meanwhile after it."""
        for part in _parts(self._core.snapshot()):
            watcher.put(tuple(part))
        self._watchers[writer] = watcher
        while writer in self._watchers and not reader.at_eof():
            try:
                async with asyncio.timeout(LOOK_AROUND):
                    batch = await watcher.waiting.get()
            except TimeoutError:
                continue
            await _send(writer, {"events": [wire.event_to_json(event) for event in batch]})


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _send(writer: asyncio.StreamWriter, data: Json) -> None:
    writer.write(json.dumps(data).encode() + b"\n")
    await writer.drain()


def _parts(items: Any) -> Iterator[Any]:
    for start in range(0, len(items), PART):
        yield items[start : start + PART]
