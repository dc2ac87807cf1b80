from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from appliance.panel.lab.process import Record, start_time, stop


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that waits to be stopped."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def record(process: subprocess.Popen[bytes], later: int = 0) -> Record:
    """Write a process down, or one that would have its pid but have started later."""
    started = start_time(process.pid)
    assert started is not None
    return Record("n", process.pid, started + later)


def test_a_process_is_known_by_pid_and_start_time(sleeper: subprocess.Popen[bytes]) -> None:
    """One with the same pid and another start time is a stranger."""
    assert record(sleeper).alive()
    assert not record(sleeper, later=1).alive()


def test_a_stranger_with_the_same_pid_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    """Pids are used again; a record may be old."""
    assert stop((record(sleeper, later=1),)) == 0
    assert sleeper.poll() is None


def test_a_process_is_stopped_politely(sleeper: subprocess.Popen[bytes]) -> None:
    """SIGTERM is enough for most."""
    assert stop((record(sleeper),)) == 1
    assert sleeper.wait() == -signal.SIGTERM


def test_a_process_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, and for certain."""
    monkeypatch.setattr("appliance.panel.lab.process.STOP_WITHIN", 0.05)
    deaf = ["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done"]
    with subprocess.Popen(deaf, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert stop((record(process),)) == 1
        assert process.wait() == -signal.SIGKILL


def test_what_ended_before_is_nothing_to_stop(sleeper: subprocess.Popen[bytes]) -> None:
    """Neither when it is a zombie nor when it is reaped."""
    before = record(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not before.alive()
    assert stop((before,)) == 0
    sleeper.wait()
    assert start_time(sleeper.pid) != before.start
    assert stop((before,)) == 0
