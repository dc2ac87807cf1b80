"""The command `edgeway`: check, plan, run, show, reload, rollback, reference, lab.

Exit codes: 0 done; 1 something failed; 2 wrong usage; 3 the intent has findings.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from appliance.model.errors import EdgewayError, OperatorError
from appliance.model.load import load
from appliance.panel import lab_cli, tables
from appliance.panel.client import SOCKET, Client

app = typer.Typer(no_args_is_help=True, add_completion=False, help="BGP route server and VPC edge of a zone.")
show_app = typer.Typer(no_args_is_help=True, help="What the daemon on this node knows and does.")
app.add_typer(show_app, name="show")
app.add_typer(lab_cli.app, name="lab")

out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Socket = Annotated[Path, typer.Option("--socket", help="The daemon's socket.")]
File = Annotated[Path, typer.Argument(help="Intent file of the zone.")]
NodeName = Annotated[str, typer.Option("--node", help="Name of this node in the intent.")]

FINDINGS = 3


@app.command()
def check(file: File, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """List everything that is wrong in an intent file, with line and column."""
    try:
        intent = load(file)
    except OperatorError as error:
        rows = [{f: getattr(finding, f) for f in finding.__slots__} for finding in error.findings]
        if as_json:
            tables.show(rows, as_json=True, console=out)
        else:
            out.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(FINDINGS) from error
    message = f"{file}: {len(intent.nodes)} nodes, {len(intent.peers)} peers, {len(intent.vpcs)} VPCs: nothing wrong"
    tables.show([] if as_json else {"checked": message}, as_json=as_json, console=out)


@app.command()
def plan(file: File, node: NodeName, as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
    """Show what an intent would change on this node; changes nothing."""
    intent = load(file)
    client = Client(socket)
    if client.answers:
        rows = client.post("plan", {"text": file.read_text(encoding="utf-8"), "file": str(file)})
    else:
        from appliance.control.standalone import plan_without_daemon  # noqa: PLC0415 - loads the kernel ports
        from appliance.panel.views import plan_rows  # noqa: PLC0415

        plans, desired = plan_without_daemon(intent, node)
        rows = plan_rows(plans, desired, ())
    tables.show(rows, as_json=as_json, console=out, empty="nothing would change")


@app.command()
def run(file: File, node: NodeName, state: Path = Path("/var/lib/edgeway"), socket: Socket = SOCKET) -> None:
    """Run the daemon of a node: bring kernel and BGP to the intent and keep them there."""
    from appliance.control.main import run_daemon  # noqa: PLC0415 - loads kernel ports and engines
    from appliance.panel.api import serve  # noqa: PLC0415

    run_daemon(file, node, state, lambda daemon: serve(daemon, socket))


@app.command()
def reload(file: File, as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
    """Make a changed intent the running one; only what changed is touched, a bad one changes nothing."""
    load(file)
    rows = Client(socket).post("reload", {"text": file.read_text(encoding="utf-8"), "file": str(file)})
    tables.show(rows, as_json=as_json, console=out)


@app.command()
def rollback(as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
    """Make the previous intent the running one again."""
    tables.show(Client(socket).post("rollback"), as_json=as_json, console=out)


@app.command()
def reference() -> None:
    """Print an intent that holds every key with its meaning and default."""
    from appliance.model.reference import reference as text  # noqa: PLC0415

    sys.stdout.write(text())


@show_app.command("route")
def show_route(prefix: str, as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
    """Say which path of a prefix won, from whom, and why the others did not or were refused."""
    rows = Client(socket).show("routes", prefix=prefix)
    tables.show(rows, as_json=as_json, console=out, empty=f"nobody announces {prefix}")


def _show_command(name: str, text: str) -> None:
    @show_app.command(name, help=text)
    def command(as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
        tables.show(Client(socket).show(name), as_json=as_json, console=out)


for _name, _text in {
    "status": "Whether intent, kernel and BGP agree.",
    "nodes": "The nodes of the zone.",
    "neighbors": "BGP sessions of this node.",
    "vpcs": "VPCs: guests, port blocks, VIPs.",
    "flows": "Live flows with their translations.",
    "capabilities": "What this kernel offers, and what is used instead.",
    "plan": "What is not yet as the running intent wants it.",
}.items():
    _show_command(_name, _text)


@show_app.command("routes")
def show_routes(
    neighbor: Annotated[str, typer.Option(help="Only paths of this neighbour.")] = "",
    as_json: Json = False,  # noqa: FBT002
    socket: Socket = SOCKET,
) -> None:
    """Paths received, refused ones too, and originated."""
    tables.show(Client(socket).show("routes", neighbor=neighbor), as_json=as_json, console=out)


def main() -> None:
    """Run the command line; errors of ours are told in their own words, never as a traceback."""
    try:
        app()
    except OperatorError as error:
        err.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(FINDINGS if any(finding.line for finding in error.findings) else 1)
    except EdgewayError as error:
        again = "trying again can help" if error.retry else "trying again will not help"
        err.print(f"{error} ({error.who} must act; {again})", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
