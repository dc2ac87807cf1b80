"""Wires one daemon together and runs it: logging, store, kernel, engines, signals, readiness. The only such place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
from routing.engines.exabgp import ExaBgpEngine
from routing.engines.gobgp import GoBgpEngine

from appliance.control.daemon import Daemon
from appliance.control.logs import configure
from appliance.kernel.kernel import Kernel
from appliance.model.errors import OperatorError
from appliance.model.intent import EngineName
from appliance.model.load import load, read
from appliance.state.store import SqliteStore
from routing.bgp.values import Speaker
from routing.engines.engine import Engine

log = structlog.get_logger()
RUNTIME = Path("/run/edgeway")

_ENGINES: dict[EngineName, Callable[[Path], Engine]] = {"gobgp": GoBgpEngine, "exabgp": ExaBgpEngine}

Serve = Callable[[Daemon], Coroutine[Any, Any, None]]


def run_daemon(file: Path, node: str, state: Path, serve: Serve) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the file again."""
    configure()
    store = SqliteStore(state / "state.db")
    engine = _engine_name(file, node)
    daemon = Daemon(node, Kernel.real(), store, lambda speaker: _make(engine, speaker))
    asyncio.run(_main(daemon, file, read(file), serve))


def _engine_name(file: Path, node: str) -> EngineName:
    intent = load(file)
    if node not in intent.nodes:
        raise OperatorError.of(f"{file} has no node {node}", "nodes: " + ", ".join(sorted(intent.nodes)))
    return intent.nodes[node].engine


def _make(engine: EngineName, speaker: Speaker) -> Engine:
    return _ENGINES[engine](RUNTIME / speaker.name)


async def _main(daemon: Daemon, file: Path, text: str, serve: Serve) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: daemon.tasks.start("reload", lambda: _reload(daemon, file)))
    daemon.tasks.start("api", lambda: serve(daemon))
    daemon.tasks.start("daemon", daemon.run)
    await daemon.load(text, str(file))
    _notify("READY=1")
    log.info("ready", node=daemon.node)
    await stop.wait()
    log.info("stopping", node=daemon.node)
    await daemon.tasks.stop()


async def _reload(daemon: Daemon, file: Path) -> None:
    try:
        await daemon.load(read(file), str(file))
    except OperatorError as error:
        log.error("reload-refused", file=str(file), error=str(error))  # noqa: TRY400 - findings, not a traceback


def _notify(text: str) -> None:
    """Tell the service manager, if there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.send(text.encode())
