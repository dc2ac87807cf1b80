"""Rows as tables for eyes, or as JSON for programs. Values come from `appliance.panel.views`; nothing is decided here.

rich is loaded when something is drawn: JSON and plain lines do without.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

#: Colours of words that tell health.
_STYLES = {
    "established": "green",
    "True": "green",
    "False": "red",
    "create": "green",
    "delete": "red",
    "update": "yellow",
    "pass": "green",
    "fail": "red",
    "error": "red",
    "differs": "yellow",
}


#: Columns of what is not a terminal: a file or a pipe folds nothing.
WIDE = 1000


def console(*, stderr: bool = False) -> Console:
    """Make a console that prints what it is given: an address like 2001:db8:a::1 is no emoji code, a path no link."""
    from rich.console import Console  # noqa: PLC0415 - see the charter

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(stderr=stderr, emoji=False, highlight=False, markup=False, width=width)


def cell(value: Any) -> Text:
    """Write a value shortly: empty for None, lists with commas, mappings as key=value."""
    from rich.text import Text  # noqa: PLC0415 - see the charter

    if value is None:
        text = ""
    elif isinstance(value, dict):
        text = " ".join(f"{key}={cell(item)}" for key, item in value.items())
    elif isinstance(value, list):
        text = ", ".join(str(cell(item)) for item in value)
    else:
        text = str(value)
    return Text(text, style=_STYLES.get(text, ""))


def table(rows: Sequence[dict[str, Any]], title: str = "") -> Table:
    """Make a table whose columns are the keys that occur, in order of appearance."""
    from rich.table import Table  # noqa: PLC0415 - see the charter

    columns = list(dict.fromkeys(key for row in rows for key in row))
    made = Table(title=title or None, header_style="bold", box=None, pad_edge=False, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell(row.get(column)) for column in columns))
    return made


def show(rows: Any, *, as_json: bool, empty: str = "nothing to show") -> None:
    """Print rows, or one row upright, or everything as JSON, on standard output."""
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif isinstance(rows, dict):
        console().print(table([{"key": key, "value": value} for key, value in rows.items()]))
    elif rows:
        console().print(table(rows))
    else:
        sys.stdout.write(f"{empty}\n")
