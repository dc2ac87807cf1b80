"""Run an engine inside a member of a test LAN and speak to it from an ordinary test.

The namespace of a process is a property of its threads: a thread of its own does setns() and only then makes its event
loop, so every child the engine starts from that loop is born on the LAN, while the test stays where it is. The thread
ends with the test; a namespace once entered is never left.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import importlib.util
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from routing.bgp.values import Network, Speaker
from routing.engines.engine import Best, Engine, Event, Lost, RouteView, SessionState, SessionView, Synced
from tests.support.lan import Lan

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_PATIENCE = 60.0

# Where each engine's class is; one that is not there is not tested.
_CLASSES = {
    "gobgp": ("routing.engines.gobgp", "GoBgpEngine"),
    "exabgp": ("routing.engines.exabgp", "ExaBgpEngine"),
    "native": ("routing.engines.native.engine", "NativeEngine"),
    # Not an engine of the product: BIRD, made to look like one, proves the scenarios themselves.
    "bird": ("tests.support.routers.reference", "BirdReference"),
}


def available() -> list[str]:
    """Return the engines to test: those named in EDGEWAY_ENGINES (commas), or all of ours that exist."""
    wanted = os.environ.get("EDGEWAY_ENGINES")
    names = wanted.split(",") if wanted else [name for name in _CLASSES if name != "bird"]
    return [name for name in names if wanted or importlib.util.find_spec(_CLASSES[name][0])]


def engine_class(name: str) -> Callable[[Path], Engine]:
    """Return the class of an engine; it is made with a directory."""
    module, attribute = _CLASSES[name]
    made: Callable[[Path], Engine] = getattr(importlib.import_module(module), attribute)
    return made


class EngineOnLan:
    """One engine on one member: `with` makes it, the end stops the process it started.

    Calls are those of `Engine`, made synchronous. Once `watch` was called, `best` is what the events say so far.
    """

    def __init__(self, name: str, lan: Lan, member: str) -> None:
        """Remember where it is to run."""
        self.name, self.lan, self.member = name, lan, member
        self.best: dict[Network, Best] = {}
        self.events: list[Event] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Enter the namespace in a thread and make the engine there."""
        self._directory = tempfile.TemporaryDirectory(prefix=f"ewt-{self.name}-", ignore_cleanup_errors=True)
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        if not ready.wait(_PATIENCE):
            raise TimeoutError(self.name)
        self._engine = self._await(self._make())
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the engine's process, the loop and the thread."""
        try:
            if self._engine is not None:
                self.stop()
        finally:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_PATIENCE)
            self._directory.cleanup()

    def apply(self, speaker: Speaker) -> None:
        """Make it `speaker`."""
        self._await(self._use().apply(speaker))

    def sessions(self) -> tuple[SessionView, ...]:
        """Return the sessions."""
        return self._await(self._use().sessions())

    def session(self, name: str) -> SessionView:
        """Return the one session of a configured neighbour."""
        (found,) = [view for view in self.sessions() if view.name == name]
        return found

    def established(self, *names: str) -> bool:
        """Tell whether the named neighbours are all established."""
        up = {view.name for view in self.sessions() if view.state is SessionState.ESTABLISHED}
        return up >= set(names)

    def routes(self, prefix: Network | None = None, neighbor: str | None = None) -> tuple[RouteView, ...]:
        """Return routes, as `Engine.routes`."""
        return self._await(self._use().routes(prefix, neighbor))

    def watch(self) -> None:
        """Begin to collect events into `events` and `best`."""
        self._watching = self._await(self._start_watching())

    @property
    def synced(self) -> bool:
        """Tell whether the engine has said that everything was told, and has not lost its process since."""
        said = [event for event in list(self.events) if isinstance(event, (Synced, Lost))]
        return bool(said) and isinstance(said[-1], Synced)

    @property
    def lost(self) -> bool:
        """Tell whether the engine has ever said that its process is gone."""
        return any(isinstance(event, Lost) for event in list(self.events))

    def stop(self) -> None:
        """End the engine's process for good."""
        self._let_go(stop=True)

    def succeed(self) -> None:
        """Let go of the process and put a new engine object in the place of the old one, as a restarted daemon does."""
        self._let_go(stop=False)
        self.events, self.best = [], {}
        self._engine = self._await(self._make())

    def kill(self) -> None:
        """End every process of the engine as a crash would: SIGKILL."""
        place = self.lan.namespace(self.member)
        found = subprocess.run(["ip", "netns", "pids", place], capture_output=True, text=True, check=True)
        for pid in found.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def _let_go(self, *, stop: bool) -> None:
        engine, self._engine = self._use(), None
        if self._watching is not None:
            self._await(self._stop_watching(self._watching))
            self._watching = None
        self._await(engine.close(stop=stop))

    def _run(self, ready: threading.Event) -> None:
        enter(self.lan.namespace(self.member))
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(ready.set)
            self._loop.run_forever()

    def _use(self) -> Engine:
        if self._engine is None:
            raise RuntimeError(f"{self.name} was stopped")
        return self._engine

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE)

    async def _make(self) -> Engine:
        return engine_class(self.name)(Path(self._directory.name))

    async def _start_watching(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._collect(self._use().watch()))

    async def _stop_watching(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait([task])

    async def _collect(self, batches: AsyncIterator[tuple[Event, ...]]) -> None:
        async for batch in batches:
            for event in batch:
                if isinstance(event, Best):
                    self._note(event)
            self.events += batch

    def _note(self, event: Best) -> None:
        if event.attributes is None:
            self.best.pop(event.prefix, None)
        else:
            self.best[event.prefix] = event


def enter(namespace: str) -> None:
    """Let the thread that calls stand in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", namespace).open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
