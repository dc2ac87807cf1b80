"""The command `edgeway`: check, plan, run, show, reload, rollback, flow, trace, drain, ready, reference, lab, interop, box.

Exit codes: 0 done; 1 something failed; 2 wrong usage; 3 the intent has findings. With --json standard output holds JSON
and nothing else. Every command loads what it needs itself, so that `check` and `--help` answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from appliance.model.errors import EdgewayError, OperatorError
from appliance.panel import box_cli, drain_cli, flow_cli, interop_cli, lab_cli, ready_cli, tables
from appliance.panel.client import SOCKET, Client

FINDINGS = 3


def exit_code(error: EdgewayError) -> int:
    """Return FINDINGS if something stands wrong in a file, else 1."""
    return FINDINGS if isinstance(error, OperatorError) and any(finding.line for finding in error.findings) else 1


def complain(error: EdgewayError) -> None:
    """Tell an error on standard error: what is wrong, who must act, whether trying again can help."""
    text = str(error)
    if not isinstance(error, OperatorError):
        again = "trying again can help" if error.retry else "trying again will not help"
        text = f"{text} ({error.who} must act; {again})"
    typer.echo(text, err=True)


class Commands(TyperGroup):
    """Errors of ours are told in their own words, never as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except EdgewayError as error:
            complain(error)
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="BGP route server and VPC edge of a zone.",
)
show_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What the daemon on this node knows and does.")
app.add_typer(show_app, name="show")
app.add_typer(flow_cli.app, name="flow")
app.command("trace")(flow_cli.trace)
app.command("drain")(drain_cli.drain)
app.command("ready")(ready_cli.ready)
app.add_typer(lab_cli.app, name="lab")
app.command("interop")(interop_cli.interop)
app.add_typer(box_cli.app, name="box")

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Socket = Annotated[Path, typer.Option("--socket", help="The daemon's socket.")]
File = Annotated[Path, typer.Argument(help="Intent file of the zone.")]
NodeName = Annotated[str, typer.Option("--node", help="Name of this node in the intent.")]
State = Annotated[Path, typer.Option("--state", help="Where what must outlive the daemon is kept.")]


def _show(rows: Any, *, as_json: bool, empty: str = "nothing to show") -> None:
    tables.show(rows, as_json=as_json, empty=empty)


