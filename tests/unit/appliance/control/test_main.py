"""The daemon as a process: what starts it, what it does on a signal, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.model.errors import OperatorError
from tests.support.fake_daemon import daemon, ready, stop
from tests.support.fake_node import quiet_vpc
from tests.support.intents import ROOT, Tree, bare, changed, pair, to_yaml
from tests.support.waiting import eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give an intent file."""
    return write(tmp_path / "intent.yaml", quiet_vpc())


def write(path: Path, tree: Tree) -> Path:
    """Write an intent."""
    path.write_text(to_yaml(tree))
    return path


def events(logged: str) -> list[dict[str, str]]:
    """Return the log's lines."""
    return [json.loads(line) for line in logged.splitlines()]


def test_it_says_that_it_is_ready_when_the_kernel_was_led_to_the_intent(file: Path, tmp_path: Path) -> None:
    """The service manager starts what depends on it then (sd_notify(3)), and is told when it stops."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        with daemon(file, "h1", tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as (process, client):
            assert manager.recv(100) == b"READY=1"
            assert client.show("status")["revision"] >= 1
            code, logged = stop(process)
            assert manager.recv(100) == b"STOPPING=1"
    assert code == 0
    assert [line["event"] for line in events(logged) if line["event"] in ("ready", "stopping")] == ["ready", "stopping"]
    assert not [line for line in events(logged) if line["level"] in ("error", "warning", "critical")]


def test_a_hangup_reads_the_file_again(file: Path, tmp_path: Path) -> None:
    """A wrong file changes nothing and is told in the log; a right one runs."""
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        write(file, pair())
        process.send_signal(signal.SIGHUP)
        eventually(lambda: client.show("vpcs") == [], what="the VPC is gone")
        write(file, changed(quiet_vpc(), "zone.as", "many"))
        process.send_signal(signal.SIGHUP)
        file.with_name("other").write_text(to_yaml(quiet_vpc()))
        client.post("reload", {"text": to_yaml(quiet_vpc()), "file": "other"})
        assert client.show("status")["intent"] == {"file": "other", "number": 3}
        _, logged = stop(process)
    (refused,) = [line for line in events(logged) if line["event"] == "reload-refused"]
    assert "zone.as" in refused["error"]


def test_a_wrong_file_at_the_start_does_not_stop_what_ran_before(file: Path, tmp_path: Path) -> None:
    """The stored intent runs on, and status says why."""
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        assert client.show("status")["notice"] == ""
        stop(process)
    write(file, changed(quiet_vpc(), "zone.as", "many"))
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        assert "zone.as" in client.show("status")["notice"]
        assert [row["vpc"] for row in client.show("vpcs")] == ["red"]
        code, logged = stop(process)
    assert code == 0
    assert "stored-intent-runs" in {line["event"] for line in events(logged)}
    file.unlink()
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        assert "No such file" in client.show("status")["notice"]


@pytest.mark.parametrize(
    ("tree", "node", "said"),
    [
        (changed(bare(), "zone.as", "many"), "rs1", "zone.as"),
        (bare(), "h9", "has no node h9"),
    ],
    ids=["a wrong file", "an unknown node"],
)
def test_without_an_intent_to_run_it_ends_with_what_is_wrong(tmp_path: Path, tree: Tree, node: str, said: str) -> None:
    """There is nothing to fall back to."""
    file = write(tmp_path / "intent.yaml", tree)
    with daemon(file, node, tmp_path) as (process, _):
        _, logged = process.communicate(timeout=60)
    assert process.returncode == 1
    assert OperatorError.__name__ in logged.splitlines()[-1]
    assert said in logged.splitlines()[-1]


def test_a_second_daemon_on_the_same_state_is_refused(file: Path, tmp_path: Path) -> None:
    """Two would undo each other's work for ever."""
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        with daemon(file, "h1", tmp_path) as (second, _):
            _, said = second.communicate(timeout=60)
        assert second.returncode == 1
        assert "another daemon runs on" in said
        assert client.show("status")["converged"]


def test_a_killed_daemon_leaves_nothing_that_keeps_the_next_from_running(file: Path, tmp_path: Path) -> None:
    """Neither its lock nor its socket."""
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        process.kill()
    assert not client.answers
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        assert client.show("status")["intent"]["number"] == 1


def test_it_ends_while_it_waits_for_something_that_does_not_come(tmp_path: Path) -> None:
    """A termination that waits for the intent would be a kill in the end."""
    program = """
import asyncio, sys
from pathlib import Path
from appliance.control import main
from appliance.model.load import read
from tests.support import fake_daemon

class Stuck:
    intent, node = None, "h1"
    async def load(self, text, file):
        print("loading", flush=True)
        await asyncio.Event().wait()
    async def run(self):
        await asyncio.Event().wait()

async def serve(_):
    await asyncio.Event().wait()

asyncio.run(main._main(Stuck(), Path(sys.argv[1]), serve))
"""
    file = write(tmp_path / "intent.yaml", bare())
    with subprocess.Popen([sys.executable, "-c", program, str(file)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"loading\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
