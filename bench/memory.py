"""What a script of nft costs the kernel in memory: the account of a control group in which only its loader runs.

The kernel charges what it keeps for rules, sets and elements to whoever made them, and goes on doing so when the loader
has ended. cgroups(7): version 1 tells kernel memory in a file of its own, version 2 in memory.stat.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The hierarchy of memory under version 1, and that of everything under version 2.
_ROOTS: Final = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
_V1: Final = "memory.kmem.usage_in_bytes"
_PREFIX: Final = "edgeway-bench-"
#: The account is right when it rests: what was freed is given back after RCU grace periods.
_REST, _WITHIN = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Account:
    """A control group."""

    path: Path

    def octets(self) -> int:
        """Return the kernel memory that is charged to it."""
        one = self.path / _V1
        if one.exists():
            return int(one.read_text())
        stat = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        return int(stat["kernel"])

    def settled(self) -> int:
        """Return it when it rests."""
        end, last, now = time.monotonic() + _WITHIN, -1, self.octets()
        while now != last and time.monotonic() < end:
            time.sleep(_REST)
            last, now = now, self.octets()
        return now

    def run(self, command: Sequence[str]) -> float:
        """Run a command in it; return the seconds that it took, its start included."""
        begun = time.perf_counter()
        entering = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self.path))
        subprocess.run([*entering, *command], check=True, capture_output=True)
        return time.perf_counter() - begun


@contextmanager
def account() -> Iterator[Account | None]:
    """Make a control group for as long as it is used; None where memory has no controller that can be asked."""
    made = next((path for root in _ROOTS if (path := _make(root)) is not None), None)
    try:
        yield None if made is None else Account(made)
    finally:
        if made is not None:
            _remove(made)


def _make(root: Path) -> Path | None:
    """Make a group at the top of a hierarchy, if it tells kernel memory."""
    if not (root / "cgroup.procs").exists():
        return None
    path = root / f"{_PREFIX}{secrets.token_hex(4)}"
    with suppress(OSError):
        path.mkdir()
        if (path / _V1).exists() or "kernel " in (path / "memory.stat").read_text():
            return path
    _remove(path)
    return None


def _remove(path: Path) -> None:
    """Remove a group; one that is absent or in use is left alone."""
    with suppress(OSError):
        path.rmdir()
