"""The line that says a box is ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.box import ready


def test_the_line_is_what_the_design_says() -> None:
    """Tests and labs wait for just this."""
    assert ready.line("READY", "h1", "a", "0.1.0", 12.34) == "READY node=h1 slot=a version=0.1.0 up=12.3s"
    assert ready.line("READY", "", "", "0.1.0", 3) == "READY node=- slot=- version=0.1.0 up=3.0s"


@pytest.mark.parametrize(("line", "slot"), [("quiet edgeway.slot=b x", "b"), ("edgeway.slots=b", ""), ("", "")])
def test_the_slot_is_the_command_line_s(line: str, slot: str) -> None:
    """A box that was booted directly has none."""
    assert ready.slot(line) == slot


def test_the_version_is_what_is_installed(tmp_path: Path) -> None:
    """In an image it lies beside the packages."""
    (tmp_path / "edgeway-9.8.7.dist-info").mkdir()
    assert ready.version(str(tmp_path)) == "9.8.7"
    assert ready.version(str(tmp_path / "nowhere"))[0].isdigit()


def test_without_intent_a_box_is_ready_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It can be configured."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "uptime").write_text("12.34 5.00\n")
    (proc / "cmdline").write_text("quiet edgeway.slot=a\n")
    ready.main(str(tmp_path / "etc"), str(proc))
    said = capfd.readouterr().out
    assert said.startswith("edgeway: READY node=- slot=a version=")
    assert said.endswith(" up=12.3s\n")
