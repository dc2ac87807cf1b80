"""Wires one daemon together and runs it: logging, store, kernel, engines, signals, readiness. The only such place."""

from __future__ import annotations

import asyncio
import fcntl
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from appliance.control.daemon import Daemon
from appliance.control.engine_room import RealEngines
from appliance.control.heartbeat import beat, notify, pause
from appliance.control.logs import configure
from appliance.control.speakers import EngineRoom
from appliance.control.tasks import Tasks
from appliance.kernel.kernel import Kernel
from appliance.model.errors import EdgewayError, OperatorError
from appliance.model.load import read
from appliance.state.store import SqliteStore

log = structlog.get_logger()
RUNTIME = Path("/run/edgeway")

Serve = Callable[[Daemon], Coroutine[Any, Any, None]]


def run_daemon(
    file: Path, node: str, state: Path, serve: Serve, kernel: Kernel | None = None, room: EngineRoom | None = None
) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the file again. Kernel and engines are this machine's if none is given.

    A wrong file at the start does not stop what ran before: the stored intent runs on. Without one, OperatorError.
    """
    configure()
    with _alone(state):
        store = SqliteStore(state / "state.db")
        daemon = Daemon(node, kernel or Kernel.real(), store, room or RealEngines(RUNTIME))
        asyncio.run(_main(daemon, file, serve))


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the lock of the state directory: two daemons would undo each other's work."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (state / "lock").open("a", encoding="ascii")
    except OSError as error:
        raise OperatorError.of(f"{state}: {error.strerror}", "give a directory of root's with --state") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            hint = "stop it first, or change its intent with `edgeway reload`"
            raise OperatorError.of(f"another daemon runs on {state}", hint) from error
        yield


async def _main(daemon: Daemon, file: Path, serve: Serve) -> None:
    """Serve until a signal cancels this task."""
    loop, me, hangup = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()
    if me is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, me.cancel)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    tasks = Tasks()
    tasks.start("api", lambda: serve(daemon))
    tasks.start("daemon", daemon.run)
    try:
        await _begin(daemon, file)
        notify("READY=1")
        log.info("ready", node=daemon.node)
        every = pause()
        if every is not None:
            # The first sign of life arms systemd's timer, also before READY: a start has a limit of its own.
            tasks.start("heartbeat", lambda: beat(daemon, every))
        await _reloads(daemon, file, hangup)
    except asyncio.CancelledError:
        log.info("stopping", node=daemon.node)
        notify("STOPPING=1")
    finally:
        await tasks.stop()


async def _begin(daemon: Daemon, file: Path) -> None:
    """Run the file's intent, or the stored one if the file is wrong. What only failed is tried again by the daemon."""
    try:
        try:
            await daemon.load(read(file), str(file))
        except OperatorError as error:
            await daemon.resume(error)
    except EdgewayError as error:
        if daemon.intent is None:
            raise
        log.error("start-incomplete", node=daemon.node, error=str(error))  # noqa: TRY400 - logged where it happened


async def _reloads(daemon: Daemon, file: Path, hangup: asyncio.Event) -> None:
    """Read the file again at every SIGHUP; one that comes during a reload makes another."""
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            await daemon.load(read(file), str(file))
        except EdgewayError as error:
            log.error("reload-refused", file=str(file), error=str(error))  # noqa: TRY400 - findings, not a traceback
