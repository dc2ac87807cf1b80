"""An engine's process as a unit of systemd, where EDGEWAY_UNITS=systemd says that this is the way (design 0009).

Called by `process` in place of starting a child. The unit edgeway-KIND@SPEAKER.service runs, as the user `edgeway` and with
next to no rights, a script that says what a child would have been started with::

    /run/edgeway/KIND/SPEAKER/          root's; the engine reads and passes through
        run  started  NAME.pid          the command; what notes the process; the note
        state/                          the engine's own: its socket, what the next process is to know

The note is written by root (ExecStartPost=+), never by the engine: the daemon sends signals to whom it names.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.model.errors import EngineError

USER: Final = "edgeway"
#: How long systemd may take until the program is executed, in seconds; without a processor's help that is many forks.
PATIENCE: Final = 60.0

#: Run by root in the unit, with MAINPID. The directory is root's alone to write, so nobody else can have put something there.
_NOTE: Final = """umask 077
read -r stat <"/proc/$MAINPID/stat"
printf '%s\\n%s\\n%s\\n' "$stat" {boot} {digest} >{pid}.new
mv {pid}.new {pid}
"""


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether engines are units on this machine."""
    return environ.get("EDGEWAY_UNITS") == "systemd"


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of the engine whose files are in `directory`, .../KIND/SPEAKER."""

    directory: Path

    @property
    def name(self) -> str:
        """Return the unit's name; a speaker that cannot be part of one is our mistake."""
        speaker = self.directory.name
        if not re.fullmatch(r"[A-Za-z0-9:_.-]+", speaker):
            raise EngineError(f"{speaker!r} cannot be part of a unit's name")
        return f"edgeway-{self.directory.parent.name}@{speaker}.service"

    @property
    def log(self) -> str:
        """Return the command that shows what the process said."""
        return f"journalctl -u {self.name}"

    def prepare(self, command: tuple[str, ...], env: Mapping[str, str], pid_file: Path, note: tuple[str, str]) -> None:
        """Write what the unit runs, and let the engine's user in: `note` is boot and digest."""
        user = pwd.getpwnam(USER)
        state = self.directory / "state"
        for path in (self.directory, state):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _may_read(self.directory, user.pw_gid)
        os.chown(state, user.pw_uid, user.pw_gid)
        words = [f"{key}={value}" for key, value in sorted(env.items())]
        _write(self.directory / "run", f"exec env -i {shlex.join([*words, *command])}\n")
        boot, digest = (shlex.quote(word) for word in note)
        _write(self.directory / "started", _NOTE.format(pid=shlex.quote(str(pid_file)), boot=boot, digest=digest))
        for path in self.directory.iterdir():
            if path.is_file() and path not in {pid_file, self.directory / "started"}:
                _may_read(path, user.pw_gid)
        pid_file.unlink(missing_ok=True)

    def start(self) -> None:
        """Let systemd run it; return when the program was executed and noted. What ran unnoted is replaced."""
        command = ("systemctl", "restart", "--", self.name)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"{self.name} does not start: {error}") from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
            raise EngineError(f"{self.name} does not start: {said} ({self.log})")


def _may_read(path: Path, group: int) -> None:
    os.chown(path, -1, group)
    path.chmod(0o750 if path.is_dir() else 0o640)


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8") as file:
        path.chmod(0o600)
        file.write(text)
