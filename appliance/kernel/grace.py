"""RCU grace periods between the transactions of one namespace (design 0004, "The race").

A packet takes the rules of the moment at which it enters a chain, but the elements of sets of the moment at which it
looks. Between two transactions of ours every packet that saw the time before the first must have left: membarrier(2)
with MEMBARRIER_CMD_GLOBAL returns when it has (synchronize_rcu in the kernel; packets are under RCU from the device to
the socket, the wire or the drop). It takes about 8 ms, in a thread of its own, so only a transaction that follows
another at once waits. On a machine with one CPU it returns at once: there no packet is on its way while we run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import threading
from collections.abc import Callable, Hashable
from typing import Final

from appliance.model.errors import KernelError

_NUMBERS: Final = {"x86_64": 324, "aarch64": 283, "riscv64": 283}
MEMBARRIER_CMD_QUERY, MEMBARRIER_CMD_GLOBAL = 0, 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def membarrier(command: int) -> int:
    """Make the system call; the interpreter runs other threads meanwhile."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result: int = _LIBC.syscall(ctypes.c_long(number), ctypes.c_int(command), ctypes.c_uint(0), ctypes.c_int(0))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _refusal(code: int) -> KernelError:
    """Say what is missing: a kernel booted with nohz_full has it not."""
    return KernelError("membarrier", "MEMBARRIER_CMD_GLOBAL, which flow records need (is nohz_full set?)", code)


def wait_for_readers() -> None:
    """Return when every packet that is on its way now has left."""
    try:
        membarrier(MEMBARRIER_CMD_GLOBAL)
    except OSError as error:
        raise _refusal(error.errno or errno.EINVAL) from error


def offered() -> int:
    """Return the commands that this kernel offers, as bits; none if it has no such system call."""
    try:
        return membarrier(MEMBARRIER_CMD_QUERY)
    except OSError:
        return 0


class Grace:
    """One thread that waits, and who waits for it: a namespace begins a period, and ends it before it goes on."""

    def __init__(self, wait: Callable[[], None] = wait_for_readers, query: Callable[[], int] = offered) -> None:
        """Start no thread before the first period; `wait` and `query` are others in tests."""
        self._wait, self._query = wait, query
        self._state = threading.Condition()
        self._asked = self._done = 0
        self._periods: dict[Hashable, int] = {}
        self._thread: threading.Thread | None = None
        self._refused: KernelError | None = None

    def begin(self, who: Hashable) -> None:
        """Begin a period for `who`: it ends when all packets that are on their way now have left.

        Raise KernelError where this kernel offers no such thing.
        """
        with self._state:
            self._asked += 1
            self._periods[who] = self._asked
            if self._thread is None:
                if not self._query() & MEMBARRIER_CMD_GLOBAL:
                    raise _refusal(errno.EINVAL)
                self._thread = threading.Thread(target=self._run, name="grace", daemon=True)
                self._thread.start()
            self._state.notify_all()

    def end(self, who: Hashable) -> None:
        """Return when the last period of `who` is over; raise if the kernel refuses to tell."""
        with self._state:
            period = self._periods.pop(who, 0)
            self._state.wait_for(lambda: self._done >= period or self._refused is not None)
            if self._refused is not None:
                raise self._refused

    def under_way(self, who: Hashable) -> bool:
        """Tell whether `end` would wait."""
        with self._state:
            return self._periods.get(who, 0) > self._done

    def forget(self, who: Hashable) -> None:
        """Nobody waits for this one any more."""
        with self._state:
            self._periods.pop(who, None)

    def close(self) -> None:
        """End the thread; a period that is under way is waited for."""
        with self._state:
            thread, self._thread = self._thread, None
            self._state.notify_all()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        """Wait once for all who have asked until then, again and again."""
        mine = threading.current_thread()
        while True:
            with self._state:
                self._state.wait_for(lambda: self._asked > self._done or self._thread is not mine)
                if self._thread is not mine:
                    return
                asked = self._asked
            try:
                self._wait()
            except KernelError as error:
                with self._state:
                    self._refused = error
                    self._state.notify_all()
                return
            with self._state:
                self._done = asked
                self._state.notify_all()
