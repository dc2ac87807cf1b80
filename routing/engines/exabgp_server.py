"""The daemon's side door into the API process: requests and events as JSON lines on a Unix socket.

Called by `routing.engines.exabgp_child`. A watcher that does not keep up is cut off; it comes again and starts with
everything. Long answers go line by line, so that ExaBGP is heard in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from appliance.model.errors import EdgewayError
from routing.bgp.codec import RuleSets, speaker_from_json
from routing.bgp.values import Speaker
from routing.engines import answers
from routing.engines.answers import Watcher
from routing.engines.exabgp_core import Core
from routing.engines.views import News

#: One line may hold a whole speaker.
LIMIT = 256 << 20
#: How often a watcher to whom nothing happens is looked after, in seconds.
LOOK_AROUND = 5.0

Json = dict[str, Any]


class Listener(NamedTuple):
    """One who watches, and whether anything waits for it."""

    watcher: Watcher
    ready: asyncio.Event


class Server:
    """Answers the daemon."""

    def __init__(self, core: Core, apply: Callable[[Speaker], Awaitable[None]], command: Callable[[str], None]) -> None:
        """Take whom to ask, how to change the speaker and how to command ExaBGP."""
        self._core, self._apply, self._command = core, apply, command
        self._rules = RuleSets()
        self._listeners: dict[asyncio.StreamWriter, Listener] = {}

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

    def publish(self, news: tuple[News, ...]) -> None:
        """Tell all watchers; let go of those too far behind."""
        for writer, (watcher, ready) in list(self._listeners.items()):
            if watcher.put(news):
                ready.set()
            else:
                self._leave(writer)
                writer.transport.abort()

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
                self._leave(writer)
                writer.close()

    async def _answer(self, request: Json, writer: asyncio.StreamWriter) -> None:
        try:
            await _send(writer, await self._result(request))
        except EdgewayError as error:
            await _send(writer, (answers.end(request["id"], str(error)),))

    async def _result(self, request: Json) -> Iterable[bytes]:
        number = request["id"]
        match request["method"]:
            case "sessions":
                return answers.sessions(self._core, number, time.monotonic())
            case "routes":
                prefix = ip_network(request["prefix"]) if request["prefix"] else None
                return answers.routes(self._core, number, prefix, request["neighbor"])
            case "apply":
                await self._apply(speaker_from_json(request["speaker"], self._rules))
            case "cease":
                self._command(f"@cease {request['subcode']}")
            case method:
                raise EdgewayError(f"no such method: {method}")
        return (answers.end(number),)

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watcher: Watcher) -> None:
        """Stream events until the connection ends: everything first, then what happens."""
        ready = asyncio.Event()
        self._listeners[writer] = Listener(watcher, ready)
        self._core.watch(on=self._wanted())
        await _send(writer, watcher.begin(self._core))
        while writer in self._listeners and not reader.at_eof():
            ready.clear()
            await _send(writer, watcher.news())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AROUND):
                    await ready.wait()

    def _leave(self, writer: asyncio.StreamWriter) -> None:
        if self._listeners.pop(writer, None) is not None:
            self._core.watch(on=self._wanted())

    def _wanted(self) -> bool:
        """Tell whether anybody wants to know best paths."""
        return any(watcher.routes for watcher, _ in self._listeners.values())


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _send(writer: asyncio.StreamWriter, steps: Iterable[bytes]) -> None:
    """Write an answer; a step that is empty was only a part of the work."""
    for line in filter(None, steps):
        writer.write(line)
        await writer.drain()
        await asyncio.sleep(0)
