from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.panel.lab import execute
from tests.support.waiting import eventually

pytestmark = pytest.mark.kernel
US = os.getpid()


def test_output_and_status_are_returned() -> None:
    """Whatever the status is: judging it is the caller's."""
    done = execute.captured(US, ["sh", "-c", "echo out; echo err >&2; exit 7"], timeout=10)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """And what it started, too."""
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 1000; :"
    with pytest.raises(subprocess.TimeoutExpired):
        execute.captured(US, ["sh", "-c", script], timeout=0.5)
    pid = eventually(pid_file.exists) and int(pid_file.read_text())
    eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", 137)])
def test_the_exit_status_is_passed_through(script: str, status: int) -> None:
    """A death by signal becomes what a shell makes of it."""
    assert execute.attached(US, ["sh", "-c", script]) == status


def test_a_terminal_stays_one() -> None:
    """An interactive shell in a node works."""
    program = (
        "import os, sys; from appliance.panel.lab import execute; sys.exit(execute.attached(os.getpid(), ['tty']))"
    )
    inner = f'{sys.executable} -c "{program}"'
    done = subprocess.run(
        ["script", "-qec", inner, "/dev/null"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith("/dev/pts/")
    assert done.returncode == 0


def test_the_environment_is_the_nodes_own() -> None:
    """Only what the terminal needs comes from the caller."""
    with subprocess.Popen(["sleep", "1000"], env={"NODES": "own"}) as process:
        try:
            eventually(lambda: execute.environment(process.pid) == {"NODES": "own"})
            seen = execute.captured(process.pid, ["/usr/bin/env"], timeout=10).stdout.splitlines()
        finally:
            process.kill()
    assert seen == ["NODES=own"]
