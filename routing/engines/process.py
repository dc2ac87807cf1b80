"""One child process that outlives us: start it or adopt it, learn of its death, stop it.

Called by the engines. The process gets a session of its own and no pipe of ours, so it serves on when the daemon dies
(a systemd unit needs KillMode=process). The next daemon finds it by the pid file. A pid alone names nobody for long, so
the file holds the start time and the boot as well, and every signal goes through a pidfd: never to a stranger.
The file is written by the process itself just before it becomes the program: there is no moment at which a killed
daemon leaves a process behind that nobody knows. Where processes are units of systemd (`units`), all but the start is the
same.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from appliance.model.errors import EngineError
from routing.engines import units

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = structlog.get_logger(__name__)

#: $1 pid file, $2 boot, $3 digest, the rest is the command. Nothing is quoted into the script.
_LAUNCHER: Final = """umask 077
read -r stat </proc/$$/stat && printf '%s\\n%s\\n%s\\n' "$stat" "$2" "$3" >"$1.new" && mv "$1.new" "$1" || exit 126
shift 3
exec "$@"
"""
_LOG_LIMIT: Final = 16 << 20


class Backoff:
    """Delays between restarts: 0.2 s, doubled up to 5 s; `reset` after a success."""

    FIRST: Final = 0.2
    LAST: Final = 5.0

    def __init__(self) -> None:
        """Begin with the shortest delay."""
        self._next = self.FIRST

    def next(self) -> float:
        """Return the delay before the coming attempt."""
        delay, self._next = self._next, min(self._next * 2, self.LAST)
        return delay

    def reset(self) -> None:
        """Start over with the shortest delay."""
        self._next = self.FIRST


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process, on which boot, started with which command and environment."""

    pid: int
    start_time: int
    boot: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """Read a pid file; None if it holds no identity (half written, foreign)."""
        lines = text.splitlines()
        stat = _parse_stat(lines[0]) if len(lines) == 3 else None  # noqa: PLR2004 - stat, boot, digest
        return None if stat is None else cls(stat[0], stat[2], lines[1], lines[2])


