"""A private piece of the machine to measure in: two joined namespaces, stop watches, processes that end with it."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.kernel import syscalls
from appliance.kernel.namespaces import Namespaces
from appliance.model.facts import HOST, Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The box under measurement, and its neighbours at the other end of the wire: A and B take over from each other.
BOX, A, B, C = "10.255.0.1", "10.255.1.1", "10.255.1.2", "10.255.1.3"
#: The same for IPv6.
BOX6, A6, B6, C6 = "fd00:255::1", "fd00:255::1:1", "fd00:255::1:2", "fd00:255::1:3"
WIRE, FEEDER = "w0", Namespace("feeder")
_TICK = os.sysconf("SC_CLK_TCK")
#: A process is done when it has not computed for so long; the last time it did is the end.
_QUIET, _LOOK, _NOISE = 0.5, 0.01, 500_000


@dataclass
class Watch:
    """Wall time and CPU time of something, seconds."""

    wall: float = 0.0
    cpu: float = 0.0


@dataclass
class Place:
    """HOST is the box; FEEDER holds the neighbours."""

    namespaces: Namespaces
    host: Path
    directory: Path
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def enter(self, ns: Namespace = HOST) -> list[str]:
        """Return the words that run a command in a namespace."""
        path = self.host if ns == HOST else self.namespaces.path(ns)
        return ["nsenter", f"--net={path}"]

    def run(self, *command: str, ns: Namespace = HOST, text: str | None = None) -> str:
        """Run a command to its end."""
        done = subprocess.run([*self.enter(ns), *command], input=text, check=True, capture_output=True, text=True)
        return done.stdout

    def start(self, *command: str) -> int:
        """Start a process in the box; it ends with the place."""
        child = subprocess.Popen(
            [*self.enter(), *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.children.append(child)
        return child.pid

    def stop(self) -> None:
        """End what was started, last first."""
        while self.children:
            child = self.children.pop()
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()
            child.wait()

    def routes(self, *words: str, version: int = 4) -> int:
        """Count what `ip route show` lists."""
        return self.run("ip", f"-{version}", "route", "show", *words).count("\n")


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Make it, and take everything away again."""
    directory = Path(tempfile.mkdtemp(prefix="edgeway-bench-"))
    directory.chmod(0o755)
    outside = Namespaces(directory / "outside")
    inside: Namespaces | None = None
    made: Place | None = None
    try:
        outside.create(Namespace("box"))
        inside = Namespaces(directory / "netns", outside.path(Namespace("box")))
        made = Place(inside, outside.path(Namespace("box")), directory)
        _wire(made)
        yield made
    finally:
        if made is not None:
            made.stop()
        for spaces in (inside, outside):
            if spaces is not None:
                for name in spaces.names():
                    spaces.delete(name)
                spaces.close()
        for mounted in (directory / "netns", directory / "outside"):
            with contextlib.suppress(OSError):
                syscalls.umount(mounted)
        shutil.rmtree(directory, ignore_errors=True)


def _wire(made: Place) -> None:
    """Join the box and its neighbours."""
    made.namespaces.create(FEEDER)
    made.run(
        "ip", "link", "add", WIRE, "type", "veth", "peer", "name", "w1", "netns", str(made.namespaces.path(FEEDER))
    )
    made.run("ip", "address", "add", f"{BOX}/16", "dev", WIRE)
    made.run("ip", "address", "add", f"{BOX6}/64", "dev", WIRE, "nodad")
    made.run("ip", "link", "set", WIRE, "up")
    for address in (f"{A}/16", f"{B}/16", f"{C}/16", f"{A6}/64", f"{B6}/64", f"{C6}/64"):
        made.run("ip", "address", "add", address, "dev", "w1", *(("nodad",) if ":" in address else ()), ns=FEEDER)
    made.run("ip", "link", "set", "w1", "up", ns=FEEDER)


@contextlib.contextmanager
def own_time() -> Iterator[Watch]:
    """Measure what this process and the children that end meanwhile do."""
    watch = Watch()
    before, begun = _used(), time.monotonic()
    yield watch
    watch.wall, watch.cpu = time.monotonic() - begun, _used() - before


@contextlib.contextmanager
def time_of(*pids: int) -> Iterator[Watch]:
    """Measure daemons from here until they have nothing more to do, however long the block itself takes."""
    watch = Watch()
    before, begun = _ticks(pids), time.monotonic()
    yield watch
    watch.wall, watch.cpu = quiet(*pids) - begun, _ticks(pids) - before


def quiet(*pids: int) -> float:
    """Wait until processes rest; return when they last did something."""
    done, last = _computed(pids), time.monotonic()
    while time.monotonic() - last < _QUIET:
        time.sleep(_LOOK)
        now = _computed(pids)
        if now - done > _NOISE:
            last = time.monotonic()
        done = now
    return last


def _used() -> float:
    parts = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def _ticks(pids: tuple[int, ...]) -> float:
    """Return the CPU seconds of processes."""
    rows = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(row[11]) + int(row[12]) for row in rows) / _TICK


def _computed(pids: tuple[int, ...]) -> int:
    """Return the nanoseconds that all threads of processes have run."""
    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files)
