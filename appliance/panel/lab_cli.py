"""`edgeway lab up | down | status | watch | exec`: labs from containerlab files, by namespaces alone.

The runner is loaded by the command that needs it: `edgeway check` and `--help` pass through here too.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.panel import tables

if TYPE_CHECKING:
    from rich.console import Group

    from appliance.panel.lab.observe import Report

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Labs from containerlab files, by namespaces alone."
)


class Runtime(StrEnum):
    """What a node of our own image is; all others are namespaces."""

    NAMESPACES = "namespaces"
    PODMAN = "podman"


#: Where `make image` puts what it makes, and the archive of our image.
MACHINES = Path("build/image")
ARCHIVE = MACHINES / "edgeway-oci.tar"
Topology = Annotated[Path, typer.Argument(help="Topology file (.clab.yml).")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of tables.")]

#: Seconds after which a lab that is not green counts as failed, and between two looks.
WITHIN, PAUSE = 240.0, 1.0
#: The same of a lab with virtual machines, which may be emulated on a machine that does much else.
BOOTS_WITHIN, BOOT_PAUSE = 1200.0, 5.0


def render(report: Report, title: str) -> Group:
    """Draw a report: nodes above, checks below."""
    from rich.console import Group  # noqa: PLC0415 - loaded when something is drawn
    from rich.text import Text  # noqa: PLC0415

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


def look(path: Path) -> Report:
    """Ask every daemon and try every check once."""
    from appliance.panel.lab.observe import observe  # noqa: PLC0415 - loads the model and the runner

    return observe(path)


def converge(path: Path, within: float = WITHIN, pause: float = PAUSE) -> Report:
    """Look until everything is green or time is up; with a terminal, show it live."""
    from rich.live import Live  # noqa: PLC0415 - for this and `watch` only

    out = tables.console()
    begun = time.monotonic()
    report = look(path)
    if not out.is_terminal:
        while not report.green and time.monotonic() - begun < within:
            time.sleep(pause)
            report = look(path)
        out.print(render(report, _title(path, begun, report)))
        return report
    with Live(render(report, _title(path, begun, report)), console=out, auto_refresh=False) as live:
        while not report.green and time.monotonic() - begun < within:
            time.sleep(pause)
            report = look(path)
            live.update(render(report, _title(path, begun, report)), refresh=True)
    return report


@app.command()
def up(
    path: Topology,
    runtime: Annotated[Runtime, typer.Option(help="What nodes of our own image are.")] = Runtime.NAMESPACES,
    vm: Annotated[Path, typer.Option(help="Where kernel and root of virtual machines are.")] = MACHINES,
    oci: Annotated[Path, typer.Option(help="Archive of our image, for --runtime podman.")] = ARCHIVE,
) -> None:
    """Bring a lab up, show it converge, leave it up."""
    from appliance.panel.lab import runner  # noqa: PLC0415

    out = tables.console()
    begun = time.monotonic()
    containers = oci if runtime is Runtime.PODMAN else None
    runner.up(path, progress=out.print, containers=containers, machines=vm)
    report = converge(path, BOOTS_WITHIN, BOOT_PAUSE) if runner.has_machines(path) else converge(path)
    out.print(f"{'every check is green' if report.green else 'NOT converged'} after {time.monotonic() - begun:.1f} s")
    if not report.green:
        raise typer.Exit(1)
    out.print(f"next: edgeway lab exec {path} NODE edgeway show routes; edgeway lab down {path}", soft_wrap=True)


@app.command()
def down(path: Topology) -> None:
    """Take a lab down; nothing of it is left."""
    from appliance.panel.lab import runner  # noqa: PLC0415

    runner.down(path, progress=tables.console().print)


@app.command()
def status(path: Topology, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Show every node and try every check once."""
    report = look(path)
    if as_json:
        tables.show(asdict(report) | {"green": report.green}, as_json=True)
    else:
        tables.console().print(render(report, path.name))
    if not report.green:
        raise typer.Exit(1)


@app.command()
def watch(path: Topology) -> None:
    """Show the lab live until interrupted."""
    from rich.live import Live  # noqa: PLC0415

    begun = time.monotonic()
    report = look(path)
    with (
        suppress(KeyboardInterrupt),
        Live(render(report, path.name), console=tables.console(), auto_refresh=False) as live,
    ):
        while True:
            live.update(render(report, _title(path, begun, report)), refresh=True)
            time.sleep(PAUSE)
            report = look(path)


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(path: Topology, node: str, command: Annotated[list[str], typer.Argument()]) -> None:
    """Run a command inside a node, e.g. `edgeway lab exec labs/az/az.clab.yml h1 ip route`."""
    from appliance.panel.lab import runner  # noqa: PLC0415

    raise typer.Exit(runner.exec_in(path, node, command))