def _parse_stat(line: str) -> tuple[int, str, int] | None:
    """Return pid, state and start time of a line of /proc/<pid>/stat; the command name may hold spaces and brackets."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    try:
        return int(head.split(" ", 1)[0]), fields[0], int(fields[19])
    except (ValueError, IndexError):
        return None


def _read_stat(pid: int) -> tuple[int, str, int] | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - procfs
            return _parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - procfs
        return file.read().strip()


class Process:
    """One named process; its pid file and log file live in `directory`."""

    def __init__(self, name: str, argv: tuple[str, ...], env: Mapping[str, str], directory: Path) -> None:
        """`env` is the whole environment of the process; PATH is added if it is missing."""
        self.name, self.argv, self.directory = name, argv, directory
        self.env = {"PATH": os.environ.get("PATH", os.defpath), **env}
        self.log_file = directory / f"{name}.log"
        self._unit = units.Unit(directory) if units.wanted() else None
        self._pid_file = directory / f"{name}.pid"
        self._pid: int | None = None
        self._pidfd: int | None = None
        self.status: int | None = None

    @property
    def pid(self) -> int | None:
        """Return the pid of the process we hold, None before `ensure` and after `stop` or `release`."""
        return self._pid

    @property
    def log(self) -> str:
        """Return where to read what the process said: a file, or a command."""
        return str(self.log_file) if self._unit is None else self._unit.log

    async def ensure(self) -> bool:
        """Adopt the running process or start one; tell whether a new one was started.

        A running process of another command line or environment is stopped first.
        """
        if await self.adopt():
            return False
        if shutil.which(self.argv[0], path=self.env["PATH"]) is None:
            message = f"{self.name}: {self.argv[0]} is not installed"
            raise EngineError(message)
        if self._unit is None:
            self._spawn()
        else:
            await self._start(self._unit)
        _log.info("process-started", process=self.name, pid=self._pid)
        return True

    async def adopt(self) -> bool:
        """Take hold of the process if it runs; one of another command line or environment is stopped instead."""
        if self.alive():
            return True
        self.release()
        known = self._find()
        if known is None or not self._hold(known.pid, known.start_time):
            return False
        if known.digest != self._digest():
            await self.stop()
            return False
        _log.info("process-adopted", process=self.name, pid=known.pid)
        return True

    def alive(self) -> bool:
        """Tell whether the process we hold runs (a zombie does not)."""
        if self._pid is None or self._pidfd is None:
            return False
        self._reap(self._pidfd)
        try:
            signal.pidfd_send_signal(self._pidfd, 0)
        except ProcessLookupError:
            return False
        stat = _read_stat(self._pid)
        return stat is not None and stat[1] not in "ZX"

    async def wait(self) -> int | None:
        """Return when the process has ended: its exit status (negative: signal), None if it was not our child."""
        if self._pidfd is None:
            return self.status
        # A duplicate: several callers may wait, and `release` may close ours meanwhile.
        pidfd = os.dup(self._pidfd)
        try:
            await _readable(pidfd)
            self._reap(pidfd)
        finally:
            os.close(pidfd)
        return self.status

    def signal(self, number: int) -> bool:
        """Send a signal to exactly this process; False if it is gone."""
        if self._pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    async def stop(self, grace: float = 5.0) -> None:
        """End the process, by force after `grace` seconds; stopping what does not run succeeds."""
        if self._pidfd is None:
            known = self._find()
            if known is None or not self._hold(known.pid, known.start_time):
                return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()
        _log.info("process-stopped", process=self.name, pid=self._pid)
        self._pid_file.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go of the process, which runs on."""
        if self._pidfd is not None:
            self._reap(self._pidfd)
            os.close(self._pidfd)
        self._pid = self._pidfd = None

    def trim_log(self, limit: int = _LOG_LIMIT) -> None:
        """Empty the log if it grew over `limit` octets: peers can make an engine talk without end."""
        with contextlib.suppress(FileNotFoundError):
            if self.log_file.stat().st_size > limit:
                os.truncate(self.log_file, 0)

    def _digest(self) -> str:
        text = "\0".join((*self.argv, "", *(f"{key}={value}" for key, value in sorted(self.env.items()))))
        return hashlib.sha256(text.encode()).hexdigest()

    def _find(self) -> Identity | None:
        try:
            known = Identity.parse(self._pid_file.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None
        return known if known is not None and known.boot == _boot() else None

    def _hold(self, pid: int, start_time: int) -> bool:
        """Take hold of the process if it is the one we mean; the pidfd first, so that the check stays true."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return False
        stat = _read_stat(pid)
        if stat is None or stat[1] in "ZX" or stat[2] != start_time:
            os.close(pidfd)
            return False
        self._pid, self._pidfd, self.status = pid, pidfd, None
        return True

    async def _start(self, unit: units.Unit) -> None:
        unit.prepare(self.argv, self.env, self._pid_file, (_boot(), self._digest()))
        # In a thread: systemd takes its time, and the FIB must not wait.
        await asyncio.to_thread(unit.start)
        known = self._find()
        if known is None or known.digest != self._digest() or not self._hold(known.pid, known.start_time):
            message = f"{self.name} ended as soon as it was started; see {self.log}"
            raise EngineError(message)

    def _spawn(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        launcher = ("/bin/sh", "-c", _LAUNCHER, self.name, str(self._pid_file), _boot(), self._digest())
        # Not subprocess: its objects wait for, complain about or kill what is meant to outlive us.
        pid = os.posix_spawn(
            launcher[0],
            (*launcher, *self.argv),
            self.env,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log_file), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ),
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
        # Our child cannot be replaced by another process before we reap it.
        self._pid, self._pidfd, self.status = pid, os.pidfd_open(pid), None

    def _reap(self, pidfd: int) -> None:
        with contextlib.suppress(ChildProcessError):
            ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
            if ended is not None:
                self.status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, on_readable)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
