"""Rows for eyes, and JSON that is JSON."""

from __future__ import annotations

import io
import json

import pytest

from appliance.panel import tables

#: Words that a drawing library takes for something else: emoji codes, markup, links.
ODD = "2001:db8:a:1 64512:100:7 [red] :smile: /x"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (True, "True"),
        (["a", "b"], "a, b"),
        ([], ""),
        ({"r1": "h1", "r2": "h2"}, "r1=h1 r2=h2"),
        ({"web": {"here": ["r1", "r3 down"]}}, "web=here=r1, r3 down"),
    ],
)
def test_a_value_is_written_shortly(value: object, text: str) -> None:
    """Empty for what is not there."""
    assert str(tables.cell(value)) == text


def test_words_that_tell_health_have_a_colour() -> None:
    """And other words none."""
    assert tables.cell("established").style == "green"
    assert tables.cell("delete").style == "red"
    assert tables.cell("active").style == ""


def test_a_table_has_every_key_that_occurs_in_order_of_appearance(capsys: pytest.CaptureFixture[str]) -> None:
    """A row without a key has an empty cell."""
    tables.show([{"a": 1, "b": 2}, {"a": 3, "c": 4}], as_json=False)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["a", "b", "c"]
    assert first.split() == ["1", "2"]
    assert second.split() == ["3", "4"]


def test_one_row_stands_upright(capsys: pytest.CaptureFixture[str]) -> None:
    """A status has many keys and one value each."""
    tables.show({"node": "h1", "converged": True}, as_json=False)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["node", "h1"],
        ["converged", "True"],
    ]


def test_nothing_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer looks like a failure."""
    tables.show([], as_json=False, empty="nobody announces 192.0.2.0/24")
    assert capsys.readouterr().out == "nobody announces 192.0.2.0/24\n"


@pytest.mark.parametrize("rows", [[], [{"odd": ODD}], {"odd": ODD, "list": [1, None]}])
def test_json_is_what_was_given(rows: object, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in it is drawn, folded or coloured."""
    tables.show(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == rows


def test_an_address_in_a_table_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """`:a:` and `:100:` are emoji to some."""
    tables.show([{"odd": ODD}], as_json=False)
    assert ODD in capsys.readouterr().out
    tables.console().print(ODD)
    assert capsys.readouterr().out == f"{ODD}\n"


def test_what_is_not_a_terminal_folds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a row, so that grep finds whole rows."""
    tables.show([{"path": " ".join(["65101"] * 100)}], as_json=False)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_terminal_is_not_printed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its width is what it says."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "40")
    assert tables.console().width == 40
