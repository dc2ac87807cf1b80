"""Make the namespaces of one lab node and start its pid 1 in them: a program of its own, run by the lab runner.

Reads a JSON object (see `Spec` in `appliance.panel.lab.spec`) from standard input. Two processes take part::

    runner ── this program: unshare, fork ──────────────── write the record ── "go" ── wait for "ready" ── exit
                                └─ pid 1 of the node: wait for "go" ─┘  mounts, sysctls, lo, exec init ─┘

So no node ever runs without a record of it on the disk, whenever whoever is killed: without "go" pid 1 ends itself.
Prints nothing and exits with 0, or prints one JSON object that says which step failed.

The node's root is an overlay: the machine's own root below, a tmpfs above. Standard library only, and run with
`python -I -S`, because this is the greater part of the time that a lab takes to come up.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import stat
import struct
import sys
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 1 << 30
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE, MNT_DETACH = 16384, 1 << 18, 2
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
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


def libc(step: str, name: str, *arguments: Any) -> None:  # noqa: ANN401 - what C takes
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
    make_place(target, directory=os.path.isdir(source))
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        mount("", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)


def make_place(path: str, *, directory: bool) -> None:
    """Make an empty directory or file to mount on."""
    os.makedirs(path if directory else os.path.dirname(path), exist_ok=True)
    if not directory and not os.path.lexists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def build_root(spec: dict[str, Any]) -> str:
    """Put the node's file tree together; return where."""
    base = spec["place"]
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    mount("lab", base, "tmpfs", data="mode=0755")
    upper, work, root = (f"{base}/{name}" for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        os.mkdir(path)
    mount("lab", root, "overlay", data=f"lowerdir=/,upperdir={upper},workdir={work}")
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", f"{root}/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if os.path.isdir(f"{root}/sys/fs/bpf"):
        mount("bpf", f"{root}/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700")
    build_dev(f"{root}/dev")
    for directory, mode in (("run", "0755"), ("tmp", "1777")):
        mount(directory, f"{root}/{directory}", "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    for name in ("netns", "lock", "edgeway"):
        os.mkdir(f"{root}/run/{name}")
    return root


def build_dev(dev: str) -> None:
    """Fill a /dev of the node's own: no disk, no terminal of the machine."""
    mount("dev", dev, "tmpfs", MS_NOSUID, "mode=0755")
    for directory in ("pts", "shm", "net", "mqueue"):
        os.mkdir(f"{dev}/{directory}")
    mount("devpts", f"{dev}/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    mount("shm", f"{dev}/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            status = os.stat(f"/dev/{name}")
            os.mknod(f"{dev}/{name}", stat.S_IFCHR, status.st_rdev)
            os.chmod(f"{dev}/{name}", stat.S_IMODE(status.st_mode))
    for name, target in LINKS.items():
        os.symlink(target, f"{dev}/{name}")


def enter_root(root: str, keep: list[str], binds: list[dict[str, Any]]) -> None:
    """Make `root` the root, show in it what the node is to see of the machine, and let go of the rest.

    The binds come after the change of root, so that a symbolic link in a target leads to the node's tree.
    """
    os.mkdir(f"{root}{OLD_ROOT}")
    libc("pivot_root", "pivot_root", root.encode(), f"{root}{OLD_ROOT}".encode())
    os.chdir("/")
    for path in keep:
        bind(OLD_ROOT + path, path, read_only=True)
    for entry in binds:
        bind(OLD_ROOT + entry["source"], entry["target"], read_only=entry["read_only"])
    libc("leave the old root", "umount2", OLD_ROOT.encode(), MNT_DETACH)
    os.rmdir(OLD_ROOT)


def set_sysctls(values: dict[str, str]) -> None:
    """Write the node's own sysctls; those of the machine are then out of reach."""
    for name, value in values.items():
        try:
            with open(f"/proc/sys/{name.replace('.', '/')}", "w", encoding="ascii") as file:
                file.write(value)
        except OSError as error:
            step = f"sysctl {name}={value}"
            raise StepError(step, error.errno or 0) from error
    # /proc/sys/net holds only what belongs to this namespace (the kernel sees to that), the rest is the machine's.
    bind("/proc/sys", "/proc/sys", read_only=True)
    bind("/proc/sys/net", "/proc/sys/net")
    mount("", "/proc/sys/net", flags=MS_REMOUNT | MS_BIND)
    bind("/proc/sysrq-trigger", "/proc/sysrq-trigger", read_only=True)


def raise_loopback() -> None:
    """Bring `lo` up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def become_init(spec: dict[str, Any], ready: int) -> NoReturn:
    """Do everything that is done from inside, and turn into the node's init."""
    os.setsid()
    enter_root(build_root(spec), spec["keep"], spec["binds"])
    socket.sethostname(spec["hostname"])
    set_sysctls(spec["sysctls"])
    raise_loopback()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.set_inheritable(ready, True)  # noqa: FBT003 - positional only
    argv = [*spec["init"][:1], "-I", "-S", *spec["init"][1:2], "--ready-fd", str(ready), *spec["init"][2:]]
    os.execve(argv[0], argv, spec["env"])
    raise AssertionError


def child(spec: dict[str, Any], go: int, ready: int) -> NoReturn:
    """Be pid 1: wait until our record is written, then start; say what failed."""
    try:
        if not os.read(go, 1):
            os._exit(1)
        become_init(spec, ready)
    except StepError as error:
        problem = {"step": error.step, "errno": error.errno, "message": error.message}
    except OSError as error:
        step = " ".join(str(part) for part in (error.filename, error.filename2) if part) or "start"
        problem = {"step": step, "errno": error.errno, "message": error.strerror}
    os.write(ready, json.dumps(problem).encode() + b"\n")
    os._exit(1)


def start_time(pid: int) -> int:
    """Return when a process started, in ticks since boot: with the pid, its identity."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def write_record(spec: dict[str, Any], pid: int) -> None:
    """Write down who pid 1 is, in one piece."""
    new = f"{spec['record']}.new"
    with open(new, "w", encoding="utf-8") as file:
        json.dump({"name": spec["name"], "pid": pid, "start": start_time(pid)}, file)
    os.replace(new, spec["record"])


def start(spec: dict[str, Any]) -> str:
    """Start the node; return what went wrong, as JSON, or nothing."""
    os.set_inheritable(spec["lock"], False)  # noqa: FBT003 - positional only
    log = os.open(spec["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    libc("unshare", "unshare", flags)
    go_read, go_write = os.pipe()
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go_write)
        os.close(ready_read)
        os.dup2(log, 1)
        os.dup2(log, 2)
        child(spec, go_read, ready_write)
    os.close(ready_write)
    write_record(spec, pid)
    os.write(go_write, b"g")
    with os.fdopen(ready_read, encoding="utf-8") as ready:
        answer = ready.readline()
    if not answer:
        return json.dumps({"step": "start", "errno": 0, "message": "pid 1 ended at once, see the node's log"})
    text = answer.strip()
    return text if not text or text.startswith("{") else json.dumps({"step": "start", "errno": 0, "message": text})


def main() -> None:
    """Run as a program."""
    try:
        problem = start(json.load(sys.stdin))
    except StepError as error:
        problem = json.dumps({"step": error.step, "errno": error.errno, "message": error.message})
    if problem:
        sys.stdout.write(problem)
        sys.exit(1)


if __name__ == "__main__":
    main()
