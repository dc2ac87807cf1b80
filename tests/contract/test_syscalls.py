"""System calls that Python lacks."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING

import pytest

from appliance.kernel import syscalls

if TYPE_CHECKING:
    from pathlib import Path


def test_a_refused_call_is_an_oserror_that_names_the_call() -> None:
    """As the standard library would have it."""
    with pytest.raises(OSError, match="setns") as error:
        syscalls.setns(-1)
    assert error.value.errno == errno.EBADF
    with pytest.raises(OSError, match="umount2") as error:
        syscalls.umount("/run/ewt-no-such-place")
    assert error.value.errno == errno.ENOENT


def test_inotify_becomes_readable_when_a_name_appears(tmp_path: Path) -> None:
    """And is quiet again once drained."""
    fd = syscalls.inotify(tmp_path, syscalls.IN_CREATE)
    try:
        assert select.select([fd], [], [], 0)[0] == []
        (tmp_path / "red").touch()
        assert select.select([fd], [], [], 5)[0] == [fd]
        syscalls.drain(fd)
        assert select.select([fd], [], [], 0)[0] == []
    finally:
        syscalls.close(fd)


def test_watching_what_is_not_there_leaks_no_descriptor(tmp_path: Path) -> None:
    """The descriptor is closed before the error is raised."""
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - the numbers matter
    with pytest.raises(FileNotFoundError):
        syscalls.inotify(tmp_path / "none", syscalls.IN_CREATE)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
