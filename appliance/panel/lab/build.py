"""The three steps in which a lab comes up: start the nodes, make the links, run the `exec` commands.

Called by `appliance.panel.lab.runner`, which holds the lock and clears up when a step raises.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.model.errors import Finding, InternalError, KernelError, OperatorError
from appliance.panel.lab import execute, links, node
from appliance.panel.lab.images import is_ours
from appliance.panel.lab.podman import Store
from appliance.panel.lab.spec import magic, package_root

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from appliance.panel.lab.state import State
    from appliance.panel.lab.values import Node, Topology

START_WITHIN: Final = 60.0
EXEC_WITHIN: Final = 120.0
CONTAINERS_AT_ONCE: Final = 4
_LAST_LINES: Final = 5
#: Steps of making a node in which only the kernel has a say.
_KERNEL_STEPS: Final = ("mount", "unshare", "pivot_root", "leave")


@dataclass(frozen=True, slots=True)
class Containers:
    """That nodes of our image are to be containers: of which archive, and kept where."""

    archive: Path
    store: Store


@dataclass(frozen=True, slots=True)
class Failure:
    """An `exec` command of a node that did not succeed; the lab is up all the same, as with containerlab."""

    node: str
    command: str
    status: int
    output: str

    def __str__(self) -> str:
        """Render in one line."""
        last = self.output.strip().splitlines()[-1:] or [""]
        return f"{self.node}: `{self.command}` ended with {self.status}: {last[0]}"


def start_nodes(
    plan: Topology, specs: list[dict[str, Any]], state: State, lock: int, containers: Containers | None = None
) -> None:
    """Make all nodes; OperatorError names every one that does not start, KernelError the first the kernel refused."""
    ours = [containers is not None and each.kind == "linux" and is_ours(each.image) for each in plan.nodes]
    for each in plan.nodes:
        state.place(each.name).mkdir()
    made = iter(_make([spec | {"lock": lock} for spec, other in zip(specs, ours, strict=True) if not other]))
    run = iter(
        _run(plan, [spec for spec, own in zip(specs, ours, strict=True) if own], containers) if any(ours) else []
    )
    findings = []
    for each, own in zip(plan.nodes, ours, strict=True):
        problem = next(run if own else made)
        if problem and problem["errno"] and problem["step"].startswith(_KERNEL_STEPS):
            raise KernelError(f"node {each.name}", problem["step"], problem["errno"])
        if problem:
            findings.append(_does_not_start(plan, each, problem, state.tail(each.name, _LAST_LINES)))
    if findings:
        raise OperatorError(tuple(findings))


def _run(plan: Topology, specs: list[dict[str, Any]], containers: Containers | None) -> list[dict[str, Any] | None]:
    """Start the nodes that are containers; return what failed, node by node."""
    if containers is None or not specs:
        return []
    nodes = {each.name: each for each in plan.nodes}
    image = containers.store.load(containers.archive)
    with ThreadPoolExecutor(CONTAINERS_AT_ONCE) as pool:
        return list(pool.map(lambda spec: containers.store.start(nodes[spec["name"]], spec, image), specs))


def _does_not_start(plan: Topology, each: Node, problem: dict[str, Any], log: list[str]) -> Finding:
    said = "".join(f"\n  {line}" for line in log)
    message = f"the node does not start: {problem['step']}: {problem['message']}{said}"
    return Finding(each.place.line, each.place.column, each.place.path, message, file=plan.file)


def _make(specs: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """Run the program that makes nodes; return what failed, node by node."""
    # Python's own paths only: neither the operator's directory nor his environment has a say in what is imported.
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-m", node.__name__, str(os.getpid())],
        input=json.dumps(specs),
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": package_root()},
        capture_output=True,
        text=True,
        check=False,
        pass_fds={spec["lock"] for spec in specs},
        timeout=START_WITHIN,
    )
    if done.returncode:
        message = f"the program that makes nodes ended with {done.returncode}: {done.stderr.strip()}"
        raise InternalError(message)
    problems: list[dict[str, Any] | None] = json.loads(done.stdout)
    return problems


def connect(pool: Executor, plan: Topology, pids: dict[str, int]) -> None:
    """Make the bridges and the links."""
    _ip(links.machine_commands(plan, pids), [])

    def finish(each: Node) -> None:
        _ip(links.node_commands(plan, each), ["nsenter", "-t", str(pids[each.name]), "--net"])

    list(pool.map(finish, plan.nodes))


def _ip(commands: list[str], prefix: list[str]) -> None:
    """Run a batch of `ip` commands; the first that fails is an error."""
    if not commands:
        return
    done = subprocess.run(
        [*prefix, "ip", "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False
    )
    if done.returncode:
        said, _, number = done.stderr.strip().rpartition(":")
        failed = commands[int(number) - 1] if number.isdecimal() else commands[0]
        raise KernelError("ip", f"{failed}: {said.splitlines()[0]}", _errno(said))


def _errno(said: str) -> int:
    """Find the error number again behind the words that iproute2 printed."""
    return next((number for number in range(1, 133) if f"answers: {os.strerror(number)}" in said), 22)


def run_commands(pool: Executor, plan: Topology, directory: Path, pids: dict[str, int]) -> tuple[Failure, ...]:
    """Run the `exec` commands of all nodes: those of one node in their order."""
    ran = pool.map(lambda each: _run_commands(plan, each, directory, pids[each.name]), plan.nodes)
    return tuple(failure for failures in ran for failure in failures)


def _run_commands(plan: Topology, each: Node, directory: Path, pid: int) -> list[Failure]:
    """Run a node's `exec` commands in their order; a failure does not keep the next from running."""
    failures = []
    for command in (*each.stages, *each.exec):
        argv = shlex.split(magic(command, plan, directory, each))
        try:
            done = execute.captured(pid, argv, EXEC_WITHIN)
        except subprocess.TimeoutExpired:
            failures.append(Failure(each.name, command, 124, f"still running after {EXEC_WITHIN:.0f} s"))
        else:
            if done.returncode:
                failures.append(Failure(each.name, command, done.returncode, done.stderr or done.stdout))
    return failures
