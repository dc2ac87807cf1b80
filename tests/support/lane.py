"""A suite of tests inside a virtual machine: carried in on a disk of its own, outcomes out through a port as they happen.

    report = run(image, pack(directory, ["tests/kernel_lane"]), within=600)

The suite is this tree and pytest with its plugins; Python, its packages and every tool are the image's. The disk is a
squashfs, made without a mount, of a directory in which the tests have been collected once already: that says what there is
to run, and rewriting assertions is not done again inside, where everything takes fifteen times as long.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.support.vm import Direct, Drive, Machine

ROOT = Path(__file__).resolve().parents[2]
#: `make image-test` wants everything.
EVERYTHING = os.environ.get("EDGEWAY_IMAGE") == "all"
TREE = ("appliance", "labs", "routing", "services", "tests")
#: What the image has not: distributions that tests import.
CARRIED = (
    "execnet",
    "hypothesis",
    "iniconfig",
    "packaging",
    "pluggy",
    "pygments",
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
    "pytest-xdist",
    "sortedcontainers",
)
PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout", "xdist.plugin", "tests.kernel_lane.inside")
#: A shell is the init: it mounts the suite, of which the initrd knows nothing.
BEGIN = "mkdir /suite; mount -t squashfs -o ro /dev/vdb /suite; exec /suite/tests/kernel_lane/init"
KERNEL_WORDS = f'edgeway.root=/dev/vda init=/bin/sh -- -c "{BEGIN}"'


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test went inside."""

    test: str
    outcome: str
    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class Suite:
    """A disk, and the tests on it."""

    disk: Path
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a machine told. `exit` is pytest's, or None when it did not get to its end; `cpu` are QEMU's seconds."""

    kernel: str
    outcomes: tuple[Outcome, ...]
    exit: int | None
    seconds: float
    cpu: float
    console: str

    def of(self, outcome: str) -> list[Outcome]:
        """Return those that went so."""
        return [each for each in self.outcomes if each.outcome == outcome]


def pack(directory: Path, words: Sequence[str]) -> Suite:
    """Make the disk in `directory`. `words` are for pytest inside: files, and what else picks tests."""
    stage = directory / "suite"
    for name in TREE:
        shutil.copytree(ROOT / name, stage / name)
    shutil.copyfile(ROOT / "pyproject.toml", stage / "pyproject.toml")
    for name in CARRIED:
        _carry(name, stage / "site")
    plugins = [word for plugin in PLUGINS for word in ("-p", plugin)]
    options = ["-o", "addopts=--import-mode=importlib --strict-markers", "-p", "no:cacheprovider", "-q", *plugins]
    (stage / "words").write_text("".join(f"{word}\n" for word in (*options, *words)))
    (stage / "place").write_text(f"{stage}\n")
    tests = _collect(stage, directory / "collected", [*options, *words])
    disk = directory / "suite.squashfs"
    quietly(["mksquashfs", str(stage), str(disk), "-noappend", "-comp", "lz4", "-all-root"])
    return Suite(disk, tests)


def run(image: Path, suite: Suite, *, within: float, memory: int = 768) -> Report:
    """Boot the image's kernel with the suite in the place of its services; return when the machine has turned itself off."""
    told = suite.disk.with_name("told")
    told.touch()
    port = ["-no-reboot", "-device", "virtio-serial-pci", "-chardev", f"file,id=told,path={told}"]
    port += ["-device", "virtserialport,chardev=told,name=edgeway.lane"]
    drives = [Drive(image / "root.squashfs", readonly=True), Drive(suite.disk, readonly=True)]
    with Machine("lane", Direct(image, KERNEL_WORDS), drives, memory=memory, extra=port) as machine:
        machine.expect("lane: begins.*", within=within)
        try:
            machine.wait(within)
        except AssertionError as error:
            error.add_note(f"told last: {told.read_text()[-2000:]}")
            raise
        return read(told.read_text(), machine.seconds, machine.cpu_seconds, machine.console)


def moments(directory: Path) -> Drive:
    """Make a disk in which a machine can keep moments; the guest has no use for it."""
    disk = directory / "moments.qcow2"
    quietly(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1G"])
    return Drive(disk, form="qcow2")


def keep(machine: Machine, moment: str) -> None:
    """Keep the machine's memory and disks as they are now. Disks that it writes must be qcow2."""
    _monitor(machine, f"savevm {moment}")


def back(machine: Machine, moment: str) -> None:
    """Have the machine as it was; what it said since then is still in its console."""
    _monitor(machine, f"loadvm {moment}")


def _monitor(machine: Machine, line: str) -> None:
    """Give QEMU's monitor a line: it answers with what went wrong."""
    said = machine.qmp("human-monitor-command", command_line=line)
    assert not said, f"{line}: {said}"


def read(told: str, seconds: float, cpu: float, console: str) -> Report:
    """Make a report of the lines, but for one that was cut off; of phases that did not pass the first counts."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in told.splitlines(keepends=True) if line.endswith("\n")]
    phases: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if "test" in line:
            phases.setdefault(line["test"], []).append(line)
    outcomes = [_outcome(each) for each in phases.values() if each[-1]["phase"] != "setup" or _bad(each)]
    kernel = next((line["kernel"] for line in lines if "kernel" in line), "")
    ended = next((line["exit"] for line in lines if "exit" in line), None)
    return Report(kernel, tuple(outcomes), ended, seconds, cpu, console)


def _bad(phases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what did not pass, the first first."""
    return [phase for phase in phases if phase["outcome"] != "passed"]


def _outcome(phases: Sequence[dict[str, Any]]) -> Outcome:
    """Make one of the phases of a test: before it, itself, after it."""
    seconds = sum(phase["seconds"] for phase in phases)
    for phase in _bad(phases):
        where = "" if phase["phase"] == "call" else f"({phase['phase']}) "
        return Outcome(phase["test"], phase["outcome"], seconds, f"{where}{phase['text']}")
    return Outcome(phases[0]["test"], "passed", seconds, "")


def _carry(name: str, site: Path) -> None:
    """Copy the files of an installed distribution, those compiled as well; not its programs."""
    distribution = metadata.distribution(name)
    for file in distribution.files or ():
        source = Path(str(distribution.locate_file(file)))
        if ".." not in file.parts and source.is_file():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, site / file)


def _collect(stage: Path, told: Path, words: Sequence[str]) -> tuple[str, ...]:
    """Collect the tests where they lie, which also compiles whatever they import; return their names."""
    path = os.pathsep.join((str(stage), str(stage / "site")))
    more = {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "EDGEWAY_LANE": str(told)}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | more
    quietly([sys.executable, "-m", "pytest", "--collect-only", *words], cwd=stage, env=environment)
    return tuple(
        next(line["collected"] for line in map(json.loads, told.read_text().splitlines()) if "collected" in line)
    )


def quietly(command: Sequence[str], **options: Any) -> str:
    """Run a command; what it says matters when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-5000:]}{done.stderr}"
    return done.stdout
