"""The whole daemon as a process, with kernel and engines in memory: signals, readiness, store and API are real.

    python -m tests.support.fake_daemon FILE NODE STATE_DIRECTORY SOCKET

Called by the tests of `appliance.control.main` and of the command line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.control.main import run_daemon
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.intent import EngineName
from appliance.panel.api import serve
from appliance.panel.client import Client
from routing.bgp.values import Speaker
from routing.engines.engine import Synced
from tests.support.fake_engine import FakeEngine, FakeRoom
from tests.support.fake_node import OUTSIDE
from tests.support.intents import ROOT
from tests.support.waiting import eventually


class Engine(FakeEngine):
    """An engine without neighbours: it knows everything at once."""

    async def apply(self, speaker: Speaker) -> None:
        """Take it, and say that this was all."""
        await super().apply(speaker)
        self.push(Synced())


class Room(FakeRoom):
    """Makes such engines."""

    def make(self, kind: EngineName, name: str) -> FakeEngine:
        """Return one."""
        return Engine(kind, name, self.journal)


@contextmanager
def daemon(
    file: Path, node: str, directory: Path, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """Run the daemon until the block ends; its socket and state are in `directory`, its log is its standard error."""
    arguments = [str(file), node, str(directory / "state"), str(directory / "api.sock")]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.fake_daemon", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, Client(directory / "api.sock", timeout=30)
        finally:
            process.kill()


def ready(process: subprocess.Popen[str], client: Client) -> None:
    """Wait until the daemon runs an intent."""

    def runs() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return client.answers and bool(client.show("status")["converged"])

    eventually(runs, what="the daemon has converged")


def stop(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Ask the daemon to end; return its exit status and what it logged."""
    process.send_signal(signal.SIGTERM)
    _, logged = process.communicate(timeout=30)
    return process.returncode, logged


if __name__ == "__main__":
    _file, _node, _state, _socket = sys.argv[1:]
    run_daemon(
        Path(_file),
        _node,
        Path(_state),
        lambda made: serve(made, Path(_socket)),
        fake_kernel(FakeWorld(*OUTSIDE)),
        Room(),
    )
