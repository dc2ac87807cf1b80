"""The commands of single flows: `edgeway flow deny|reset|allow|redirect|clear` and `edgeway trace`.

Registered by `appliance.panel.cli`. Everything is asked of the daemon: it knows which flows are live.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.model.errors import OperatorError
from appliance.panel import tables
from appliance.panel.client import SOCKET, Client

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Decide about single flows, over the head of the rules. FLOW is 'tcp 10.0.0.1:40000 > 10.0.0.2:80', "
    "'udp [fd00::1]:5 > [fd00::2]:53' or 'icmp 10.0.0.1:ID > 10.0.0.2', seen from either end, in quotes.",
)

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Socket = Annotated[Path, typer.Option("--socket", help="The daemon's socket.")]
Where = Annotated[str, typer.Argument(metavar="VPC", help="VPC, or inline/NAME, or inline/NAME/ENGINE.")]
FlowText = Annotated[str, typer.Argument(metavar="FLOW", help="Flow, in quotes: `>` alone belongs to the shell.")]


def _order(socket: Path, vpc: str, flow: str, action: str, to: str = "") -> Any:
    return Client(socket).post("flow", {"vpc": vpc, "flow": flow, "action": action, "to": to})


def _command(name: str, text: str, example: str) -> None:
    @app.command(name, help=f"{text}\n\nExample: edgeway flow {name} {example}")
    def command(
        vpc: Where,
        flow: FlowText,
        as_json: Json = False,  # noqa: FBT002 - a flag of the command line
        socket: Socket = SOCKET,
    ) -> None:
        tables.show(_order(socket, vpc, flow, name), as_json=as_json)


for _name, _text, _example in (
    ("deny", "Drop the packets of a flow, of both directions, in silence.", "red 'tcp 10.0.0.1:40000 > 10.0.0.2:80'"),
    ("reset", "End a flow: packets of either side are answered, TCP with RST.", "red 'tcp 10.0.0.1:4 > 10.0.0.2:80'"),
    ("allow", "Let a flow pass whatever the rules say, and by its service node.", "red 'icmp 10.0.0.1:7 > 10.0.0.2'"),
):
    _command(_name, _text, _example)


@app.command("redirect")
def redirect(
    vpc: Where,
    flow: FlowText,
    to: Annotated[str, typer.Option("--to", help="Name of the service node.")],
    as_json: Json = False,  # noqa: FBT002
    socket: Socket = SOCKET,
) -> None:
    """Send a flow between two guests through a service node.

    Example: edgeway flow redirect red 'tcp 10.0.0.1:40000 > 10.0.0.2:80' --to ids
    """
    tables.show(_order(socket, vpc, flow, "redirect", to), as_json=as_json)


@app.command("clear")
def clear(
    vpc: Where,
    flow: Annotated[str, typer.Argument(metavar="[FLOW]", help="Flow, in quotes.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every instruction of the VPC.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
    socket: Socket = SOCKET,
) -> None:
    """Take instructions back: the rules decide again.

    Example: edgeway flow clear red 'tcp 10.0.0.1:40000 > 10.0.0.2:80', or edgeway flow clear red --all
    """
    if bool(flow) == everything:
        raise OperatorError.of("it is not said what to clear", "give a flow, or --all")
    tables.show(_order(socket, vpc, flow, "clear"), as_json=as_json)


def trace(
    vpc: Where,
    flow: FlowText,
    device: Annotated[str, typer.Option("--in", help="Device by which its first packet comes in.")] = "",
    as_json: Json = False,  # noqa: FBT002
    socket: Socket = SOCKET,
) -> None:
    """Say what becomes of a flow, by which rules, and where it goes; changes nothing.

    Example: edgeway trace red 'tcp 10.0.0.1:40000 > 10.0.0.2:80'
    """
    row = Client(socket).post("trace", {"vpc": vpc, "flow": flow, "in": device})
    if as_json:
        tables.show(row, as_json=True)
        return
    sys.stdout.write("".join(f"{name:<12} {text}\n" for name, text in lines(row)))


def lines(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Write a trace as an engineer reads it: from the first packet's arrival to what becomes of it."""
    state = f" ({row['state']})" if row["state"] else ""
    yield "flow", f"{row['flow']}: {'live' + state if row['live'] else 'not live, taken as a first packet'}"
    yield "arrives", f"by {row['arrives']}, conntrack zone {row['zone']}"
    yield "source", row["source"]
    if row["instruction"]:
        yield "instruction", row["instruction"]
    for number, way in enumerate(row["ways"], 1):
        if len(row["ways"]) > 1:
            yield "one of", f"{len(row['ways'])} ways, number {number}"
        yield from _way(way)
    if row["record"]:
        yield "record", _record(row["record"])
    yield "result", row["result"]


def _way(way: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "destination", way["destination"]
    for text in way["translation"]:
        yield "translation", text
    for port in way["ports"]:
        yield "rules", _port(port)
    if way["action"]:
        engine = f", engine {way['engine']}" if way["engine"] is not None else ""
        yield "action", f"{way['action']}{' ' + way['object'] if way['object'] else ''}{engine}"
    if way["differs"]:
        yield "differs", way["differs"]
    yield "next hop", way["next-hop"]


def _port(port: dict[str, Any]) -> str:
    who = f"port of {port['guest']} ({port['end']})" if port["guest"] else "the edge"
    tier = f", {port['tier']}" if port["tier"] else ""
    place = f" rule {port['rule']}, number {port['position']}{tier}" if port["rule"] else " default"
    because = f" ({port['because']})" if port["because"] else ""
    return f"{who}:{place}: {port['says']}: {port['action']}{because}"


def _record(record: dict[str, Any]) -> str:
    if record["judged"] == "never":
        return "never judged"
    after = ": will be judged again at its next packet" if record["judged"] == "stale" else ""
    return (
        f"{record['action']}, engine {record['engine']}, generation {record['generation']}, {record['judged']}{after}"
    )
