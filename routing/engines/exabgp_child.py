"""The API process of ExaBGP: `python -m routing.engines.exabgp_child`, started and restarted by ExaBGP.

It holds the tables (`exabgp_core`) and serves the daemon on `rib.sock` below the directory named by EDGEWAY_DIRECTORY. Two
threads own the pipes: if nobody read our stdin, ExaBGP would stop in the middle of a write, keepalives and all. When
ExaBGP dies, stdin ends and so do we. When we die, ExaBGP starts us again: the desired state is in `speaker.json`, the
neighbours that were up in `established.json`, and every session is made to start anew (`@reset`), which a neighbour with
graceful restart does not feel. Asking for route refresh instead would keep sessions up, but nobody would know any more
what the neighbours were sent and must lose.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
import time
from collections import deque
from pathlib import Path

import structlog

from appliance.model.errors import EngineError
from routing.bgp.values import Address, Speaker
from routing.engines import exabgp_codec as codec
from routing.engines import exabgp_messages as messages
from routing.engines.exabgp_config import configuration, same_process
from routing.engines.exabgp_core import Core
from routing.engines.exabgp_files import Files
from routing.engines.exabgp_server import Server

_log = structlog.get_logger(__name__)

#: Commands that ExaBGP has not answered yet; more would only wait in the pipe.
WINDOW = 32
#: Lines taken in before their consequences are worked out.
BURST = 500


class Pipes:
    """Stdin and stdout, each with a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start both threads."""
        self.lines: deque[str | None] = deque()
        self.ready = asyncio.Event()
        self._loop = loop
        self._out: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    def say(self, command: str) -> None:
        """Queue one command."""
        self._out.put(command)

    def _read(self) -> None:
        with open(0, encoding="ascii", errors="replace", closefd=False) as stdin:
            for line in stdin:
                self.lines.append(line)
                if not self.ready.is_set():
                    self._loop.call_soon_threadsafe(self.ready.set)
        self.lines.append(None)
        self._loop.call_soon_threadsafe(self.ready.set)

    def _write(self) -> None:
        while True:
            left = memoryview(f"{self._out.get()}\n".encode())
            while left:
                left = left[os.write(1, left) :]


class Child:
    """The tables, the pipes and the socket together."""

    def __init__(self, directory: Path) -> None:
        """Take up where an earlier process ended."""
        self.files = Files(directory)
        self.core = Core(self.files.speaker(), time.monotonic(), self.files.established())
        self._unanswered = 0
        self._reloads: deque[asyncio.Future[str]] = deque()
        self._known: tuple[Address, ...] = ()
        # What ExaBGP has read, or failed to: then the same speaker is tried again.
        self._configuration: str | None = configuration(self.core.server.speaker, sys.executable)

    async def run(self) -> None:
        """Serve until ExaBGP is gone."""
        self._pipes = Pipes(asyncio.get_running_loop())
        self._server = Server(self.core, self.apply, self.command)
        self.files.socket.parent.mkdir(mode=0o700, exist_ok=True)
        async with self._server.listening(self.files.socket):
            # The reload that every process begins with.
            self._reloads.append(asyncio.get_running_loop().create_future())
            self.flush()
            while await self._turn():
                pass

    async def apply(self, speaker: Speaker) -> None:
        """Become `speaker`; return when ExaBGP has taken in what concerns it."""
        current = self.core.server.speaker
        wanted = configuration(speaker, sys.executable)
        if speaker == current and wanted == self._configuration:
            return
        if not same_process(current, speaker):
            raise EngineError("another process is needed for this speaker")
        self.core.configure(speaker, time.monotonic())
        self.files.write_speaker(speaker)
        self.flush()
        if wanted != self._configuration:
            self.files.write_configuration(wanted)
            await self._reload()
            self._configuration = wanted

    async def _reload(self) -> None:
        """Let ExaBGP read its configuration; without an answer, or with a bad one, it counts as not read."""
        self._configuration = None
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reloads.append(done)
        self.command("@reload")
        if error := await done:
            raise EngineError(f"exabgp refuses its configuration: {error}")

    def command(self, text: str) -> None:
        """Give ExaBGP a command of the daemon's."""
        self.core.commands.append(text)
        self.flush()

    def flush(self) -> None:
        """Say what there is to say, to ExaBGP and to the daemon."""
        self.core.settle()
        while self.core.commands and self._unanswered < WINDOW:
            self._unanswered += 1
            self._pipes.say(self.core.commands.popleft())
        if news := self.core.take_events():
            self._server.publish(news)
        established = self.core.server.established()
        if self.core.server.converged and established != self._known:
            self._known = established
            self.files.write_established(established)

    async def _turn(self) -> bool:
        deadline = self.core.server.deadline()
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._pipes.ready.wait()
        self._pipes.ready.clear()
        lines = self._pipes.lines
        while lines:
            for _ in range(min(BURST, len(lines))):
                line = lines.popleft()
                if line is None:
                    return False
                self._take(line)
            self.flush()
            await asyncio.sleep(0)
        self.core.server.tick(time.monotonic())
        self.flush()
        return True

    def _take(self, line: str) -> None:
        try:
            message = codec.parse(line)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            # A line we do not understand costs that line, not the process.
            _log.error("line-not-understood", line=line[:1000], error=repr(error))
            return
        match message:
            case None:
                pass
            case messages.Answered():
                self._unanswered -= 1
            case messages.Reloaded():
                if self._reloads:
                    waiting = self._reloads.popleft()
                    if not waiting.done():
                        waiting.set_result(message.error)
            case messages.Refused():
                _log.error("command-refused", command=message.command, error=message.error)
            case _:
                self.core.receive(message, time.monotonic())


def main() -> None:
    """Run until ExaBGP ends."""
    # stdout is the pipe to ExaBGP.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(Child(Path(os.environ["EDGEWAY_DIRECTORY"])).run())


if __name__ == "__main__":
    main()
