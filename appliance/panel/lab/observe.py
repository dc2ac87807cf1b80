"""How a lab of ours is doing: every node's daemon asked over its socket, every check of checks.yaml tried with packets.

Called by `edgeway lab up|status|watch` and by the tests of labs. A lab without an intent beside it has no daemons to ask.
"""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from appliance.model.errors import EdgewayError, OperatorError
from appliance.model.load import load, read
from appliance.model.text import parse_yaml
from appliance.panel.client import SOCKET, Client
from appliance.panel.lab import runner

#: Seconds that one check, or one daemon's answer, may take.
PATIENCE: Final = 4.0
AT_ONCE: Final = 8
#: What a TCP connection goes to; it becomes part of a shell's command, so nothing else may stand in it.
_ENDPOINT: Final = re.compile(r"\[?[0-9A-Za-z.:-]+\]?:[0-9]{1,5}")


class Check(BaseModel):
    """One check from a node: by ping, by a TCP connection, or that its daemon has made at least so many routes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    from_: str = Field(alias="from")
    ping: str | None = None
    tcp: str | None = None
    routes: int | None = None

    @model_validator(mode="after")
    def _one(self) -> Check:
        if sum(each is not None for each in (self.ping, self.tcp, self.routes)) != 1:
            raise ValueError("give one of ping, tcp or routes")
        if self.tcp is not None and _ENDPOINT.fullmatch(self.tcp) is None:
            raise ValueError("give tcp as ADDRESS:PORT")
        return self

    @property
    def how(self) -> str:
        """Say in words what is tried."""
        if self.routes is not None:
            return f"{self.from_}: at least {self.routes} routes"
        return f"{self.from_}: ping {self.ping}" if self.ping else f"{self.from_}: connect to {self.tcp}"

    def command(self) -> list[str]:
        """Return the command that succeeds when the packets of the check arrive."""
        if self.ping is not None:
            return ["ping", "-n", "-c", "1", "-W", "2", self.ping]
        host, _, port = str(self.tcp).rpartition(":")
        return ["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{host.strip('[]')}/{port}"]


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


def checks_of(path: Path) -> tuple[Check, ...]:
    """Read checks.yaml beside a topology; none when there is no such file."""
    file = path.parent / "checks.yaml"
    if not file.exists():
        return ()
    data = parse_yaml(read(file), str(file)).data
    try:
        rows = (data or {}).get("checks") or []
        return tuple(Check.model_validate(row) for row in rows)
    except (ValidationError, AttributeError, TypeError) as error:
        raise OperatorError.of(f"{file}: {error}", "each check has what, from and one of ping, tcp, routes") from error


def client(path: Path, node: str) -> Client:
    """Return a client of the daemon inside a node."""
    pid = runner.node_pid(path, node)
    return Client(Path(f"/proc/{pid}/root{SOCKET}"), timeout=PATIENCE)


def observe(path: Path) -> Report:
    """Ask every daemon and try every check, side by side."""
    file = path.parent / "intent.yaml"
    roles = _roles(file, file.stat().st_mtime_ns) if file.exists() else {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        nodes = pool.map(lambda name: _ask(path, name, roles[name]), roles)
        checks = pool.map(lambda check: _try(path, check), checks_of(path))
        return Report(tuple(nodes), tuple(checks))


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
    return runner.run_in(path, check.from_, check.command(), timeout=PATIENCE).returncode == 0
