"""How a lab of ours is doing: every node's daemon asked over its socket, every check of checks.yaml tried with packets.

Called by `edgeway lab up|status|watch` and by the tests of labs. A lab without an intent beside it has no daemons to ask.
"""

from __future__ import annotations

import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from appliance.model.errors import EdgewayError
from appliance.model.load import load
from appliance.panel.client import SOCKET, Client
from appliance.panel.lab import runner
from appliance.panel.lab.checks import Check, checks_of

#: Seconds that one check, or one daemon's answer, may take.
PATIENCE: Final = 4.0
#: The same of a node that is a virtual machine, whose processor may be emulated.
EMULATED: Final = 30.0
AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class NodeRow:
    """What a node's daemon says of itself."""

    node: str
    roles: str
    state: Literal["converged", "converging", "silent"]
    sessions: str = ""
    routes: int = 0
    pending: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CheckRow:
    """What became of a check."""

    what: str
    how: str
    good: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The lab at one moment."""

    nodes: tuple[NodeRow, ...]
    checks: tuple[CheckRow, ...]

    @property
    def green(self) -> bool:
        """Whether everything is as it should be."""
        return all(row.state == "converged" for row in self.nodes) and all(row.good for row in self.checks)


def client(path: Path, node: str) -> Client:
    """Return a client of the daemon inside a node."""
    pid = runner.node_pid(path, node)
    return Client(Path(f"/proc/{pid}/root{SOCKET}"), timeout=_patience(path, node))


def _patience(path: Path, node: str) -> float:
    return EMULATED if runner.is_machine(path, node) else PATIENCE


def observe(path: Path) -> Report:
    """Ask every daemon and try every check, side by side."""
    file = path.parent / "intent.yaml"
    roles = _roles(file, file.stat().st_mtime_ns) if file.exists() else {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        nodes = pool.map(lambda name: _ask(path, name, roles[name]), roles)
        well = pool.map(lambda row: _well(path, *row), runner.health(path).items())
        checks = pool.map(lambda check: _try(path, check), checks_of(path))
        return Report(tuple(nodes), (*well, *checks))


def _well(path: Path, node: str, words: tuple[str, ...]) -> CheckRow:
    try:
        good = runner.well(path, node, words, timeout=PATIENCE)
    except (EdgewayError, subprocess.TimeoutExpired):
        good = False
    return CheckRow(f"{node} is well", f"{node}: {shlex.join(words)}", good)


@lru_cache(maxsize=8)
def _roles(file: Path, changed: int) -> dict[str, str]:  # noqa: ARG001 - the time of change is part of the key
    """Return the roles of every node; a look at a lab must not cost a parse each time."""
    return {name: ",".join(node.roles) for name, node in load(file).nodes.items()}


def _ask(path: Path, name: str, roles: str) -> NodeRow:
    try:
        status: dict[str, Any] = client(path, name).show("status")
    except EdgewayError as error:
        return NodeRow(name, roles, "silent", detail=str(error).splitlines()[0])
    sessions = status["sessions"]
    lost = "; ".join(f"{engine}: {text}" for engine, text in status["engines"].items())
    waiting = "; ".join(f"{row['object']}: {row['error']}" for row in status["pending"][:1])
    return NodeRow(
        name,
        roles,
        "converged" if status["converged"] else "converging",
        f"{sessions['established']}/{sessions['configured']}",
        status["routes"],
        len(status["pending"]),
        lost or waiting,
    )


def _try(path: Path, check: Check) -> CheckRow:
    try:
        return CheckRow(check.what, check.how, _holds(path, check))
    except (EdgewayError, subprocess.TimeoutExpired):
        return CheckRow(check.what, check.how, good=False)


def _holds(path: Path, check: Check) -> bool:
    if check.routes is not None:
        return int(client(path, check.from_).show("status")["routes"]) >= check.routes
    if check.session is not None:
        return _established(client(path, check.from_).show("neighbors"), check.session)
    if prefix := check.route or check.no_route or check.refused:
        return _judged(client(path, check.from_).show("routes", prefix=prefix), check)
    done = runner.run_in(path, check.from_, check.command(), timeout=_patience(path, check.from_))
    return check.holds(done.returncode, done.stdout)


def _established(rows: list[dict[str, Any]], neighbor: str) -> bool:
    """Tell whether every session with a neighbour, given by peer, session or address, is up, and there is one."""
    mine = [
        row["state"]
        for row in rows
        if neighbor in {row["neighbor"], row["neighbor"].partition("/")[0], row.get("address")}
    ]
    return bool(mine) and all(state == "established" for state in mine)


def _judged(rows: list[dict[str, Any]], check: Check) -> bool:
    """Tell whether the paths of a prefix are accepted, absent or refused, as the check wants it."""
    accepted = [row for row in rows if not row.get("refused")]
    if check.refused is None:
        return bool(accepted) == (check.route is not None)
    reasons = {row["refused"]["name"] for row in rows if row.get("refused")}
    return bool(reasons) and not accepted and check.because in {None, *reasons}
