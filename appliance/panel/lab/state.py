"""What is known of the labs that are up: one directory a lab under /run/edgeway-lab, for root's eyes only.

::

    /run/edgeway-lab/NAME/lab.json           which file, which nodes of which kind, since when
    /run/edgeway-lab/NAME/NODE.json          pid 1 of a node: pid and start time; written before that process may run on
    /run/edgeway-lab/NAME/NODE.log           what the node's commands say
    /run/edgeway-lab/NAME/NODE/              where the node's file tree is put together, in its own mount namespace

Whoever changes a lab holds the lock of its directory; the makers of nodes inherit it, so that the next one waits for
those that a killed one left behind.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.model.errors import OperatorError
from appliance.panel.lab.nodes import NAME
from appliance.panel.lab.process import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path("/run/edgeway-lab")
LOCK_WITHIN: Final = 30.0


@dataclass(frozen=True, slots=True)
class Known:
    """One node of a lab that is up, as lab.json has it."""

    name: str
    kind: str
    image: str
    #: The words of the command that tells whether it is well.
    health: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """lab.json: a lab whose `up_at` (seconds since 1970) is 0 has not come up wholly."""

    name: str
    file: str
    nodes: tuple[Known, ...]
    up_at: float = 0.0


class State:
    """The directory of one lab."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        """Nothing is made yet."""
        if not NAME.fullmatch(name):
            raise OperatorError.of(f"{name!r} is no name of a lab", "give its name or its topology file")
        self.name = name
        self.directory = (root or ROOT) / name

    def place(self, node: str) -> Path:
        """Return where the node's file tree is put together."""
        return self.directory / node

    def record(self, node: str) -> Path:
        """Return where the node's pid 1 is written down."""
        return self.directory / f"{node}.json"

    def log(self, node: str) -> Path:
        """Return what the node's commands say."""
        return self.directory / f"{node}.log"

    def tail(self, node: str, lines: int) -> list[str]:
        """Return the last lines of a node's log."""
        try:
            return self.log(node).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        except OSError:
            return []

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Make the directory and hold its lock; gives the descriptor that holds it."""
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_WITHIN
        while (fd := self._try_lock()) is None:
            if time.monotonic() > deadline:
                raise OperatorError.of(f"lab {self.name} is being changed by another command", "wait for it to end")
            time.sleep(0.02)
        try:
            yield fd
        finally:
            os.close(fd)

    def _try_lock(self) -> int | None:
        """Lock the directory that stands there now, not one that was removed meanwhile."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), self.directory.stat()):
                return fd
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.ENOENT}:
                raise
        os.close(fd)
        return None

    def exists(self) -> bool:
        """Tell whether anything is known of the lab."""
        return self.directory.is_dir()

    def write(self, manifest: Manifest) -> None:
        """Write lab.json in one piece."""
        new = self.directory / "lab.new"
        new.write_text(json.dumps(asdict(manifest)), encoding="utf-8")
        new.replace(self.directory / "lab.json")

    def manifest(self) -> Manifest | None:
        """Read lab.json; None when there is none."""
        found = _load(self.directory / "lab.json")
        if found is None:
            return None
        nodes = tuple(Known(**node | {"health": tuple(node["health"])}) for node in found.pop("nodes"))
        return Manifest(nodes=nodes, **found)

    def records(self) -> tuple[Record, ...]:
        """Read who pid 1 of each node is, or was."""
        found = (_load(path) for path in sorted(self.directory.glob("*.json")) if path.name != "lab.json")
        return tuple(Record(**record) for record in found if record)

    def record_of(self, node: str) -> Record | None:
        """Read who pid 1 of one node is; None when it is not running."""
        return next((record for record in self.records() if record.name == node and record.alive()), None)

    def empty(self) -> None:
        """Forget everything but that we hold the lock."""
        for path in self.directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remove(self) -> None:
        """Forget the lab."""
        shutil.rmtree(self.directory, ignore_errors=True)


def labs(root: Path | None = None) -> tuple[str, ...]:
    """Return the names of the labs that something is known of."""
    try:
        return tuple(sorted(path.name for path in (root or ROOT).iterdir() if path.is_dir()))
    except FileNotFoundError:
        return ()


def _load(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None for a file that is missing or torn."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
