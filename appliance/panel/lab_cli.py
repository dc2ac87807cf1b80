"""`edgeway lab up | down | status | watch | exec`: labs from containerlab files, by namespaces alone."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from appliance.panel import tables
from appliance.panel.lab import runner
from appliance.panel.lab.observe import Report, observe

app = typer.Typer(no_args_is_help=True, help="Labs from containerlab files, by namespaces alone.")
out = Console()

Topology = Annotated[Path, typer.Argument(help="Topology file (.clab.yml).")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of tables.")]

#: Seconds after which a lab that is not green counts as failed, and between two looks.
WITHIN, PAUSE = 240.0, 1.0


def render(report: Report, title: str) -> Group:
    """Draw a report: nodes above, checks below."""
    checks = [
        {"check": row.what, "how": row.how, "result": "good" if row.good else "no answer"} for row in report.checks
    ]
    colour = "green" if report.green else "yellow"
    parts: list[object] = [Text(title, style=f"bold {colour}")]
    if report.nodes:
        parts += [Text(), tables.table([asdict(row) for row in report.nodes])]
    if checks:
        parts += [Text(), tables.table(checks)]
    return Group(*parts)  # type: ignore[arg-type] # texts and tables are renderable


def _title(path: Path, begun: float, report: Report) -> str:
    seconds = time.monotonic() - begun
    good = sum(row.good for row in report.checks)
    ready = sum(row.state == "converged" for row in report.nodes)
    return (
        f"{path.name}: {ready} of {len(report.nodes)} nodes converged, "
        f"{good} of {len(report.checks)} checks good, after {seconds:.0f} s"
    )


def converge(path: Path, within: float = WITHIN) -> Report:
    """Look until everything is green or time is up; with a terminal, show it live."""
    begun = time.monotonic()
    report = observe(path)
    if not out.is_terminal:
        while not report.green and time.monotonic() - begun < within:
            time.sleep(PAUSE)
            report = observe(path)
        out.print(render(report, _title(path, begun, report)))
        return report
    with Live(render(report, _title(path, begun, report)), console=out, auto_refresh=False) as live:
        while not report.green and time.monotonic() - begun < within:
            time.sleep(PAUSE)
            report = observe(path)
            live.update(render(report, _title(path, begun, report)), refresh=True)
    return report


@app.command()
def up(path: Topology) -> None:
    """Bring a lab up, show it converge, leave it up."""
    begun = time.monotonic()
    runner.up(path, progress=lambda line: out.print(line, highlight=False, markup=False))
    report = converge(path)
    out.print(f"{'every check is green' if report.green else 'NOT converged'} after {time.monotonic() - begun:.1f} s")
    if not report.green:
        raise typer.Exit(1)
    out.print(f"next: edgeway lab exec {path} NODE edgeway show routes; edgeway lab down {path}", highlight=False)


@app.command()
def down(path: Topology) -> None:
    """Take a lab down; nothing of it is left."""
    runner.down(path, progress=lambda line: out.print(line, highlight=False, markup=False))


@app.command()
def status(path: Topology, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Show every node and try every check once."""
    report = observe(path)
    if as_json:
        tables.show(asdict(report), as_json=True, console=out)
    else:
        out.print(render(report, path.name))
    if not report.green:
        raise typer.Exit(1)


@app.command()
def watch(path: Topology) -> None:
    """Show the lab live until interrupted."""
    begun = time.monotonic()
    report = observe(path)
    with Live(render(report, path.name), console=out, auto_refresh=False) as live:
        while True:
            live.update(render(report, _title(path, begun, report)), refresh=True)
            time.sleep(PAUSE)
            report = observe(path)


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(path: Topology, node: str, command: Annotated[list[str], typer.Argument()]) -> None:
    """Run a command inside a node, e.g. `edgeway lab exec labs/az/az.clab.yml h1 ip route`."""
    sys.exit(runner.exec_in(path, node, command))
