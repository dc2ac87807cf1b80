"""Bring labs up and take them down: the lab runner's front, called by the command line and by tests.

A lab is what one containerlab topology file describes. `up` makes every node at once (see `appliance.panel.lab.node`),
then the links between them, which arrive in nodes that are already running, as containerlab's do, then runs the nodes'
`exec` commands. Nothing of a lab is seen on the machine but its processes and /run/edgeway-lab; when pid 1 of every
node is gone, so are all other processes, mounts, devices and namespaces of the lab: the kernel sees to that.

`up` of a lab that is up, or of which a killed `up` left something, first clears that away.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.model.errors import OperatorError
from appliance.panel.lab import build, execute, machine_parts, topology
from appliance.panel.lab.build import Containers
from appliance.panel.lab.podman import Store
from appliance.panel.lab.process import stop
from appliance.panel.lab.spec import Compiler
from appliance.panel.lab.state import Known, Manifest, State, labs
from appliance.panel.lab.status import LabStatus, lab_status, restless

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

    from appliance.panel.lab.build import Failure
    from appliance.panel.lab.values import Topology

    Progress = Callable[[str], None]

#: Nodes made, and commands run, at the same time.
AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that has come up."""

    name: str
    file: str
    nodes: tuple[str, ...]
    seconds: float
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Down:
    """What `down` did. `was_up` is False when there was nothing to take down."""

    name: str
    was_up: bool
    nodes: int
    seconds: float


def up(
    path: str | Path,
    progress: Progress = lambda _: None,
    containers: Path | None = None,
    machines: Path = Path("build/image"),
) -> Lab:
    """Bring a lab up; it raises before it changes anything when the file or the machine is not fit for it.

    `containers` is an archive of our image: the nodes that have it are then containers of podman's. `machines` is where
    kernel, initrd and root of virtual machines are.
    """
    began = time.monotonic()
    file = Path(path).absolute()
    plan = topology.parse(_read(file), str(path), os.environ)
    for warning in plan.warnings:
        progress(str(warning))
    if os.geteuid():
        raise OperatorError.of("only root can make namespaces", "run it with sudo")
    state = State(plan.name)
    specs = Compiler(plan, file.parent, state, _machines(plan, machines, progress)).specs()
    with state.locked() as lock:
        store = Store(plan.name)
        if state.records() or store.directory.exists():
            with _phase(progress, "cleared what was up of it"):
                _stop(state)
        state.empty()
        try:
            kind = Containers(containers, store) if containers else None
            failures = _build(plan, specs, state, lock, file, progress, kind)
        except BaseException:
            _stop(state)
            state.remove()
            raise
    seconds = time.monotonic() - began
    progress(f"lab {plan.name} is up: {len(plan.nodes)} nodes, {len(plan.links)} links in {seconds:.2f} s")
    return Lab(plan.name, str(file), tuple(node.name for node in plan.nodes), seconds, failures)


def _machines(plan: Topology, image: Path, progress: Progress) -> dict[str, str]:
    """Return what virtual machines are told, if the lab has some: of which files, and whether KVM works here."""
    if not any(node.kind == "generic_vm" for node in plan.nodes):
        return {}
    missing = [name for name in machine_parts.FILES if not (image / name).is_file()]
    if missing:
        raise OperatorError.of(f"{image} has no {missing[0]}", "`make image` makes it; --vm names another directory")
    fast = os.environ.get("EDGEWAY_ACCEL") or (
        "kvm" if machine_parts.kvm_works(image / machine_parts.FILES[0]) else "tcg"
    )
    progress(f"virtual machines: {'KVM' if fast == 'kvm' else 'emulated, which takes a minute or two'}")
    return {"EDGEWAY_VM": str(image.absolute()), "EDGEWAY_ACCEL": fast}


def down(path_or_name: str | Path, progress: Progress = lambda _: None) -> Down:
    """Take a lab down, also half a lab; nothing to take down is no error."""
    began = time.monotonic()
    state = _state(path_or_name)
    if not state.exists():
        progress(f"lab {state.name} is not up")
        return Down(state.name, was_up=False, nodes=0, seconds=0.0)
    with state.locked():
        count = _stop(state)
        state.remove()
    seconds = time.monotonic() - began
    progress(f"lab {state.name} is down: {count} nodes in {seconds:.2f} s")
    return Down(state.name, was_up=True, nodes=count, seconds=seconds)


def status(path_or_name: str | Path) -> LabStatus:
    """Say how a lab is."""
    state = _state(path_or_name)
    found = lab_status(state)
    if found is None:
        raise _not_up(state)
    return found


