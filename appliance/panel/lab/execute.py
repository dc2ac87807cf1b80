"""Run something inside a node: all its namespaces, its environment.

Called by the lab runner and, through it, by the command line and by tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Keys of the caller's environment that belong to the terminal rather than to the machine.
OF_THE_TERMINAL: Final = ("TERM", "COLORTERM", "COLUMNS", "LINES")


def inside(pid: int, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs `argv` in the namespaces of `pid`."""
    nsenter = shutil.which("nsenter") or "/usr/bin/nsenter"
    return [nsenter, "-t", str(pid), "--net", "--uts", "--ipc", "--mount", "--pid", "--", *argv]


def environment(pid: int) -> dict[str, str]:
    """Return the environment of a node, which is that of its pid 1."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}


def attached(pid: int, argv: Sequence[str]) -> int:
    """Run with our own standard input and output, terminal or not; return the exit status as a shell would."""
    terminal = {name: os.environ[name] for name in OF_THE_TERMINAL if name in os.environ}
    sys.stdout.flush()
    with _interrupts_are_the_childs():
        code = subprocess.call(inside(pid, argv), env=environment(pid) | terminal)
    return code if code >= 0 else 128 - code


def captured(pid: int, argv: Sequence[str], timeout: float | None) -> subprocess.CompletedProcess[str]:
    """Run and keep the output; on TimeoutExpired nothing of it is left running."""
    with subprocess.Popen(
        inside(pid, argv),
        env=environment(pid),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)


@contextmanager
def _interrupts_are_the_childs() -> Iterator[None]:
    """Leave Ctrl-C to the command at the terminal; a handler, unlike SIG_IGN, is not inherited."""
    try:
        before = signal.signal(signal.SIGINT, lambda *_: None)
    except ValueError:  # not the main thread: no signal arrives here anyway
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