@app.command()
def check(file: File, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """List everything that is wrong in an intent file, with line and column."""
    from appliance.model.load import load  # noqa: PLC0415 - loads the model

    try:
        intent = load(file)
    except OperatorError as error:
        if as_json:
            rows = [{f: getattr(finding, f) for f in finding.__slots__} for finding in error.findings]
            _show(rows, as_json=True)
        else:
            typer.echo(str(error))
        raise typer.Exit(exit_code(error)) from error
    message = f"{file}: {len(intent.nodes)} nodes, {len(intent.peers)} peers, {len(intent.vpcs)} VPCs: nothing wrong"
    _show([], as_json=as_json, empty=message)


@app.command()
def plan(file: File, node: NodeName, as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
    """Show what an intent would change on this node; changes nothing."""
    from appliance.model.load import read  # noqa: PLC0415 - loads the model

    client, text = Client(socket), read(file)
    if client.answers:
        rows = client.post("plan", {"text": text, "file": str(file), "node": node})
    else:
        rows = _plan_alone(text, file, node)
    _show(rows, as_json=as_json, empty="nothing would change")


def _plan_alone(text: str, file: Path, node: str) -> Any:
    from appliance.control.commit import parse_for  # noqa: PLC0415

    intent = parse_for(node, text, str(file))
    from appliance.control.standalone import plan_without_daemon  # noqa: PLC0415 - loads the kernel ports
    from appliance.panel.views import plan_rows  # noqa: PLC0415

    try:
        plans, desired = plan_without_daemon(intent, node)
    except PermissionError as error:
        raise OperatorError.of(f"the kernel may not be read: {error.strerror}", "run it as root") from error
    return plan_rows(plans, desired, ())


@app.command()
def run(file: File, node: NodeName, state: State = Path("/var/lib/edgeway"), socket: Socket = SOCKET) -> None:
    """Run the daemon of a node: bring kernel and BGP to the intent and keep them there."""
    from appliance.control.main import run_daemon  # noqa: PLC0415 - loads kernel ports and engines
    from appliance.panel.api import serve  # noqa: PLC0415

    run_daemon(file, node, state, lambda daemon: serve(daemon, socket))


@app.command()
def reload(file: File, as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
    """Make a changed intent the running one; only what changed is touched, a bad one changes nothing."""
    from appliance.model.load import read  # noqa: PLC0415 - loads the model

    _show(Client(socket).post("reload", {"text": read(file), "file": str(file)}), as_json=as_json)


@app.command()
def rollback(as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
    """Make the previous intent the running one again."""
    _show(Client(socket).post("rollback"), as_json=as_json)


@app.command()
def reference() -> None:
    """Print an intent that holds every key with its meaning and default."""
    from appliance.model.reference import reference as text  # noqa: PLC0415

    sys.stdout.write(text())


@show_app.command("route")
def show_route(prefix: str, as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
    """Say which path of a prefix won, from whom, and why the others did not or were refused."""
    rows = Client(socket).show("routes", prefix=prefix)
    _show(rows, as_json=as_json, empty=f"nobody announces {prefix}")


def _show_command(name: str, text: str) -> None:
    @show_app.command(name, help=text)
    def command(as_json: Json = False, socket: Socket = SOCKET) -> None:  # noqa: FBT002
        empty = "nothing would change" if name == "plan" else "nothing to show"
        _show(Client(socket).show(name), as_json=as_json, empty=empty)


for _name, _text in {
    "status": "Whether intent, kernel and BGP agree.",
    "nodes": "The nodes of the zone.",
    "neighbors": "BGP sessions of this node.",
    "vpcs": "VPCs: guests, port blocks, VIPs.",
    "capabilities": "What this kernel offers, and what is used instead.",
    "plan": "What is not yet as the running intent wants it.",
}.items():
    _show_command(_name, _text)


def _show_of_vpc(name: str, text: str) -> None:
    example = f"Example: edgeway show {name} --vpc red"

    @show_app.command(name, help=f"{text}\n\n{example}")
    def command(
        vpc: Annotated[str, typer.Option(help="Only of this VPC, or inline/NAME.")] = "",
        as_json: Json = False,  # noqa: FBT002
        socket: Socket = SOCKET,
    ) -> None:
        _show(Client(socket).show(name, vpc=vpc), as_json=as_json)


for _name, _text in {
    "instructions": "What was decided for single flows.",
    "rules": "Each firewall rule once: which ports refer to it, and its place in their order.",
    "engines": "Flows that are judged together: generation, members, policy; counters of each VPC.",
}.items():
    _show_of_vpc(_name, _text)


@show_app.command("flows")
def show_flows(
    vpc: Annotated[str, typer.Option(help="Only flows of this VPC.")] = "",
    affected_by: Annotated[str, typer.Option(help="Only flows that a change would affect now.", metavar="CHANGE")] = "",
    as_json: Json = False,  # noqa: FBT002
    socket: Socket = SOCKET,
) -> None:
    """Live flows with their translations, and how they were judged.

    Example: edgeway show flows --affected-by 'backend-gone red/web 172.16.1.11:8080'
    """
    _show(Client(socket).show("flows", vpc=vpc, **{"affected-by": affected_by}), as_json=as_json)


@show_app.command("audit")
def show_audit(
    change: Annotated[str, typer.Option(help="Only what was done because of this change.")] = "",
    as_json: Json = False,  # noqa: FBT002
    socket: Socket = SOCKET,
) -> None:
    """What was done to established flows after changes, newest last.

    Example: edgeway show audit --change 'vip-gone red/203.0.113.80:80/tcp'
    """
    _show(Client(socket).show("audit", change=change), as_json=as_json)


@show_app.command("routes")
def show_routes(
    neighbor: Annotated[str, typer.Option(help="Only paths of this neighbour.")] = "",
    as_json: Json = False,  # noqa: FBT002
    socket: Socket = SOCKET,
) -> None:
    """Paths received, refused ones too, and originated."""
    _show(Client(socket).show("routes", neighbor=neighbor), as_json=as_json)


def main() -> None:
    """Run the command line."""
    app()
