"""A process that outlives us is adopted, never confused with another, and always ended when it must be."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.model.errors import EngineError
from routing.engines.process import Backoff, Identity, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLEEP = ("sleep", "600")


async def _written(path: Path) -> str:
    async with asyncio.timeout(10):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - a file has no event
            await asyncio.sleep(0.005)
    return path.read_text()  # noqa: ASYNC240 - a few octets


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    """Give a process that does nothing, stopped at the end."""
    process = Process("sleeper", SLEEP, {}, tmp_path)
    yield process
    await process.stop(0.5)


async def test_a_started_process_has_its_own_session_and_a_private_pid_file(process: Process) -> None:
    """It must not get our terminal's signals, and nobody else may read what we keep about it."""
    assert await process.ensure()
    assert process.pid is not None
    await _written(process.directory / "sleeper.pid")
    assert os.getsid(process.pid) == process.pid
    assert (process.directory / "sleeper.pid").stat().st_mode & 0o077 == 0
    assert Path(f"/proc/{process.pid}/fd/0").readlink() == Path(os.devnull)  # noqa: ASYNC240 - procfs


async def test_ensuring_twice_starts_one_process(process: Process) -> None:
    """The second call finds the first one's process."""
    assert await process.ensure()
    first = process.pid
    assert not await process.ensure()
    assert process.pid == first


async def test_another_daemon_adopts_the_running_process(process: Process) -> None:
    """What is restarted is the daemon, not what it supervises."""
    await process.ensure()
    await _written(process.directory / "sleeper.pid")
    heir = Process("sleeper", SLEEP, {}, process.directory)
    assert not await heir.ensure()
    assert heir.pid == process.pid
    heir.release()


async def test_a_process_of_another_command_line_is_replaced(process: Process) -> None:
    """An adopted process must be what we would have started."""
    await process.ensure()
    await _written(process.directory / "sleeper.pid")
    other = Process("sleeper", ("sleep", "601"), {}, process.directory)
    assert await other.ensure()
    assert not process.alive()
    assert other.alive()
    await other.stop()


async def test_a_reused_pid_is_neither_adopted_nor_killed(process: Process, tmp_path: Path) -> None:
    """A pid file left over from an earlier process may name anybody now."""
    await process.ensure()
    pid_file = process.directory / "sleeper.pid"
    text = await _written(pid_file)
    identity = Identity.parse(text)
    assert identity is not None
    (tmp_path / "heir").mkdir()
    stolen = text.replace(f" {identity.start_time} ", f" {identity.start_time - 1} ")
    (tmp_path / "heir" / "sleeper.pid").write_text(stolen)
    heir = Process("sleeper", SLEEP, {}, tmp_path / "heir")
    await heir.stop()
    assert process.alive()
    assert await heir.ensure()
    assert heir.pid != process.pid
    await heir.stop()


@pytest.mark.parametrize("content", ["", "12\n", "x (y) z\nboot\ndigest\n", "1 (sh) S 1\nboot\ndigest\n"])
async def test_a_damaged_pid_file_names_nobody(tmp_path: Path, content: str) -> None:
    """Half-written files happen on full disks."""
    assert Identity.parse(content) is None
    (tmp_path / "sleeper.pid").write_text(content)
    process = Process("sleeper", SLEEP, {}, tmp_path)
    assert await process.ensure()
    await process.stop()


async def test_a_file_of_an_earlier_boot_names_nobody(process: Process) -> None:
    """Pids and start times begin again at every boot."""
    await process.ensure()
    pid_file = process.directory / "sleeper.pid"
    lines = (await _written(pid_file)).splitlines()
    pid_file.write_text("\n".join((lines[0], "another-boot", lines[2])) + "\n")
    heir = Process("sleeper", SLEEP, {}, process.directory)
    await heir.stop()
    assert process.alive()


async def test_death_is_noticed_with_its_status_and_leaves_no_zombie(process: Process) -> None:
    """The exit status says why; a zombie would keep the pid for ever."""
    await process.ensure()
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    assert not process.alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_death_of_an_adopted_process_is_noticed_by_every_waiter(process: Process) -> None:
    """The heir is not told by SIGCHLD, and may have several tasks waiting."""
    await process.ensure()
    await _written(process.directory / "sleeper.pid")
    heir = Process("sleeper", SLEEP, {}, process.directory)
    await heir.ensure()
    waiting = asyncio.gather(heir.wait(), heir.wait(), process.wait())
    await asyncio.sleep(0)
    heir.signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert -signal.SIGTERM in await waiting
    assert not heir.alive()


async def test_a_process_that_ignores_the_request_is_ended_by_force(tmp_path: Path) -> None:
    """Stopping always stops."""
    deaf = "trap '' TERM; : >ready; while :; do sleep 0.1; done"
    process = Process("deaf", ("env", "-C", str(tmp_path), "sh", "-c", deaf), {}, tmp_path)
    await process.ensure()
    await _written(tmp_path / "ready")
    await process.stop(0.1)
    assert process.pid is None
    assert process.status == -signal.SIGKILL
    assert not (tmp_path / "deaf.pid").exists()


async def test_output_goes_to_a_log_that_a_restart_rotates(tmp_path: Path) -> None:
    """The last words of the previous process are what one looks for after a crash."""
    process = Process("talker", ("sh", "-c", "echo out; echo err >&2; exit 3"), {}, tmp_path)
    await process.ensure()
    assert await process.wait() == 3
    assert await process.ensure()
    assert await process.wait() == 3
    assert (tmp_path / "talker.log").read_text() == "out\nerr\n"
    assert (tmp_path / "talker.log.1").read_text() == "out\nerr\n"
    process.trim_log(limit=3)
    assert (tmp_path / "talker.log").read_text() == ""
    process.release()


async def test_a_missing_program_is_an_engine_error(tmp_path: Path) -> None:
    """Whoever starts it must say what to install."""
    with pytest.raises(EngineError, match="nonesuch is not installed"):
        await Process("x", ("nonesuch",), {}, tmp_path).ensure()


def test_delays_double_up_to_five_seconds_and_start_over() -> None:
    """A program that cannot start must not eat a processor, one that crashed once must be back at once."""
    backoff = Backoff()
    assert [backoff.next() for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.reset()
    assert backoff.next() == 0.2
