"""`edgeway ready`: whether this node does what it is for, and what is missing if not. Health checks and scripts ask it.

Ready means: the daemon answers, the kernel is what the intent wants, and every engine has told all it knows. Neighbours
that are down are theirs to mend; `--sessions` asks for them too. A box without an intent is ready as well: it can be
configured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from appliance.model.errors import EdgewayError
from appliance.panel import tables
from appliance.panel.client import SOCKET, Client

INTENT: Final = Path("/etc/edgeway/intent.yaml")
#: Seconds between two looks, and for which one answer is waited for.
PAUSE: Final = 0.5
PATIENCE: Final = 10.0

Row = dict[str, Any]


def ready(
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is.", min=0.0)] = 0.0,
    sessions: Annotated[bool, typer.Option("--sessions", help="BGP sessions must be established too.")] = False,  # noqa: FBT002
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,  # noqa: FBT002
    intent: Annotated[Path, typer.Option(help="The intent that the daemon is started with.")] = INTENT,
    socket: Annotated[Path, typer.Option("--socket", help="The daemon's socket.")] = SOCKET,
) -> None:
    """Succeed if this node does what it is for, or waits for its first intent; else say what is missing, and exit with 1.

    Example: edgeway ready --wait 60
    """
    found = until(lambda: look(Client(socket, PATIENCE), intent, sessions=sessions), wait)
    if as_json:
        tables.show(found, as_json=True)
    else:
        tell(found)
    raise typer.Exit(0 if found["ready"] else 1)


def until_ready(wait: float, intent: Path = INTENT, socket: Path = SOCKET) -> str:
    """Wait until this node is ready; return what is missing when time is up, nothing if it is ready."""
    found = until(lambda: look(Client(socket, PATIENCE), intent, sessions=False), wait)
    return "; ".join(found["missing"])


def until(probe: Callable[[], Row], wait: float, sleep: Callable[[float], None] = time.sleep) -> Row:
    """Look until the node is ready or time is up."""
    deadline = time.monotonic() + wait
    while True:
        found = probe()
        left = deadline - time.monotonic()
        if found["ready"] or left <= 0:
            return found
        sleep(min(PAUSE, left))


def look(client: Client, intent: Path, *, sessions: bool) -> Row:
    """Return what is so now: ready, node, the number of the intent that runs, what is missing."""
    if not client.answers and not intent.exists():
        return {"ready": True, "node": None, "intent": None, "missing": []}
    try:
        status = client.show("status")
    except EdgewayError as error:
        return {"ready": False, "node": None, "intent": None, "missing": [str(error)]}
    lacking = missing(status, sessions=sessions)
    running = status["intent"] or {}
    return {"ready": not lacking, "node": status["node"], "intent": running.get("number"), "missing": lacking}


def missing(status: Row, *, sessions: bool) -> list[str]:
    """Return what keeps a daemon of this status from being ready, in words."""
    if status["intent"] is None or not status["revision"]:
        return ["no intent runs yet"]
    said = [f"kernel: {item['object']}: {item['error']}" for item in status["pending"]]
    said += [f"engine {name}: {detail}" for name, detail in status["engines"].items()]
    said += [
        f"engine {name}: has not told all it knows yet"
        for name, synced in status["synced"].items()
        if not synced and name not in status["engines"]
    ]
    up, configured = status["sessions"]["established"], status["sessions"]["configured"]
    if sessions and up < configured:
        said.append(f"sessions: {up} of {configured} are established (`edgeway show neighbors`)")
    if not said and not status["converged"] and up == configured:
        said.append("the daemon is still at work")
    return said


def tell(found: Row) -> None:
    """Print it for a person."""
    if not found["ready"]:
        name = f"{found['node']} is not ready" if found["node"] else "not ready"
        typer.echo("\n  ".join((f"{name}:", *found["missing"])))
    elif found["node"] is None:
        typer.echo("ready, without an intent: it can be configured")
    else:
        typer.echo(f"{found['node']} is ready: intent {found['intent']} runs")
