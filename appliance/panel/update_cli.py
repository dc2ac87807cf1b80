"""`edgeway box update | slots | prove`: the two slots of a box, for people and for its units (design 0009)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from appliance.panel import drain_cli, tables
from appliance.panel.client import SOCKET, Client

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `edgeway box`."""
    app.command("update")(update)
    app.command("slots")(slots)
    app.command("prove", hidden=True)(prove)


def slots(as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Show both slots: which runs, which starts next, whether it has proved good, what was written into it and when."""
    from appliance.box import update as box  # noqa: PLC0415 - only a box has slots

    tables.show([asdict(slot) for slot in box.look()], as_json=as_json)


def update(
    bundle: Annotated[Path, typer.Argument(help="A signed bundle (.raucb).")],
    reboot: Annotated[bool, typer.Option(help="Start the new slot at once.")] = True,  # noqa: FBT002
    wait: Annotated[float, typer.Option(help="Seconds to wait until nothing is forwarded any more.")] = 30.0,
    socket: Annotated[Path, typer.Option("--socket", help="The daemon's socket.")] = SOCKET,
) -> None:
    """Write an update into the slot that does not run, send traffic another way, start the new slot.

    The bundle's signature is checked first. Flows whose state is only here are listed before they end. A slot that does
    not become ready is left by itself: the box comes back as it is now. Example: edgeway box update /data/update.raucb
    """
    from appliance.box import update as box  # noqa: PLC0415 - only a box has slots

    letter = box.here()
    said = box.judged(bundle)
    typer.echo(f"{bundle}: version {said.get('version', '?')}, its signature is good; slot {letter} runs")
    box.install(bundle, typer.echo)
    if not reboot:
        typer.echo("written; it starts with the next reboot: edgeway drain && systemctl reboot")
        return
    client = Client(socket)
    if client.answers:
        client.post("drain", {"order": "drain"})
        drain_cli.tell(drain_cli.settled(client, wait))
    typer.echo("starting the new slot")
    box.reboot()


def prove(wait: Annotated[float, typer.Option(help="Seconds until the box must be ready.")] = 300.0) -> None:
    """Say that the slot that runs is good, once the box is ready."""
    from appliance.box import update as box  # noqa: PLC0415 - only a box has slots
    from appliance.panel.ready_cli import until_ready  # noqa: PLC0415

    if missing := until_ready(wait):
        typer.echo(f"edgeway: slot {box.here()} is not ready after {wait:.0f} s: {missing}", err=True)
        raise typer.Exit(1)
    typer.echo(f"edgeway: slot {box.prove()} is good")
