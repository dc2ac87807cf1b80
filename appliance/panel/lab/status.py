"""How a lab is: each node's pid 1 and main command, as the kernel and the node's init tell it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.control.init import STATE as INIT_STATE

if TYPE_CHECKING:
    from appliance.panel.lab.process import Record
    from appliance.panel.lab.state import Known, State


@dataclass(frozen=True, slots=True)
class MainStatus:
    """The main command of a node. `pid` is the one seen inside; None while it waits to be started again."""

    pid: int | None
    restarts: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. `pid` is that of its pid 1 on the machine; None when the node has ended."""

    name: str
    kind: str
    image: str
    pid: int | None
    since: datetime | None
    main: MainStatus | None
    log: str


@dataclass(frozen=True, slots=True)
class LabStatus:
    """One lab. `complete` is False when `up` is still at work or was killed."""

    name: str
    file: str
    complete: bool
    since: datetime | None
    nodes: tuple[NodeStatus, ...]


def lab_status(state: State) -> LabStatus | None:
    """Return how a lab is; None when it is not there."""
    manifest = state.manifest()
    if manifest is None:
        return None
    records = {record.name: record for record in state.records()}
    nodes = tuple(_node_status(state, node, records.get(node.name)) for node in manifest.nodes)
    since = datetime.fromtimestamp(manifest.up_at, UTC) if manifest.up_at else None
    return LabStatus(manifest.name, manifest.file, manifest.up_at > 0, since, nodes)


def restless(state: State) -> tuple[str, ...]:
    """Return the nodes whose main command has already ended once."""
    found = lab_status(state)
    nodes = found.nodes if found else ()
    return tuple(node.name for node in nodes if node.main and (node.main.restarts or node.main.pid is None))


def _node_status(state: State, node: Known, record: Record | None) -> NodeStatus:
    log = str(state.log(node.name))
    if record is None or not record.alive():
        return NodeStatus(node.name, node.kind, node.image, None, None, None, log)
    since = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + record.start / os.sysconf("SC_CLK_TCK")
    main = _main_status(Path(f"/proc/{record.pid}/root{INIT_STATE}"))
    return NodeStatus(node.name, node.kind, node.image, record.pid, datetime.fromtimestamp(since, UTC), main, log)


def _main_status(directory: Path) -> MainStatus | None:
    """Read what the node's init wrote down; None for a node without a main command."""
    restarts = _number(directory / "main.restarts")
    if restarts is None:
        return None
    try:
        since = datetime.fromtimestamp((directory / "main.pid").stat().st_mtime, UTC)
    except OSError:
        since = None
    return MainStatus(_number(directory / "main.pid"), restarts, since)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
