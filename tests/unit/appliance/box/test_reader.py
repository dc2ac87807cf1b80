"""A reader gives values and notes what is wrong; it raises nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from appliance.box.reader import Reader
from appliance.model.errors import Finding
from appliance.model.text import parse_yaml


@pytest.fixture
def findings() -> list[Finding]:
    """Return where the reader notes."""
    return []


@pytest.fixture
def reader(findings: list[Finding]) -> Reader:
    """Return a reader of a small document."""
    return Reader(parse_yaml("a: 1\nb: [x, 2, {}]\nc: ~\nd: old\n", "f"), findings)


def test_a_table_gives_known_keys_and_tells_the_others(reader: Reader, findings: list[Finding]) -> None:
    """With the reason, when one is known."""
    assert reader.table(reader.document.data, (), {"a", "c"}, {"d": "it is gone"}) == {"a": 1}
    assert [(one.path, one.line, one.severity) for one in findings] == [("b", 2, "warning"), ("d", 4, "warning")]
    assert findings[1].message == "has no effect: it is gone"


def test_what_is_no_table_and_no_list_is_an_error(reader: Reader, findings: list[Finding]) -> None:
    """And counts as empty."""
    assert reader.table(7, ("a",), {"x"}) == {}
    assert reader.items(7, ("a",)) == []
    assert [one.severity for one in findings] == ["error", "error"]


def test_nothing_is_no_error(reader: Reader, findings: list[Finding]) -> None:
    """A key without a value is a key that is not there."""
    assert (reader.table(None, (), {"x"}), reader.items(None, ())) == ({}, [])
    assert findings == []


def test_numbers_are_texts_where_texts_are_asked_for(reader: Reader, findings: list[Finding]) -> None:
    """A host may be called 7."""
    assert reader.texts(reader.document.data["b"], ("b",), re.compile(r"\w+"), "words") == ("x", "2")
    assert [(one.path, one.line, one.column) for one in findings] == [("b.2", 2, 11)]
    assert reader.texts("x", ("a",)) == ("x",)


@pytest.mark.parametrize(
    ("value", "flag", "wrong"), [(True, True, 0), ("Yes", True, 0), ("off", False, 0), (1, False, 1)]
)
def test_flags(reader: Reader, findings: list[Finding], value: Any, flag: bool, wrong: int) -> None:
    """Words of YAML 1.1 are taken, numbers are not."""
    assert reader.flag(value, ("a",)) is flag
    assert len(findings) == wrong


@pytest.mark.parametrize(("value", "wrong"), [(1, 0), (9, 0), (0, 1), (10, 1), (True, 1), ("5", 1), (5.0, 1)])
def test_numbers_have_bounds(reader: Reader, findings: list[Finding], value: Any, wrong: int) -> None:
    """A truth value is no number."""
    reader.number(value, ("a",), 1, 9)
    assert len(findings) == wrong
