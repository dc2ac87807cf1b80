"""A tree with Debian in it, booted: systemd as pid 1 of namespaces of its own, without a machine around them.

Called by tests of the package. It has its own network, processes, mounts and control groups; a second is enough to start.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import eventually

#: $1 the tree, $2 the control group. What pid 1 expects of who starts it: https://systemd.io/CONTAINER_INTERFACE/
_BOOT = r"""
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs run -o mode=755
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev -o mode=755
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx dev/ptmx
mount -t cgroup2 none sys/fs/cgroup
pivot_root . mnt
umount -l /mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0
"""
_NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")


def control_groups() -> Path | None:
    """Return where this machine has control groups of version 2, if it has them."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    return None


class Booted:
    """What runs in a tree; `pid` is its pid 1 as seen from here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command in it; return what it said, on both ways."""
        inside = ("nsenter", "-t", str(self.pid), *_NAMESPACES, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        done = subprocess.run(
            [*inside, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=240
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def succeeds(self, *words: str) -> bool:
        """Tell whether a command succeeds in it."""
        inside = ("nsenter", "-t", str(self.pid), *_NAMESPACES, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        return subprocess.run([*inside, *words], capture_output=True, check=False, timeout=240).returncode == 0


@contextmanager
def booted(tree: Path, token: str) -> Iterator[Booted]:
    """Boot a tree; everything that runs in it ends with the block."""
    above = control_groups()
    assert above is not None
    group = above / f"ewt-{token}"
    group.mkdir(exist_ok=True)
    join = (
        f'echo $$ >"{group}/cgroup.procs"; exec unshare {" ".join(_NAMESPACES)} --fork --kill-child sh -c "$0" - "$@"'
    )
    with subprocess.Popen(
        ["sh", "-c", join, _BOOT, str(tree), str(group)], start_new_session=True, stdin=subprocess.DEVNULL
    ) as outer:
        try:
            made = Booted(eventually(lambda: _first(outer), within=60, what="pid 1 is systemd"))
            eventually(
                lambda: made.succeeds("systemctl", "is-active", "basic.target"), within=240, what="it has booted"
            )
            yield made
        finally:
            with suppress(ProcessLookupError):
                os.killpg(outer.pid, signal.SIGKILL)
            outer.wait()
            eventually(lambda: _emptied(group), within=60, what="nothing of it runs any more")


def _first(outer: subprocess.Popen[bytes]) -> int:
    assert outer.poll() is None, f"it ended with {outer.returncode}"
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
    for child in children:
        if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
            return int(child)
    return 0


def _emptied(group: Path) -> bool:
    for directory in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        with suppress(OSError):
            directory.rmdir()
    with suppress(OSError):
        group.rmdir()
    return not group.exists()
