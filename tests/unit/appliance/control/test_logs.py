"""One line of JSON for each thing that happened, or colours for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from appliance.control.logs import configure


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    """Leave no trace for other tests."""
    yield
    structlog.reset_defaults()


def test_without_a_terminal_an_event_is_one_line_of_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs read it."""
    monkeypatch.delenv("EDGEWAY_LOG", raising=False)
    configure()
    structlog.get_logger().warning("session", name="rs1", state="idle")
    said = json.loads(capsys.readouterr().err)
    assert (said["event"], said["level"], said["name"]) == ("session", "warning", "rs1")
    assert said["timestamp"].endswith("Z")


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback over many lines would be many events."""
    monkeypatch.setenv("EDGEWAY_LOG", "json")
    configure()
    try:
        int("oops")
    except ValueError:
        structlog.get_logger().exception("task-failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_the_environment_chooses_words_for_a_person(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without codes of colours where there is no terminal, and never with the values of variables."""
    monkeypatch.setenv("EDGEWAY_LOG", "console")
    configure()
    secret = "hunter2"
    try:
        int("oops" + secret[:0])
    except ValueError:
        structlog.get_logger().exception("task-failed", task="tick")
    said = capsys.readouterr().err
    assert "task=tick" in said
    assert "ValueError: invalid literal" in said
    assert "\x1b" not in said
    assert "hunter2'" not in said


def test_standard_output_stays_free(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to what a command was asked for."""
    monkeypatch.setenv("EDGEWAY_LOG", "json")
    configure()
    structlog.get_logger().info("ready")
    assert capsys.readouterr().out == ""
