"""YAML text becomes plain values with places; what is no plain value becomes a finding at its place."""

from __future__ import annotations

import math
from typing import Any

import pytest

from appliance.model.errors import OperatorError
from appliance.model.text import parse_yaml


def data(text: str) -> Any:
    """Return the values alone."""
    return parse_yaml(text).data


def places_of_findings(text: str) -> list[tuple[int, int, str]]:
    """Return line, column and path of every finding."""
    with pytest.raises(OperatorError) as error:
        parse_yaml(text, "f")
    return [(finding.line, finding.column, finding.path) for finding in error.value.findings]


def message(text: str) -> str:
    """Return what the findings say."""
    with pytest.raises(OperatorError) as error:
        parse_yaml(text, "f")
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-7", -7),
        ("+7", 7),
        ("010", 10),  # YAML 1.2; a port is no octal number
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", math.inf),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("~", None),
        ("null", None),
        ("", None),
        ("2001-12-14", "2001-12-14"),
        ("2001-99-99", "2001-99-99"),
        ("1:30", "1:30"),
        ("'10'", "10"),
        ("!!str 10", "10"),
        ("!!int x", "x"),
        ("!!bool x", "x"),
        ("!!null x", "x"),
        ("&a true", True),  # an anchored truth value is no number
        ("&a 5", 5),
        ("9" * 5000, "9" * 5000),
        ("0x" + "f" * 5000, "0x" + "f" * 5000),
    ],
)
def test_a_scalar_is_read_as_yaml_1_2_reads_it(text: str, value: Any) -> None:
    """What is no number, truth value or null stays text: addresses, dates, prefixes."""
    read = data(f"a: {text}\n")["a"]
    assert (read, type(read)) == (value, type(value))


def test_not_a_number_is_read_as_such() -> None:
    """The range checks refuse it."""
    assert math.isnan(data("a: .nan")["a"])


@pytest.mark.parametrize(
    ("text", "value"), [("", None), ("# only a comment\n", None), ("x", "x"), ("- 1\n- a", [1, "a"])]
)
def test_a_document_may_be_anything(text: str, value: Any) -> None:
    """What it must be, the intent says."""
    assert data(text) == value


def test_every_key_and_item_has_the_place_where_it_is_written() -> None:
    """In block and in flow style."""
    places = parse_yaml("a:\n  b: {c: 1, d: [2,  3]}\n  e:\n  - f: 4\n    g: 5\n").places
    assert places == {
        (): (1, 1),
        ("a",): (1, 1),
        ("a", "b"): (2, 3),
        ("a", "b", "c"): (2, 7),
        ("a", "b", "d"): (2, 13),
        ("a", "b", "d", 0): (2, 17),
        ("a", "b", "d", 1): (2, 21),
        ("a", "e"): (3, 3),
        ("a", "e", 0): (4, 5),
        ("a", "e", 0, "f"): (4, 5),
        ("a", "e", 0, "g"): (5, 5),
    }


def test_a_finding_stands_at_the_nearest_parent_that_is_written() -> None:
    """A key that is absent has no place of its own."""
    document = parse_yaml("a:\n  b: 1\n", "f")
    assert (document.finding(("a", "x", "y"), "m").line, document.finding(("a", "x"), "m").column) == (1, 1)
    assert document.finding(("a", "b"), "m").line == 2
    assert document.finding(("z",), "m").path == "z"
    assert str(document.finding((), "m", warning=True)) == "f:1:1: warning: the document: m"


def test_a_finding_in_an_empty_document_stands_at_its_beginning() -> None:
    """There is no parent."""
    assert parse_yaml("").finding(("zone",), "m").line == 1


def test_keys_are_the_words_that_are_written() -> None:
    """A guest named `true` or `10` is named so."""
    assert data("true: 1\n10: 2\n~: 3\n0x1: 4\n") == {"true": 1, "10": 2, "~": 3, "0x1": 4}


