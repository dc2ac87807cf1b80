from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.control import init
from appliance.panel.lab import node
from appliance.panel.lab.process import stop
from appliance.panel.lab.spec import Compiler, package_root
from appliance.panel.lab.state import State
from appliance.panel.lab.topology import parse
from tests.support.waiting import eventually

pytestmark = pytest.mark.kernel


class Maker:
    """The program that makes nodes, run on a lab whose state is in a directory of the test."""

    def __init__(self, tmp_path: Path) -> None:
        """Make the state."""
        self.directory = tmp_path
        self.state = State("t", tmp_path / "labs")
        self.process: subprocess.Popen[str] | None = None

    def begin(self, nodes: str, **changes: Any) -> None:
        """Start making nodes; `changes` are put into each spec."""
        topology = parse(f"name: t\ntopology: {{nodes: {nodes}}}\n")
        specs = Compiler(topology, self.directory, self.state).specs()
        self.state.directory.mkdir(parents=True)
        lock = os.open(self.state.directory, os.O_RDONLY)
        for spec in specs:
            self.state.place(spec["name"]).mkdir()
            spec.update(changes, lock=lock)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-S", "-m", node.__name__, str(os.getpid())],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": package_root()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(lock,),
        )
        os.close(lock)
        assert self.process.stdin
        self.process.stdin.write(json.dumps(specs))
        self.process.stdin.close()

    def answer(self) -> list[dict[str, Any] | None]:
        """Wait for the end; return what it says of each node."""
        assert self.process
        assert self.process.stdout
        text = self.process.stdout.read()
        assert self.process.wait() == 0
        found: list[dict[str, Any] | None] = json.loads(text)
        return found


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Maker]:
    """Make nodes; they are gone after the test."""
    maker = Maker(tmp_path)
    yield maker
    if maker.process and maker.process.poll() is None:
        maker.process.kill()
        maker.process.wait()
    stop(maker.state.records())


def test_every_node_that_runs_has_a_record(maker: Maker) -> None:
    """With the pid and start time of its init."""
    maker.begin("{a: {kind: linux}, sw: {kind: bridge}}")
    assert maker.answer() == [None, None]
    records = {record.name: record for record in maker.state.records()}
    assert set(records) == {"a", "sw"}
    assert all(record.alive() for record in records.values())
    command = Path(f"/proc/{records['a'].pid}/cmdline").read_text().split("\0")
    assert any(word.endswith("control/init.py") for word in command)


def test_a_node_has_namespaces_of_its_own(maker: Maker) -> None:
    """All five kinds."""
    maker.begin("{a: {kind: linux}}")
    maker.answer()
    (record,) = maker.state.records()
    for kind in ("net", "mnt", "pid", "uts", "ipc"):
        assert Path(f"/proc/{record.pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()


@pytest.mark.parametrize(
    ("nodes", "changes", "step", "message"),
    [
        ("{a: {kind: linux, cmd: /no/such}}", {}, "start", "/no/such"),
        ("{a: {kind: linux, sysctls: {net.no.such: 1}}}", {}, "sysctl net.no.such=1", "No such file"),
        ("{a: {kind: linux}}", {"keep": ["/no/such"]}, "mount /.machine/no/such on /no/such", "No such file"),
    ],
)
def test_a_node_that_cannot_be_made_says_at_which_step(
    maker: Maker, nodes: str, changes: dict[str, Any], step: str, message: str
) -> None:
    """And nothing of it is left running."""
    maker.begin(nodes, **changes)
    (problem,) = maker.answer()
    assert problem
    assert problem["step"] == step
    assert message in problem["message"]
    eventually(lambda: not any(record.alive() for record in maker.state.records()))


def test_one_bad_node_does_not_keep_the_others_from_being_made(maker: Maker) -> None:
    """The operator learns of all that are bad at once."""
    maker.begin("{a: {kind: linux, cmd: /no/such}, b: {kind: linux}}")
    bad, good = maker.answer()
    assert bad
    assert good is None
    assert maker.state.record_of("b")


def test_killing_the_program_leaves_nothing_without_a_record(maker: Maker) -> None:
    """Its makers die with it, and so do nodes that had no record yet; the lock is free again."""
    maker.begin("{a: {kind: linux}, b: {kind: linux}, c: {kind: linux}}")
    assert maker.process
    eventually(maker.state.records)
    maker.process.send_signal(signal.SIGKILL)
    maker.process.wait()
    with maker.state.locked():
        known = {record.pid for record in maker.state.records() if record.alive()}
        assert inits_of(maker.state) <= known


def inits_of(state: State) -> set[int]:
    """Return the inits that write to one of this lab's logs."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            log, command = (directory / "fd/2").readlink(), (directory / "cmdline").read_text()
        except OSError:
            continue
        if log.is_relative_to(state.directory) and init.__file__ in command:
            found.add(int(directory.name))
    return found
