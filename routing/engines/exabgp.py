"""The engine that runs ExaBGP: sessions and messages are ExaBGP's, tables and policies are ours, in its API process.

Called by the control layer through the port `Engine`. Three processes: the daemon (here), ExaBGP (started by
`exabgp_wrapper`), and ExaBGP's API process (`exabgp_child`). The latter two serve on when the daemon dies and are adopted
by the next one; if one of them dies, the other ends or starts it again, and a watcher is told `Lost` until all is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from appliance.model.errors import EngineError
from routing.bgp.codec import speaker_to_json
from routing.bgp.values import Network, Speaker
from routing.engines import wire
from routing.engines.engine import Event, Lost, RouteView, SessionView
from routing.engines.exabgp_config import configuration, environment
from routing.engines.exabgp_files import Files
from routing.engines.exabgp_server import LIMIT
from routing.engines.process import Backoff, Process

_log = structlog.get_logger(__name__)

#: Where `routing` is imported from, installed or not.
PACKAGES = Path(__file__).parents[2]
#: How long a process may take to answer, in seconds.
PATIENCE = 30.0
#: RFC 4486: Administrative Shutdown.
SHUTDOWN = 2
Json = dict[str, Any]


class ExaBgpEngine:
    """One speaker run by ExaBGP; everything about it is in `directory`."""

    def __init__(self, directory: Path) -> None:
        """Nothing starts before `apply`."""
        self._files = Files(directory)
        self._speaker: Speaker | None = None
        self._process: Process | None = None
        self._applied = asyncio.Event()
        self._lock = asyncio.Lock()
        self._closed = False

    async def apply(self, speaker: Speaker) -> None:
        """Start or adopt the process and make it `speaker`; a second call with an equal value does nothing."""
        async with self._lock:
            self._speaker = speaker
            await self._bring_up(speaker)
            self._applied.set()

    async def sessions(self) -> tuple[SessionView, ...]:
        """Return one view per configured neighbour and per session of a range."""
        if self._process is not None:
            self._process.trim_log()
        return tuple(wire.session_from_json(item) for item in await self._ask({"method": "sessions"}))

    async def routes(self, prefix: Network | None = None, neighbor: str | None = None) -> tuple[RouteView, ...]:
        """Return paths received (refused ones too) and originated."""
        asked = {"method": "routes", "prefix": None if prefix is None else str(prefix), "neighbor": neighbor}
        return tuple(wire.route_from_json(item) for item in await self._ask(asked))

    async def watch(self) -> AsyncIterator[tuple[Event, ...]]:
        """Yield batches of events for ever; whenever the process is gone, `Lost`, and it is brought up again."""
        backoff = Backoff()
        while self._open():
            await self._applied.wait()
            try:
                async for batch in self._stream():
                    backoff.reset()
                    yield batch
                detail = "the API process of exabgp ended"
            except (EngineError, OSError) as error:
                detail = str(error)
            if not self._open():
                return
            _log.warning("engine-lost", engine="exabgp", detail=detail)
            yield (Lost(detail),)
            await asyncio.sleep(backoff.next())
            await self._recover()

    async def close(self, *, stop: bool) -> None:
        """Let go of the processes; `stop` ends them, after telling the neighbours that it is for good."""
        self._closed = True
        self._applied.set()
        async with self._lock:
            if self._process is None:
                return
            if stop:
                with contextlib.suppress(EngineError):
                    async with asyncio.timeout(PATIENCE):
                        await self._cease()
                await self._process.stop()
                self._files.forget_established()
            self._process.release()
            self._process = None

    def _open(self) -> bool:
        return not self._closed

    async def _bring_up(self, speaker: Speaker) -> None:
        self._files.write_speaker(speaker)
        self._files.write_configuration(configuration(speaker, sys.executable))
        process = self._process_for(speaker)
        if self._process is not None and process.env != self._process.env:
            self._process.release()
            self._process = None
        self._process = self._process or process
        await self._process.ensure()
        self._process.trim_log()
        await self._ask({"method": "apply", "speaker": speaker_to_json(speaker)}, starting=True)

    def _process_for(self, speaker: Speaker) -> Process:
        directory = self._files.directory
        argv = (sys.executable, "-m", "routing.engines.exabgp_wrapper", "server", str(self._files.configuration))
        return Process("exabgp", argv, environment(speaker, str(directory), str(PACKAGES)), directory)

    def _last_words(self) -> str:
        """Return the end of the process's log."""
        try:
            lines = (self._files.directory / "exabgp.log").read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log"
        return lines[-1] if lines else "its log is empty"

    async def _recover(self) -> None:
        """Bring the process up again; if that fails the next turn of `watch` says so."""
        async with self._lock:
            if self._speaker is not None and self._open():
                with contextlib.suppress(EngineError, OSError):
                    await self._bring_up(self._speaker)

    async def _cease(self) -> None:
        """Part from all neighbours with a NOTIFICATION and wait until it is out."""
        await self._ask({"method": "cease", "subcode": SHUTDOWN})
        while any(view.uptime is not None for view in await self.sessions()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)

    async def _stream(self) -> AsyncIterator[tuple[Event, ...]]:
        reader, writer = await self._connect(starting=False)
        try:
            writer.write(b'{"id": 0, "method": "watch"}\n')
            while line := await reader.readline():
                yield tuple(wire.event_from_json(item) for item in json.loads(line)["events"])
        finally:
            writer.close()

    async def _ask(self, request: Json, *, starting: bool = False) -> list[Any]:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await self._connect(starting=starting)
                with contextlib.closing(writer):
                    return await _exchange(reader, writer, request)
        except TimeoutError as error:
            raise EngineError(f"exabgp: no answer to {request['method']}") from error
        except OSError as error:
            raise EngineError(f"exabgp: {request['method']}: {error}") from error

    async def _connect(self, *, starting: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the API process; while it starts, wait for its socket."""
        while True:
            try:
                return await asyncio.open_unix_connection(self._files.socket, limit=LIMIT)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if not starting or self._process is None or not self._process.alive():
                    raise EngineError(f"exabgp does not run: {self._last_words()}") from error
            await asyncio.sleep(0.02)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Json) -> list[Any]:
    writer.write(json.dumps({"id": 1, **request}).encode() + b"\n")
    await writer.drain()
    result: list[Any] = []
    while line := await reader.readline():
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        if "part" not in answer:
            return result
        result += answer["part"]
    raise EngineError("exabgp's API process ended while it answered")
