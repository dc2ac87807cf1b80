"""The daemon's side of an engine whose process holds our own RIB and answers on a Unix socket (`wire`).

Called through the port `Engine`; `exabgp` and `native.engine` say which process that is. It serves on when the daemon dies
and is adopted by the next one; when it dies a watcher is told `Lost`, and it is brought up again with what it was last told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar

import structlog

from appliance.model.errors import EngineError
from routing.bgp.values import Network, Speaker
from routing.engines import wire
from routing.engines.engine import Event, Lost, RouteView, SessionView
from routing.engines.files import Files
from routing.engines.process import Backoff, Process

_log = structlog.get_logger(__name__)

#: How long a process may take for the next line of its answer, in seconds.
PATIENCE: Final = 30.0
#: One line may hold a whole speaker.
LIMIT: Final = 256 << 20
#: RFC 4486: Administrative Shutdown.
SHUTDOWN: Final = 2
Json = dict[str, Any]
T = TypeVar("T")


class RibEngine(ABC):
    """One speaker run by a process of ours; everything about it is in one directory."""

    def __init__(self, name: str, files: Files) -> None:
        """Nothing starts before `apply`."""
        self._name, self._files = name, files
        self._speaker: Speaker | None = None
        self._process: Process | None = None
        self._applied = asyncio.Event()
        self._lock = asyncio.Lock()
        self._closed = False

    @abstractmethod
    def _process_for(self, speaker: Speaker) -> Process:
        """Return the process that can be this speaker; another environment means another process."""

    @abstractmethod
    def _request(self, speaker: Speaker) -> Iterator[bytes]:
        """Yield the lines that tell the process what to be."""

    def _write(self, speaker: Speaker) -> None:
        """Write the files that the process starts with; called in a thread."""
        self._files.write_speaker(speaker)

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
        return tuple(await self._ask([_line({"method": "sessions"})], wire.session_from_json))

    async def routes(self, prefix: Network | None = None, neighbor: str | None = None) -> tuple[RouteView, ...]:
        """Return paths received (refused ones too) and originated."""
        asked = {"method": "routes", "prefix": None if prefix is None else str(prefix), "neighbor": neighbor}
        attributes = wire.Shared()
        return tuple(await self._ask([_line(asked)], lambda item: wire.route_from_json(item, attributes)))

    async def watch(self, *, routes: bool = True) -> AsyncIterator[tuple[Event, ...]]:
        """Yield batches of events for ever; whenever the process is gone, `Lost`, and it is brought up again."""
        backoff = Backoff()
        while self._open():
            await self._applied.wait()
            try:
                async for batch in self._stream(routes=routes):
                    backoff.reset()
                    yield batch
                detail = f"the process of {self._name} ended"
            except (EngineError, OSError) as error:
                detail = str(error)
            if not self._open():
                return
            _log.warning("engine-lost", engine=self._name, detail=detail)
            yield (Lost(detail),)
            await asyncio.sleep(backoff.next())
            await self._recover()

    async def close(self, *, stop: bool) -> None:
        """Let go of the process; `stop` ends it, after telling the neighbours that it is for good."""
        self._closed = True
        self._applied.set()
        async with self._lock:
            if stop:
                await self._end()
            if self._process is not None:
                self._process.release()
            self._process = None

    def _open(self) -> bool:
        return not self._closed

    async def _end(self) -> None:
        """End the process, also one that an earlier daemon left and nobody has adopted."""
        with contextlib.suppress(EngineError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._cease()
        process = self._process or Process(self._name, (sys.executable,), {}, self._files.directory)
        await process.stop()
        self._files.forget_established()

    async def _bring_up(self, speaker: Speaker) -> None:
        # In a thread: the text of many neighbours takes long to write, and the FIB must not wait.
        await asyncio.to_thread(self._write, speaker)
        process = self._process_for(speaker)
        if self._process is not None and process.env != self._process.env:
            self._process.release()
            self._process = None
        self._process = self._process or process
        await self._process.ensure()
        self._process.trim_log()
        await self._tell(speaker)

    async def _tell(self, speaker: Speaker) -> None:
        """Tell the process, which may still be starting, what to be."""
        await self._ask(self._request(speaker), wire.session_from_json, starting=True)

    def _last_words(self) -> str:
        """Return the end of the process's log."""
        try:
            lines = (self._files.directory / f"{self._name}.log").read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log" if self._process is None else f"see {self._process.log}"
        return lines[-1] if lines else "its log is empty"

    async def _recover(self) -> None:
        """Bring the process up again; if that fails the next turn of `watch` says so."""
        async with self._lock:
            if self._speaker is not None and self._open():
                with contextlib.suppress(EngineError, OSError):
                    await self._bring_up(self._speaker)

    async def _cease(self) -> None:
        """Part from all neighbours with a NOTIFICATION and wait until it is out."""
        await self._ask([_line({"method": "cease", "subcode": SHUTDOWN})], wire.session_from_json)
        while any(view.uptime is not None for view in await self.sessions()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)

    async def _stream(self, *, routes: bool) -> AsyncIterator[tuple[Event, ...]]:
        reader, writer = await self._connect(starting=False)
        attributes = wire.Shared()
        try:
            writer.write(_line({"id": 0, "method": "watch", "routes": routes}))
            while line := await _read_line(reader):
                yield tuple(wire.event_from_json(item, attributes) for item in json.loads(line)["events"])
        finally:
            writer.close()

    async def _ask(
        self, request: Iterator[bytes] | list[bytes], read: Callable[[Json], T], *, starting: bool = False
    ) -> list[T]:
        """Send the lines of a request; return what `read` makes of the answer."""
        try:
            async with asyncio.timeout(PATIENCE) as patience:
                reader, writer = await self._connect(starting=starting)
                with contextlib.closing(writer):
                    for line in request:
                        writer.write(line)
                        await _pause(patience)
                        await writer.drain()
                    return await self._answer(reader, read, patience)
        except TimeoutError as error:
            raise EngineError(f"{self._name}: no answer") from error
        except OSError as error:
            raise EngineError(f"{self._name}: {error}") from error

    async def _answer(
        self, reader: asyncio.StreamReader, read: Callable[[Json], T], patience: asyncio.Timeout
    ) -> list[T]:
        result: list[T] = []
        while line := await _read_line(reader):
            answer = json.loads(line)
            if "error" in answer:
                raise EngineError(answer["error"])
            if "part" not in answer:
                return result
            result += map(read, answer["part"])
            await _pause(patience)
        raise EngineError(f"the process of {self._name} ended while it answered")

    async def _connect(self, *, starting: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the process; while it starts, wait for its socket."""
        while True:
            try:
                return await asyncio.open_unix_connection(self._files.socket, limit=LIMIT)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if not starting or self._process is None or not self._process.alive():
                    raise EngineError(f"{self._name} does not run: {self._last_words()}") from error
            await asyncio.sleep(0.02)


def _line(request: Json) -> bytes:
    return json.dumps({"id": 1, **request}).encode() + b"\n"


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Return a whole line; what a process could not finish before its end is nothing."""
    line = await reader.readline()
    return line if line.endswith(b"\n") else b""


async def _pause(patience: asyncio.Timeout) -> None:
    """Let others run, and wait as long again from now on: a stream that has something to say does not."""
    patience.reschedule(asyncio.get_running_loop().time() + PATIENCE)
    await asyncio.sleep(0)
