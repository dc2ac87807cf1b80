from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.control import init
from tests.support.waiting import eventually


class Running:
    """An init that was started as the lab runner starts it, though not as pid 1."""

    def __init__(self, state: Path, *arguments: str) -> None:
        """Start it; `answer` is what it says when its commands run."""
        self.state = state
        ready_read, ready_write = os.pipe()
        command = [sys.executable, "-I", "-S", init.__file__, "--state", str(state), "--ready-fd", str(ready_write)]
        self.process = subprocess.Popen([*command, *arguments], pass_fds=(ready_write,), stderr=subprocess.PIPE)
        os.close(ready_write)
        with os.fdopen(ready_read, encoding="utf-8") as ready:
            self.answer = ready.readline()

    def number(self, name: str) -> int:
        """Return what one of its files holds; -1 when it is not there."""
        try:
            return int((self.state / name).read_text(encoding="ascii"))
        except FileNotFoundError:
            return -1

    def end(self) -> str:
        """End it and whatever it started; return what it logged."""
        for name in self.state.glob("*.pid"):
            os.kill(self.number(name.name), signal.SIGKILL)
        self.process.kill()
        assert self.process.stderr
        said = self.process.stderr.read().decode()
        self.process.wait()
        return said


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start inits; they are gone after the test."""
    running: list[Running] = []

    def begin(*arguments: str) -> Running:
        running.append(Running(tmp_path / "state", *arguments))
        return running[-1]

    yield begin
    for each in running:
        if each.process.poll() is None:
            each.end()


def test_delays_double_up_to_five_seconds() -> None:
    """A command that ends at once is not started in a tight loop, and never waits longer than the limit."""
    service, delays = init.Service("main", ["false"]), []
    for now in range(8):
        service.started(pid=7, now=float(now))
        service.ended(float(now))
        delays.append(service.due - now)
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])


def test_a_command_that_was_stable_starts_again_quickly() -> None:
    """Ten seconds of service forgive what was before."""
    service = init.Service("main", ["false"])
    for now in (0.0, 1.0, 2.0):
        service.started(pid=7, now=now)
        service.ended(now)
    service.started(pid=7, now=20.0)
    service.ended(30.0)
    assert service.due == pytest.approx(30.2)


def test_a_command_that_cannot_be_started_backs_off_too() -> None:
    """A program that vanished counts as one that ended, however long ago it last ran."""
    service = init.Service("main", ["gone"])
    service.ended(100.0)
    service.ended(200.0)
    assert service.due == pytest.approx(200.4)


def test_the_first_start_is_no_restart() -> None:
    """Restarts count from the second start."""
    service = init.Service("main", ["true"])
    service.started(pid=7, now=0.0)
    assert service.restarts == 0


def test_the_command_line_is_read_up_to_the_two_dashes() -> None:
    """What follows the dashes belongs to the command, whatever it looks like."""
    options = init.parse(["--setup", "a", "--with", "b=c d", "--state", "/s", "--setup", "d", "--", "x", "--with", "y"])
    assert (options.setup, options.beside, options.state) == (["a", "d"], ["b=c d"], "/s")
    assert options.main == ["x", "--with", "y"]


@pytest.mark.parametrize("arguments", [["--wiht", "x"], ["--setup"], ["--with", "x y"], ["sleep", "1"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    """The message shows how it is meant."""
    with pytest.raises(ValueError, match="usage"):
        init.parse(arguments)


def test_commands_beside_have_names_and_come_first() -> None:
    """The main command may need them."""
    options = init.parse(["--with", "zebra=exec zebra -A 127.0.0.1", "--", "bgpd"])
    assert [(service.name, service.argv) for service in init.services(options)] == [
        ("zebra", ["/bin/sh", "-c", "exec zebra -A 127.0.0.1"]),
        ("main", ["bgpd"]),
    ]


def test_a_killed_command_is_started_again(start: Start) -> None:
    """After kill -9 of the main command its pid file holds a new pid, and the count is one."""
    running = start("--", "sleep", "1000")
    assert running.answer == "\n"
    first = running.number("main.pid")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: running.number("main.restarts") == 1 and running.number("main.pid") not in {-1, first})
    assert "started again, time 1" in running.end()


def test_set_up_runs_before_the_commands(start: Start, tmp_path: Path) -> None:
    """The commands find what the set-up made."""
    made = tmp_path / "made"
    running = start("--setup", f"echo 1 > {made}", "--", "sh", "-c", f"cat {made} && exec sleep 1000")
    assert running.answer == "\n"
    assert running.number("main.restarts") == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--setup", "exit 3", "--", "sleep", "9"], "exit status 3"), (["--", "/no/such/program"], "No such file")],
)
def test_what_cannot_start_is_told_to_whoever_started_us(start: Start, arguments: list[str], says: str) -> None:
    """A node that cannot run is an error at once, not a loop of restarts."""
    running = start(*arguments)
    assert says in running.answer
    assert running.process.wait() == 127


def test_a_stop_passes_on_and_ends_us(start: Start, tmp_path: Path) -> None:
    """SIGTERM reaches the command, which ends its own way; then we end with 0."""
    told = tmp_path / "told"
    script = f"trap 'echo told > {told}; exit' TERM; echo > {told}.armed; while :; do sleep 0.05; done"
    running = start("--", "sh", "-c", script)
    eventually(Path(f"{told}.armed").exists)
    running.process.terminate()
    assert running.process.wait() == 0
    assert told.read_text() == "told\n"


def test_a_reload_signal_passes_on(start: Start, tmp_path: Path) -> None:
    """SIGHUP is for the command."""
    told = tmp_path / "told"
    script = f"trap 'echo told > {told}' HUP; echo > {told}.armed; while :; do sleep 0.05; done"
    running = start("--", "sh", "-c", script)
    eventually(Path(f"{told}.armed").exists)
    running.process.send_signal(signal.SIGHUP)
    eventually(told.exists)
    assert running.process.poll() is None


def test_nothing_to_run_is_a_node_that_waits(start: Start) -> None:
    """A bridge has an init and no command."""
    running = start("--")
    assert running.answer == "\n"
    running.process.terminate()
    assert running.process.wait() == 0


def test_commands_do_not_inherit_ignored_signals(start: Start, tmp_path: Path) -> None:
    """Python ignores SIGPIPE; a command must not, or its pipelines never end."""
    seen = tmp_path / "seen"
    start("--", "sh", "-c", f"grep SigIgn /proc/self/status > {seen}.new; mv {seen}.new {seen}; exec sleep 1000")
    eventually(seen.exists)
    assert int(seen.read_text().split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


@pytest.mark.kernel
def test_orphans_are_reaped(tmp_path: Path) -> None:
    """As pid 1 it adopts what nobody waits for, and leaves no zombie."""
    orphan = f"(setsid sh -c 'echo $$ > {tmp_path}/orphan' &); exec sleep 1000"
    command = [sys.executable, "-I", "-S", init.__file__, "--state", str(tmp_path), "--", "sh", "-c", orphan]
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen([*unshare, *command], stderr=subprocess.DEVNULL) as outer:
        try:
            eventually((tmp_path / "orphan").exists)
            pid1 = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0]
            children = Path(f"/proc/{pid1}/task/{pid1}/children")
            eventually(lambda: len(children.read_text().split()) == 1, what="only the main command is left")
        finally:
            outer.kill()
