"""The file tree of a node: an overlay of the machine's root and a tmpfs, with /dev, /proc, /run, /sys, /tmp of its own.

Called by pid 1 of a node, in its new mount namespace. Nothing that is mounted or written here is seen on the machine.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE, MNT_DETACH = 16384, 1 << 18, 2
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun", "kvm", "fuse")
OLD_ROOT = "/.machine"
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}

_LIBC = ctypes.CDLL(None, use_errno=True)


class StepError(Exception):
    """A step of the work failed: what was tried, and why it did not work."""

    def __init__(self, step: str, errno: int, message: str = "") -> None:
        """`errno` 0: not the kernel's word, see `message`."""
        super().__init__(step)
        self.step, self.errno, self.message = step, errno, message or os.strerror(errno)

    def problem(self) -> dict[str, Any]:
        """Render for whoever started us."""
        return {"step": self.step, "errno": self.errno, "message": self.message}


def libc(step: str, name: str, *arguments: Any) -> None:
    """Call libc; -1 becomes StepError."""
    if getattr(_LIBC, name)(*arguments) == -1:
        raise StepError(step, ctypes.get_errno())


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount."""
    words = [text.encode() or None for text in (source, target, kind, data)]
    step = f"mount {kind or source} on {target}"
    libc(step, "mount", words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Show a file or directory of the machine at `target`, which is made when it is not there."""
    make_place(target, directory=Path(source).is_dir())
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        mount("", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)


def make_place(path: str, *, directory: bool) -> None:
    """Make an empty directory or file to mount on."""
    place = Path(path)
    (place if directory else place.parent).mkdir(parents=True, exist_ok=True)
    if not directory and not place.exists():
        place.touch(mode=0o644)


def build_root(base: str) -> str:
    """Put the node's file tree together below `base`; return where."""
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    mount("lab", base, "tmpfs", data="mode=0755")
    upper, work, root = (f"{base}/{name}" for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        Path(path).mkdir()
    mount("lab", root, "overlay", data=f"lowerdir=/,upperdir={upper},workdir={work}")
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", f"{root}/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if Path(f"{root}/sys/fs/bpf").is_dir():
        mount("bpf", f"{root}/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700")
    build_dev(f"{root}/dev")
    for directory, mode in (("run", "0755"), ("tmp", "1777")):
        mount(directory, f"{root}/{directory}", "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    for name in ("netns", "lock", "edgeway"):
        Path(f"{root}/run/{name}").mkdir()
    return root


def build_dev(dev: str) -> None:
    """Fill a /dev of the node's own: no disk, no terminal of the machine."""
    mount("dev", dev, "tmpfs", MS_NOSUID, "mode=0755")
    for directory in ("pts", "shm", "net", "mqueue"):
        Path(f"{dev}/{directory}").mkdir()
    mount("devpts", f"{dev}/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    mount("shm", f"{dev}/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for name in DEVICES:
        device = Path("/dev", name)
        if device.is_char_device():
            status = device.stat()
            os.mknod(f"{dev}/{name}", stat.S_IFCHR, status.st_rdev)
            Path(dev, name).chmod(stat.S_IMODE(status.st_mode))
    for name, target in LINKS.items():
        Path(dev, name).symlink_to(target)


def enter_root(root: str) -> None:
    """Make `root` the root; the machine's own stays in sight at OLD_ROOT.

    Everything that follows names paths in the node, so a symbolic link on the way never leads back to the machine.
    """
    Path(f"{root}{OLD_ROOT}").mkdir()
    libc("pivot_root", "pivot_root", root.encode(), f"{root}{OLD_ROOT}".encode())
    os.chdir("/")


def write_files(files: dict[str, str]) -> None:
    """Put files of ours into the node."""
    for path, content in files.items():
        file = Path(path)
        file.unlink(missing_ok=True)
        file.write_text(content, encoding="utf-8")
        file.chmod(0o755 if content.startswith("#!") else 0o644)


def mount_empty(places: dict[str, str]) -> None:
    """Mount empty file systems in memory, with options as `mount` has them: `size=64m`."""
    for target, options in sorted(places.items()):
        make_place(target, directory=True)
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options)


def show(keep: list[str], binds: list[dict[str, Any]]) -> None:
    """Show in the node what it is to see of the machine, and let go of the rest."""
    for path in keep:
        bind(OLD_ROOT + path, path, read_only=True)
    for entry in binds:
        bind(OLD_ROOT + entry["source"], entry["target"], read_only=entry["read_only"])
    libc("leave the machine's root", "umount2", OLD_ROOT.encode(), MNT_DETACH)
    Path(OLD_ROOT).rmdir()