def health(path_or_name: str | Path) -> dict[str, tuple[str, ...]]:
    """Return the commands that tell whether a node is well, by node; none for a lab that is not up."""
    return {each.name: each.health for each in _known(path_or_name) if each.health}


def _known(path_or_name: str | Path) -> tuple[Known, ...]:
    """Return the nodes of a lab; none of one that is not up, or that nobody has heard of."""
    try:
        manifest = _state(path_or_name).manifest()
    except OperatorError:
        return ()
    return manifest.nodes if manifest else ()


def well(path_or_name: str | Path, name: str, argv: Sequence[str], timeout: float | None = None) -> bool:
    """Run a health check: as containerlab does, around a virtual machine and not in it."""
    return execute.captured(node_pid(path_or_name, name), argv, timeout).returncode == 0


def node_pid(path_or_name: str | Path, name: str) -> int:
    """Return pid 1 of a node, as the machine sees it."""
    state = _state(path_or_name)
    record = state.record_of(name)
    if record:
        return record.pid
    manifest = state.manifest()
    if manifest is None:
        raise _not_up(state)
    known = ", ".join(each.name for each in manifest.nodes)
    raise OperatorError.of(f"lab {state.name} has no running node {name!r}", f"its nodes: {known}")


def is_machine(path_or_name: str | Path, name: str) -> bool:
    """Tell whether a node is a virtual machine: then commands run in that, and its namespace is only around it."""
    return any(each.name == name and each.kind == "generic_vm" for each in _known(path_or_name))


def has_machines(path_or_name: str | Path) -> bool:
    """Tell whether a lab has virtual machines, which take their time."""
    return any(each.kind == "generic_vm" for each in _known(path_or_name))


def exec_in(path_or_name: str | Path, name: str, argv: Sequence[str]) -> int:
    """Run a command in a node, at our terminal if there is one; return its exit status."""
    if is_machine(path_or_name, name):
        argv = machine_parts.remote(argv, terminal=sys.stdin.isatty())
    return execute.attached(node_pid(path_or_name, name), argv)


def run_in(
    path_or_name: str | Path, name: str, argv: Sequence[str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a node and return its output; the exit status is not judged."""
    if is_machine(path_or_name, name):
        argv = machine_parts.remote(argv)
    return execute.captured(node_pid(path_or_name, name), argv, timeout)


def _stop(state: State) -> int:
    """End every node, whoever made it; return how many were still there."""
    count = stop(state.records())
    Store(state.name).remove()
    return count


def _build(
    plan: Topology,
    specs: list[dict[str, Any]],
    state: State,
    lock: int,
    file: Path,
    progress: Progress,
    containers: Containers | None,
) -> tuple[Failure, ...]:
    """Do the three steps, and say so."""
    known = tuple(Known(each.name, each.kind, each.image, each.health) for each in plan.nodes)
    state.write(Manifest(plan.name, str(file), known))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        with _phase(progress, f"{len(specs)} nodes started"):
            build.start_nodes(plan, specs, state, lock, containers)
        pids = {record.name: record.pid for record in state.records()}
        with _phase(progress, f"{len(plan.links)} links made"):
            build.connect(pool, plan, pids)
        with _phase(progress, f"{sum(len(each.stages) + len(each.exec) for each in plan.nodes)} commands run"):
            failures = build.run_commands(pool, plan, file.parent, pids)
    state.write(Manifest(plan.name, str(file), known, time.time()))
    for failure in failures:
        progress(f"warning: {failure}")
    for name in restless(state):
        progress(f"warning: {name}: its main command keeps ending: {' / '.join(state.tail(name, 2))}")
    return failures


@contextmanager
def _phase(progress: Progress, what: str) -> Iterator[None]:
    """Say that something is done, and how long it took."""
    began = time.monotonic()
    yield
    progress(f"{what} in {time.monotonic() - began:.2f} s")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError.of(f"{file}: {error}", "give the path of a topology file (.clab.yml)") from error


def _state(path_or_name: str | Path) -> State:
    """Find a lab by its name, or by the file that describes it."""
    text = str(path_or_name)
    if "/" in text or text.endswith((".yml", ".yaml")):
        return State(_name_of(_read(Path(text)), text))
    return State(text)


@lru_cache(maxsize=8)
def _name_of(content: str, file: str) -> str:
    """Return the name of a lab; whoever looks at a zone asks for its nodes many times a second."""
    return topology.lab_name(content, file, os.environ)


def _not_up(state: State) -> OperatorError:
    return OperatorError.of(f"lab {state.name} is not up", f"labs that are: {', '.join(labs()) or 'none'}")
