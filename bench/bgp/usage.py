"""What processes cost, from proc(5): CPU time of all their threads, the most memory each ever had."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def tree(*roots: int) -> list[int]:
    """Return processes and all that descend from them."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children[_parent(int(entry.name))].append(int(entry.name))
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children[pid]
    return found


def _parent(pid: int) -> int:
    return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def cpu(*pids: int) -> float:
    """Return the seconds that all threads of processes have run; of what has ended nothing is known."""
    nanoseconds = 0
    for pid in pids:
        with suppress(OSError):
            for task in (_PROC / str(pid) / "task").iterdir():
                with suppress(OSError):
                    nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def peak(*pids: int) -> float:
    """Return the sum of the most memory that each process had, in MiB."""
    kibibytes = 0
    for pid in pids:
        with suppress(OSError):
            lines = (_PROC / str(pid) / "status").read_text().splitlines()
            kibibytes += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kibibytes / 1024
