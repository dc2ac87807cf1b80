"""Pid 1 of lab nodes: told from strangers by their start time, spoken to by pidfd only.

Called by the lab runner. When pid 1 of a node ends, the kernel ends everything else in its pid namespace first, so
these few processes are all there is to stop.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: How long nodes get to stop by themselves. Init gives its commands a little less.
STOP_WITHIN: Final = 2.0
KILL_WITHIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class Record:
    """Pid 1 of a node. The start time tells it from a later process with the same pid."""

    name: str
    pid: int
    start: int

    def open(self) -> int | None:
        """Return a pidfd of exactly that process, or None when it has ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if start_time(self.pid) == self.start:
            return fd
        os.close(fd)
        return None

    def alive(self) -> bool:
        """Tell whether it is still running."""
        return start_time(self.pid) == self.start


def start_time(pid: int) -> int | None:
    """Return when a running process started, in ticks since boot; None for one that has ended (or is not reaped)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def stop(records: tuple[Record, ...]) -> int:
    """End pid 1 of every node, first politely; return when all are gone, and with them everything in the nodes."""
    open_fds = [fd for record in records if (fd := record.open()) is not None]
    left = set(open_fds)
    for number, patience in ((signal.SIGTERM, STOP_WITHIN), (signal.SIGKILL, KILL_WITHIN)):
        for fd in left:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
        left = _await_end(left, patience)
    for fd in open_fds:
        os.close(fd)
    return len(open_fds)


def _await_end(fds: set[int], patience: float) -> set[int]:
    """Wait for processes to end; return those that did not in time."""
    poll, left = select.poll(), set(fds)
    for fd in left:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + patience
    while left and (remaining := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(remaining * 1000):
            poll.unregister(fd)
            left.discard(fd)
    return left
