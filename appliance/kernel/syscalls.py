"""The few system calls of Linux that Python 3.11 lacks: setns, unshare, mount, umount2, inotify.

Called by `appliance.kernel.namespaces` and the watchers; each raises OSError as the standard library would.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

CLONE_NEWNET: Final = 0x4000_0000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 0x10_0000
MNT_DETACH: Final = 2
IN_CREATE, IN_DELETE, IN_ATTRIB = 0x100, 0x200, 0x4

_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> int:
    """Call libc and turn -1 into OSError."""
    result: int = getattr(_LIBC, name)(*arguments)
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
    return result


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace behind `fd`."""
    _call("setns", fd, CLONE_NEWNET)


def unshare_net() -> None:
    """Give the calling thread a new, empty network namespace."""
    _call("unshare", CLONE_NEWNET)


def mount(source: str | Path, target: str | Path, flags: int, kind: str = "none") -> None:
    """Mount a file system of a kind, bind-mount, or change the propagation of, `target`."""
    _call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        kind.encode(),
        ctypes.c_ulong(flags),
        None,
    )


def umount(target: str | Path) -> None:
    """Detach the mount at `target`, also when somebody is still using it."""
    _call("umount2", os.fsencode(target), MNT_DETACH)


def inotify(directory: str | Path, mask: int) -> int:
    """Return a non-blocking descriptor that becomes readable when `directory` changes."""
    fd = _call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _call("inotify_add_watch", fd, os.fsencode(directory), ctypes.c_uint32(mask))
    except OSError:
        os.close(fd)
        raise
    return fd


def drain(fd: int) -> None:
    """Read all that waits on a non-blocking descriptor."""
    with suppress(BlockingIOError):
        while os.read(fd, 1 << 16):
            pass


def close(fd: int) -> None:
    """Close a descriptor."""
    os.close(fd)