def test_every_doubled_key_is_found_at_once() -> None:
    """With its own place; `1` and `'1'` are one key."""
    assert places_of_findings("a: 1\nb: {c: 1, c: 2}\na: 3\n1: x\n'1': y\n") == [
        (2, 11, "b.c"),
        (3, 1, "a"),
        (5, 1, "1"),
    ]


def test_a_merge_key_brings_what_is_not_there() -> None:
    """The mapping's own keys win, then the first of several mappings; places are those of the origin."""
    document = parse_yaml("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 3\n")
    assert document.data["z"] == {"a": 3, "b": 1, "c": 2}
    assert document.places["z", "a"] == (5, 3)
    assert document.places["z", "b"] == (1, 14)


def test_merges_reach_through_merges() -> None:
    """As chains of defaults do."""
    assert data("x: &x {a: 1}\ny: &y {<<: *x, b: 2}\nz: {<<: *y, c: 3}\n")["z"] == {"a": 1, "b": 2, "c": 3}


def test_an_anchor_that_is_used_again_means_the_latest() -> None:
    """YAML 1.2 7.1, and no warning on a daemon's standard error."""
    assert data("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\n\tb: 2\n", (2, 1), "cannot start any token"),
        ("a: [1\n", (2, 1), "expected ',' or ']'"),
        ("a: *x\n", (1, 4), "undefined alias"),
        ("a: 1\n---\nb: 2\n", (2, 1), "another document"),
        ("a: !x 1\n", (1, 4), "tag !x"),
        ("a: !!set {x}\n", (1, 4), "means nothing here"),
        ("a: !!binary eA==\n", (1, 4), "means nothing here"),
        ("? [a]\n: 1\n", (1, 3), "plain word"),
        ("? !x a\n: 1\n", (1, 3), "plain word"),
        ("a: &a [1, *a]\n", (1, 4), "holds itself"),
        ("a: &a {b: {<<: *a}}\n", (1, 4), "merges itself"),
        ("a: {<<: 3}\n", (1, 9), "merge key takes"),
        ('a: "\\ud800"\n', (1, 4), "no text"),
        ('"\\0": 1\n', (1, 1), "no text"),
        ("a: 1\nbc\x01: 2\n", (2, 3), "#x0001"),
        ("a: \ud800\n", (1, 4), "#xd800"),
        ("[" * 2000, (1, 33), "nested too deeply"),
        ("- " * 2000, (1, 1), "nested too deeply"),
        ("%YAML 3.0\n---\na: 1\n", (1, 1), "version"),
    ],
)
def test_what_cannot_be_read_is_a_finding_at_its_place(text: str, place: tuple[int, int], words: str) -> None:
    """Never another exception, whatever stands in the file."""
    assert places_of_findings(text)[0][:2] == place
    assert words in message(text)


def test_what_is_nested_in_measure_is_read() -> None:
    """Deeper than any intent."""
    assert data(f"a: {'[' * 30}x{']' * 30}")["a"][0][0] is not None


def test_python_errors_of_the_library_are_findings_too() -> None:
    """A tag that a directive does not explain."""
    assert places_of_findings("%TAG ! x:\n%TAG ! y:\n---\na: 1\n")[0][0] >= 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "lines",
    [
        [
            "a0: &a0 [x, x, x, x, x, x, x, x, x]",
            *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
        ],
        ["a0: &a0 {k: x}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))],
    ],
    ids=["aliases", "merge keys"],
)
def test_aliases_cannot_fill_the_memory(lines: list[str]) -> None:
    """A few lines that would expand to billions of values are refused in the time that their text takes."""
    assert "too" in message("\n".join(lines))


def test_aliases_in_measure_are_welcome() -> None:
    """Each node of a zone may share a mapping."""
    text = "x: &x {mtu: 9000, name: eth1}\n" + "".join(f"n{number}: *x\n" for number in range(50))
    assert data(text)["n49"] == {"mtu": 9000, "name": "eth1"}
