"""`edgeway drain`: send the traffic of this node another way before it is stopped, and say what cannot go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.panel import tables
from appliance.panel.client import SOCKET, Client

#: Seconds between two looks at the kernel's counter, and looks without a packet that count as nobody comes any more.
PAUSE, QUIET = 1.0, 2
#: Columns of a flow that tell a person which it is.
COLUMNS = ("vpc", "protocol", "state", "source", "destination", "reply-source")


def drain(
    undo: Annotated[bool, typer.Option("--undo", help="Announce everything again.")] = False,  # noqa: FBT002
    wait: Annotated[float, typer.Option(help="Seconds to wait until nothing is forwarded any more.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,  # noqa: FBT002
    socket: Annotated[Path, typer.Option("--socket", help="The daemon's socket.")] = SOCKET,
) -> None:
    """Withdraw what other nodes announce as well, wait until nobody sends here, list the flows that only this node has.

    Forwarding goes on, so nothing that is under way is lost; until --undo, or until the machine starts anew.
    Example: edgeway drain && systemctl reboot
    """
    client = Client(socket)
    client.post("drain", {"order": "undo" if undo else "drain"})
    found = client.show("drain") if undo else settled(client, wait)
    if as_json:
        tables.show(found, as_json=True)
    else:
        tell(found)


def settled(client: Client, within: float) -> dict[str, Any]:
    """Look until the node has forwarded nothing for a while, or time is up; `quiet` says which it was."""
    deadline, still = time.monotonic() + within, 0
    found: dict[str, Any] = client.show("drain")
    while still < QUIET and time.monotonic() < deadline:
        time.sleep(PAUSE)
        before, found = found["forwarded"], client.show("drain")
        still = still + 1 if found["forwarded"] == before else 0
    return {**found, "quiet": still >= QUIET}


def tell(found: dict[str, Any]) -> None:
    """Print what a look found."""
    name = found["node"]
    if not found["drained"]:
        typer.echo(f"{name} announces everything again")
        return
    come = "nobody sends through it any more" if found["quiet"] else "packets still come through it"
    typer.echo(f"{name} is drained: it announces {found['announced']} routes that only it has, {come}")
    rows = [{key: row.get(key) for key in COLUMNS} for row in found["only-here"]]
    typer.echo(f"{len(rows)} flows have their state only here" + (", and end with it:" if rows else ""))
    if rows:
        tables.show(rows, as_json=False)
