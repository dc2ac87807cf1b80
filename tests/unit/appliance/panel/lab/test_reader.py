from __future__ import annotations

import pytest

from appliance.model.text import parse_yaml
from appliance.panel.lab.reader import Reader


def read(text: str) -> tuple[Reader, dict]:
    """Parse a document."""
    document = parse_yaml(text, "x.yml")
    return Reader(document), document.data


@pytest.mark.parametrize(
    ("written", "read_as"), [("yes", "yes"), ("true", "true"), ("12", "12"), ("'0644'", "0644"), ("", "")]
)
def test_a_scalar_is_the_text_that_stands_there(written: str, read_as: str) -> None:
    """As containerlab takes environment values."""
    reader, data = read(f"a: {written}\n")
    text = reader.text(("a",), data["a"])
    assert text
    assert text.text == read_as
    assert reader.findings == ()


def test_a_number_that_would_be_rewritten_asks_for_quotes() -> None:
    """1.10 is not 1.1 to whoever wrote it."""
    reader, data = read("a: 1.10\n")
    assert reader.text(("a",), data["a"]) is None
    assert [(f.line, f.column) for f in reader.findings] == [(1, 1)]


@pytest.mark.parametrize(("call", "says"), [("mapping", "a mapping"), ("sequence", "a list"), ("text", "a text")])
def test_a_wrong_shape_is_a_finding_at_its_place(call: str, says: str) -> None:
    """It is found, not raised, so that more can be found."""
    wrong = {"mapping": "[1]", "sequence": "{b: 1}", "text": "[1]"}[call]
    reader, data = read(f"x: 1\na: {wrong}\n")
    getattr(reader, call)(("a",), data["a"])
    assert [(f.line, f.path) for f in reader.findings] == [(2, "a")]
    assert says in reader.findings[0].message


def test_the_same_finding_is_kept_once() -> None:
    """What stands in the defaults is read once for each node."""
    reader, _ = read("a: 1\n")
    reader.error(("a",), "no")
    reader.error(("a",), "no")
    assert len(reader.findings) == 1


def test_what_is_left_of_variables_is_found() -> None:
    """A default is refused, a plain name is warned of: it may or may not be replaced there."""
    reader, data = read("a: {b: ['${X:=1}', 'echo $Y ${Z}', 'cost: 5$']}\n")
    reader.check_variables((), data)
    assert [f.severity for f in reader.findings] == ["error", "warning", "warning"]
    assert "${X:=1}" in reader.findings[0].message


def test_a_place_is_that_of_the_nearest_thing_that_stands_in_the_file() -> None:
    """A missing key is blamed on its parent."""
    reader, _ = read("a:\n  b: 1\n")
    place = reader.place(("a", "c"))
    assert (place.path, place.line) == ("a.c", 1)
