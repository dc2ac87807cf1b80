"""Make the nodes of a lab: a program of its own, run by the lab runner.

Reads a JSON list of objects (see `appliance.panel.lab.spec`) from standard input, prints a JSON list with what went
wrong with each, or null. One process, so that Python starts once, which is the greater part of the time; from it::

    runner ── this program ─┬─ maker: unshare, fork ────────── write the record ── "go" ── wait for "ready" ── exit
                            │           └─ pid 1 of the node: wait for "go" ─┘  mounts, sysctls, lo, exec init ─┘
                            └─ maker ... one for each node

No node ever runs without a record of it on the disk, whenever whoever is killed: makers die with us and we with the
runner, and pid 1 ends itself without "go".
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, NoReturn

from appliance.panel.lab.filetree import (
    MS_BIND,
    MS_REMOUNT,
    StepError,
    bind,
    build_root,
    enter_root,
    libc,
    mount,
    mount_empty,
    show,
    write_files,
)
from appliance.panel.lab.process import start_time

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 1 << 30
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PR_SET_PDEATHSIG = 1

Spec = dict[str, Any]
Problem = dict[str, Any]


def set_sysctls(values: dict[str, str]) -> None:
    """Write the node's own sysctls; those of the machine are then out of reach."""
    for name, value in values.items():
        try:
            path = name if "/" in name else name.replace(".", "/")
            Path("/proc/sys", path).write_text(value, encoding="ascii")
        except OSError as error:
            step = f"sysctl {name}={value}"
            raise StepError(step, error.errno or 0) from error
    # /proc/sys/net holds only what belongs to this namespace (the kernel sees to that), the rest is the machine's.
    bind("/proc/sys", "/proc/sys", read_only=True)
    bind("/proc/sys/net", "/proc/sys/net")
    mount("", "/proc/sys/net", flags=MS_REMOUNT | MS_BIND)
    if Path("/proc/sysrq-trigger").exists():
        bind("/proc/sysrq-trigger", "/proc/sysrq-trigger", read_only=True)


def raise_loopback() -> None:
    """Bring `lo` up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def become_init(spec: Spec, ready: int) -> NoReturn:
    """Do everything that is done from inside, and turn into the node's init."""
    os.setsid()
    enter_root(build_root(spec["place"]))
    write_files(spec["files"])
    mount_empty(spec["tmpfs"])
    show(spec["keep"], spec["binds"])
    socket.sethostname(spec["hostname"])
    set_sysctls(spec["sysctls"])
    raise_loopback()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.set_inheritable(ready, True)  # noqa: FBT003 - positional only
    argv = [*spec["init"][:1], "-I", "-S", *spec["init"][1:2], "--ready-fd", str(ready), *spec["init"][2:]]
    os.execve(argv[0], argv, spec["env"])
    raise AssertionError


def child(spec: Spec, go: int, ready: int) -> NoReturn:
    """Be pid 1: wait until our record is written, then start; say what failed."""
    try:
        if not os.read(go, 1):
            os._exit(1)
        become_init(spec, ready)
    except StepError as error:
        problem = error.problem()
    except OSError as error:
        step = " ".join(str(part) for part in (error.filename, error.filename2) if part) or "start"
        problem = {"step": step, "errno": error.errno, "message": error.strerror}
    os.write(ready, json.dumps(problem).encode() + b"\n")
    os._exit(1)


def write_record(spec: Spec, pid: int) -> None:
    """Write down who pid 1 is, in one piece."""
    new = Path(f"{spec['record']}.new")
    new.write_text(json.dumps({"name": spec["name"], "pid": pid, "start": start_time(pid)}), encoding="utf-8")
    new.replace(spec["record"])


def make(spec: Spec) -> Problem | None:
    """Start one node; return what went wrong."""
    log = os.open(spec["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    libc("unshare", "unshare", CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
    go_read, go_write = os.pipe()
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go_write)
        os.dup2(log, 1)
        os.dup2(log, 2)
        child(spec, go_read, ready_write)
    os.close(ready_write)
    write_record(spec, pid)
    os.write(go_write, b"g")
    with os.fdopen(ready_read, encoding="utf-8") as ready:
        answer = ready.readline()
    if answer.startswith("{"):
        problem: Problem = json.loads(answer)
        return problem
    said = answer.strip() if answer else "pid 1 ended at once"
    return {"step": "start", "errno": 0, "message": said} if said else None


def die_with(parent: int) -> None:
    """End when our parent does, also if it has already."""
    libc("prctl", "prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def fork_maker(spec: Spec) -> int:
    """Make one node in a process of its own; return where its answer, JSON, can be read."""
    answer_read, answer_write = os.pipe()
    us = os.getpid()
    if os.fork():
        os.close(answer_write)
        return answer_read
    try:
        die_with(us)
        problem = make(spec)
    except StepError as error:
        problem = error.problem()
    except OSError as error:
        problem = {"step": str(error.filename or "make"), "errno": error.errno, "message": error.strerror}
    os.write(answer_write, json.dumps(problem).encode())
    os._exit(0)


def main() -> None:
    """Run as a program; the argument is the pid of the runner."""
    die_with(int(sys.argv[1]))
    specs = json.load(sys.stdin)
    for fd in {spec["lock"] for spec in specs}:
        os.set_inheritable(fd, False)  # noqa: FBT003 - positional only
    problems = []
    for answer in [fork_maker(spec) for spec in specs]:
        with os.fdopen(answer, encoding="utf-8") as file:
            text = file.read()
        problems.append(json.loads(text) if text else {"step": "make", "errno": 0, "message": "the maker was killed"})
    sys.stdout.write(json.dumps(problems))


if __name__ == "__main__":
    main()
