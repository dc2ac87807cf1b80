"""What a script of nft costs the kernel in memory: the account of a control group in which only its loader runs.

The kernel charges what it keeps for rules, sets and elements to whoever made them, and goes on doing so when the loader
has ended. cgroups(7): version 1 tells kernel memory in a file of its own, version 2 in memory.stat.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOTS: Final = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
_V1: Final = "memory.kmem.usage_in_bytes"
#: The account is right when it rests: what was freed is given back after RCU grace periods.
_REST, _WITHIN = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Account:
    """A control group."""

    path: Path

    def bytes(self) -> int:
        """Return the kernel memory that is charged to it."""
        one = self.path / _V1
        if one.exists():
            return int(one.read_text())
        stat = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        return int(stat["kernel"])

    def settled(self) -> int:
        """Return it when it rests."""
        end, last = time.monotonic() + _WITHIN, -1
        while (now := self.bytes()) != last and time.monotonic() < end:
            last = now
            time.sleep(_REST)
        return now

    def run(self, command: Sequence[str]) -> float:
        """Run a command in it; return the seconds that it took, its start included."""
        begun = time.perf_counter()
        entering = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self.path))
        subprocess.run([*entering, *command], check=True, capture_output=True)
        return time.perf_counter() - begun


@contextmanager
def account(name: str) -> Iterator[Account | None]:
    """Make a control group below our own, for as long as it is used; None where memory has no controller."""
    made = next((path for root in _ROOTS if (path := _make(root, name)) is not None), None)
    try:
        yield None if made is None else Account(made)
    finally:
        if made is not None:
            with suppress(OSError):
                made.rmdir()


def _make(root: Path, name: str) -> Path | None:
    """Make one below our own group, or below the root, where it can be read."""
    rows = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    ours = next((path for _, kinds, path in rows if kinds == ("memory" if root.name == "memory" else "")), "/")
    for parent in (root / ours.lstrip("/"), root):
        path = parent / name
        if not (parent / "cgroup.procs").exists():
            continue
        with suppress(OSError):
            path.mkdir(exist_ok=True)
            if (path / _V1).exists() or "kernel " in (path / "memory.stat").read_text():
                return path
            path.rmdir()
    return None
