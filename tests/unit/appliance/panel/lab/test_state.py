from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab import state as module
from appliance.panel.lab.process import start_time
from appliance.panel.lab.state import Known, Manifest, State, labs

MANIFEST = Manifest("x", "/x.clab.yml", (Known("a", "linux", "debian:12"), Known("sw", "bridge", "")), 12.5)


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Keep the state of labs in a directory of the test's own."""
    return State("x", tmp_path / "labs")


def write_record(state: State, node: str, start: int) -> None:
    """Write down that we are pid 1 of a node, having started at `start`."""
    state.record(node).write_text(f'{{"name": "{node}", "pid": {os.getpid()}, "start": {start}}}')


def test_what_is_written_is_read(state: State) -> None:
    """lab.json goes both ways."""
    with state.locked():
        state.write(MANIFEST)
        assert state.manifest() == MANIFEST


def test_only_root_can_look(state: State) -> None:
    """Environments and logs may hold secrets."""
    with state.locked():
        for directory in (state.directory, state.directory.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_torn_file_counts_as_none(state: State) -> None:
    """Whoever wrote it was killed."""
    with state.locked():
        (state.directory / "lab.json").write_text('{"name": "x", "no')
        state.record("a").write_text("")
        assert state.manifest() is None
        assert state.records() == ()


def test_a_node_that_ended_is_not_found(state: State) -> None:
    """A record with another start time is of a process that is gone."""
    started = start_time(os.getpid())
    assert started is not None
    with state.locked():
        write_record(state, "a", started)
        write_record(state, "b", started + 1)
        found = state.record_of("a")
        assert found
        assert found.pid == os.getpid()
        assert state.record_of("b") is None
        assert state.record_of("c") is None


def test_a_second_command_waits_and_then_says_so(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands never change one lab at the same time."""
    monkeypatch.setattr(module, "LOCK_WITHIN", 0.05)
    with state.locked(), pytest.raises(OperatorError, match="being changed by another command"), state.locked():
        pass


def test_the_lock_of_a_removed_directory_is_worth_nothing(state: State) -> None:
    """Who removed the lab lets the next one begin with a new directory."""
    with state.locked():
        state.remove()
        with state.locked():
            assert state.exists()


def test_emptying_keeps_the_lock(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed command left goes, the directory stays."""
    monkeypatch.setattr(module, "LOCK_WITHIN", 0.05)
    with state.locked():
        state.write(MANIFEST)
        (state.place("a") / "root").mkdir(parents=True)
        state.empty()
        assert list(state.directory.iterdir()) == []
        with pytest.raises(OperatorError), state.locked():
            pass


def test_the_end_of_a_log_is_shown(state: State) -> None:
    """A log that is not there is empty."""
    with state.locked():
        state.log("a").write_text("1\n2\n3\n")
        assert state.tail("a", 2) == ["2", "3"]
        assert state.tail("b", 2) == []


def test_labs_are_listed_by_name(tmp_path: Path) -> None:
    """No directory means no labs."""
    assert labs(tmp_path / "none") == ()
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    assert labs(tmp_path) == ("a", "b")


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    """Names become paths."""
    with pytest.raises(OperatorError, match="no name of a lab"):
        State(name)
