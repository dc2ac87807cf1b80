from __future__ import annotations

from routing.interop.dialects import DIALECTS
from routing.interop.dialects.dialect import fill, lines


def test_placeholders_are_filled_and_other_braces_left_alone() -> None:
    """A command has braces of its own."""
    command = fill("x -c {config} {run}/s ${HOME} {other} {python}", config="/a", run="/r", python="/p")
    assert command == "x -c /a /r/s ${HOME} {other} /p"


def test_lines_end_with_one() -> None:
    """As files should."""
    assert lines("a", "b") == "a\nb\n"


def test_presets_are_found_by_name() -> None:
    """Each has a command."""
    assert set(DIALECTS) == {"edgeway", "bird", "frr", "openbgpd", "gobgp"}
    assert all(dialect.name == name and dialect.command for name, dialect in DIALECTS.items())
