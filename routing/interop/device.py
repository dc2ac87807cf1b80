"""The device under test as a process: started in its namespace and a pid namespace, and never left behind.

Called by `run`. When this process ends, however it ends, the kernel kills pid 1 of the pid namespace (`unshare --kill-child`, for
which `setpriv` sees to it that `unshare` itself does not outlive us), and with it everything that the device has started. Pid 1 is a
shell and not the device: who becomes another user, as routers do, is no longer killed with its parent.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.model.errors import OperatorError
from routing.interop.dialects.dialect import Dialect, fill
from routing.interop.place import Place, inside
from routing.interop.world import World

#: Where `routing` is imported from, installed or not.
_PACKAGES: Final = Path(__file__).parents[2]
_CAGE: Final = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--pid", "--fork", "--kill-child", "--", "sh", "-c")
#: Pass SIGTERM on, and end as the device ends: a wait that the signal interrupted says nothing about that, one after the end does.
_INIT: Final = """\
"$@" & device=$!
trap 'kill -TERM "$device"' TERM
while :; do
  wait "$device"
  kill -0 "$device" 2>/dev/null || break
done
wait "$device"
exit "$?"
"""
_LOG_LINES: Final = 12
_CHILD_WITHIN: Final = 5.0


class Device:
    """One life of the device. `directory` is {run}."""

    def __init__(self, dialect: Dialect, command: str, directory: Path) -> None:
        """Nothing starts before `start`."""
        self._dialect, self._command, self.directory = dialect, command, directory
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, world: World, place: Place) -> None:
        """Write the configuration and start the process in the namespace."""
        argv = self._argv(self._write(world))
        if shutil.which(argv[0]) is None:
            raise OperatorError.of(f"{argv[0]} is not there", "install it, or give the whole path with --dut")
        environment = {**os.environ, "PYTHONPATH": str(_PACKAGES)}
        with self._log.open("ab") as log, inside(place.device):
            self._process = subprocess.Popen(
                (*_CAGE, _INIT, "sh", *argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=environment,
                start_new_session=True,
            )

    def _write(self, world: World) -> str:
        written = self._dialect.write(world, str(self.directory))
        for directory in self._dialect.directories:
            Path(directory).mkdir(exist_ok=True)
        for name, text in written.files.items():
            path = self.directory / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
        if self._dialect.user:
            self._log.touch()
            for path in (self.directory, *self.directory.iterdir()):
                _give(path, self._dialect.user)
        return str(self.directory / written.config) if written.config else ""

    def _argv(self, config: str) -> list[str]:
        run = str(self.directory)
        return [fill(word, config=config, run=run, python=sys.executable) for word in shlex.split(self._command)]

    @property
    def status(self) -> int | None:
        """Return the exit status; None as long as it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def last_words(self) -> str:
        """Return the last lines that it wrote."""
        with suppress(FileNotFoundError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        return ""

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def close(self) -> None:
        """End it and everything that it started."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: int) -> None:
        """Send a signal to pid 1 of the namespace: `unshare` itself passes none on."""
        child = self._child()
        if child is not None:
            with suppress(ProcessLookupError):
                os.kill(child, number)
        elif self._process is not None and number == signal.SIGKILL:
            self._process.kill()

    def _child(self) -> int | None:
        if self._process is None:
            return None
        pid, deadline = self._process.pid, time.monotonic() + _CHILD_WITHIN
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                words = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
                if words:
                    return int(words[0])
            time.sleep(0.01)
        return None


def _give(path: Path, user: str) -> None:
    try:
        shutil.chown(path, user, user)
    except LookupError:
        raise OperatorError.of(f"there is no user {user} on this machine", "is the router installed?") from None
