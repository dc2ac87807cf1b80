"""Rows as tables for eyes. Values come from `appliance.panel.views`; nothing is decided here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

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
}


def cell(value: Any) -> Text:
    """Write a value shortly: empty for None, lists with commas, mappings as key=value."""
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
    columns = list(dict.fromkeys(key for row in rows for key in row))
    made = Table(title=title or None, header_style="bold", box=None, pad_edge=False, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell(row.get(column)) for column in columns))
    return made


def show(rows: Any, *, as_json: bool, console: Console, empty: str = "nothing to show") -> None:
    """Print rows, or one row upright, or everything as JSON."""
    if as_json:
        console.print(json.dumps(rows, indent=2), soft_wrap=True, highlight=False, markup=False)
    elif isinstance(rows, dict):
        console.print(table([{"key": key, "value": value} for key, value in rows.items()]))
    elif rows:
        console.print(table(rows))
    else:
        console.print(empty)
