"""`edgeway interop`: our route-server scenarios against any BGP speaker (design note 0010).

The harness is loaded by the command: `edgeway check` and `--help` pass through here too.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.model.errors import OperatorError
from appliance.panel import tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from routing.interop.dialects.dialect import Dialect
    from routing.interop.run import Dut, Row
    from routing.interop.script import Case
    from routing.interop.world import Knob

_EXAMPLES = """Run route-server scenarios against any BGP speaker; exit status 1 if it breaks a MUST. Needs root.

The speaker runs in a namespace of its own, the neighbours are ours.

Examples:

edgeway interop --dut edgeway --dut bird --dut frr

edgeway interop --dut '/opt/bird3/bird -f -c {config} -s {run}/ctl' --dialect bird --only errors

edgeway interop --dut 'myrouter --config {config}' --template myrouter.tmpl

edgeway interop --print-neighbors; edgeway interop --dut 'myrouter --config /etc/mine' --dialect none
"""


def interop(  # noqa: PLR0913, PLR0917 - one option each
    dut: Annotated[
        list[str] | None,
        typer.Option(
            help="edgeway, bird, frr, openbgpd, gobgp, or a command with {config} and {run}; may be repeated."
        ),
    ] = None,
    dialect: Annotated[str, typer.Option(help="What a command understands: a preset's name, or none.")] = "",
    template: Annotated[Path | None, typer.Option(help="What a command understands: a template of your own.")] = None,
    configured: Annotated[
        list[str] | None, typer.Option(help="Your template or configuration does this: no-policy, shun, role.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="A group or a case; may be repeated.", metavar="NAME")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Describe the cases.")] = False,  # noqa: FBT002
    print_neighbors: Annotated[  # noqa: FBT002
        bool, typer.Option(help="What a configuration of your own must hold.")
    ] = False,
    patience: Annotated[float, typer.Option(help="Seconds in which anything must happen.")] = 10.0,
    jobs: Annotated[int, typer.Option(help="So many speakers at once.")] = 1 + (os.cpu_count() or 1),
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,  # noqa: FBT002
) -> None:
    """See _EXAMPLES."""
    from routing.interop import report  # noqa: PLC0415 - loads the harness
    from routing.interop.cases import chosen, world  # noqa: PLC0415

    cases = chosen(only or ())
    if list_:
        tables.show([report.described(case) for case in cases], as_json=as_json)
        return
    if print_neighbors:
        tables.show(report.neighbors(world(cases)), as_json=as_json)
        return
    duts = _duts(dut or [], _own_dialect(dialect, template, _knobs(configured or ())))
    results = dict(zip((one.name for one in duts), _run(duts, cases, patience, jobs), strict=True))
    if as_json:
        tables.show(report.document(results), as_json=True)
    else:
        _draw(results)
    if report.failed(results):
        raise typer.Exit(1)


interop.__doc__ = _EXAMPLES


def _knobs(names: Sequence[str]) -> frozenset[Knob]:
    from routing.interop.world import Knob  # noqa: PLC0415

    try:
        return frozenset(map(Knob, names))
    except ValueError:
        known = ", ".join(knob.value for knob in Knob)
        raise OperatorError.of(
            f"--configured {' '.join(names)}: there is no such thing", f"there are {known}"
        ) from None


def _own_dialect(name: str, template: Path | None, knobs: frozenset[Knob]) -> Dialect | None:
    """Return the dialect of commands; None if none was given."""
    from routing.interop.dialects import DIALECTS  # noqa: PLC0415
    from routing.interop.dialects import template as templates  # noqa: PLC0415

    if template is not None:
        try:
            text = template.read_text(encoding="utf-8")
        except OSError as error:
            raise OperatorError.of(f"{template}: {error.strerror}") from error
        return templates.template(text, template.name, knobs)
    if name == "none":
        return templates.none(knobs)
    if name and name not in DIALECTS:
        raise OperatorError.of(f"there is no dialect {name}", f"there are {', '.join(DIALECTS)}, none, and --template")
    return DIALECTS.get(name)


def _duts(given: Sequence[str], own: Dialect | None) -> list[Dut]:
    from routing.interop.dialects import DIALECTS  # noqa: PLC0415
    from routing.interop.run import Dut  # noqa: PLC0415

    if not given:
        raise OperatorError.of("nothing to test", f"--dut {', '.join(DIALECTS)}, or a command")
    made: list[Dut] = []
    for word in given:
        dialect = DIALECTS.get(word) or own
        if dialect is None:
            hint = "--dialect says in which language its configuration is written; or --template"
            raise OperatorError.of(f"--dut {word}: this is a command, not one of {', '.join(DIALECTS)}", hint)
        command = dialect.command if word in DIALECTS else word
        name = Path(word.split()[0]).name if word.split() else word
        same = sum(one.name.partition("#")[0] == name for one in made)
        made.append(Dut(f"{name}#{same + 1}" if same else name, dialect, command))
    return made


def _run(duts: list[Dut], cases: tuple[Case, ...], patience: float, jobs: int) -> list[list[Row]]:
    from routing.interop.run import run, run_all  # noqa: PLC0415

    # What ends us must pass through `finally`; only SIGKILL is left to the kernel.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tell = _Progress(len(cases) * len(duts))

    def play(dut: Dut, stop: Event) -> list[Row]:
        return run(dut, cases, patience=patience, progress=lambda row: tell(dut.name, row), stop=stop)

    try:
        return run_all(duts, play, jobs)
    finally:
        tell.end()
        signal.signal(signal.SIGTERM, before)


class _Progress:
    """How far all devices are, on a terminal."""

    def __init__(self, number: int) -> None:
        self._number, self._done = number, 0

    def __call__(self, name: str, row: Row) -> None:
        self._done += 1
        if sys.stderr.isatty():
            sys.stderr.write(
                f"\r\x1b[K{self._done} of {self._number}: {name} {row.case.name} {row.verdict.result.value}"
            )
            sys.stderr.flush()

    def end(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def _draw(results: Any) -> None:
    from routing.interop import report  # noqa: PLC0415

    out = tables.console()
    out.print(tables.table(report.table(results)))
    told = report.details(results)
    if told:
        out.print()
        out.print(tables.table(told))
    out.print()
    out.print(tables.table(report.counts(results)))
