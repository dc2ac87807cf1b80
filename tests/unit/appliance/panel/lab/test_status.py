from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appliance.panel.lab import status as module
from appliance.panel.lab.process import start_time
from appliance.panel.lab.state import Known, Manifest, State
from appliance.panel.lab.status import lab_status, restless

NODES = (Known("a", "linux", "debian:12"), Known("sw", "bridge", ""))


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Write down a lab of which we ourselves are node `a`, while `sw` has ended."""
    state = State("x", tmp_path / "labs")
    with state.locked():
        state.write(Manifest("x", "/x.yml", NODES, 1_000_000.0))
        for name, start in (("a", start_time(os.getpid())), ("sw", 1)):
            state.record(name).write_text(f'{{"name": "{name}", "pid": {os.getpid()}, "start": {start}}}')
    return state


def test_an_unknown_lab_has_no_status(tmp_path: Path) -> None:
    """Neither has one of which nothing is written."""
    assert lab_status(State("x", tmp_path)) is None


def test_a_running_node_has_a_pid_and_a_beginning(state: State) -> None:
    """One that has ended has neither."""
    found = lab_status(state)
    assert found
    assert found.complete
    a, sw = found.nodes
    assert (a.pid, sw.pid, sw.since) == (os.getpid(), None, None)
    assert a.since
    assert 0 <= time.time() - a.since.timestamp() < 24 * 3600


def test_a_lab_that_did_not_come_up_wholly_says_so(state: State) -> None:
    """The killed `up` left no time."""
    state.write(Manifest("x", "/x.yml", NODES))
    found = lab_status(state)
    assert found
    assert not found.complete
    assert found.since is None


def test_the_main_command_is_what_init_wrote_down(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid is the one inside; while it waits to be started again there is none."""
    monkeypatch.setattr(module, "INIT_STATE", str(tmp_path))
    (tmp_path / "main.restarts").write_text("2\n")
    (tmp_path / "main.pid").write_text("17\n")
    found = lab_status(state)
    assert found
    main = found.nodes[0].main
    assert main
    assert (main.pid, main.restarts) == (17, 2)
    (tmp_path / "main.pid").unlink()
    again = lab_status(state)
    assert again
    assert again.nodes[0].main == module.MainStatus(None, 2, None)
    assert restless(state) == ("a",)


def test_a_node_without_a_command_has_no_main(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge, for one."""
    monkeypatch.setattr(module, "INIT_STATE", str(tmp_path))
    found = lab_status(state)
    assert found
    assert found.nodes[0].main is None
    assert restless(state) == ()
