"""What is told when a bundle cannot be installed; that one can be is shown in a machine, tests/image/test_update.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.box import grubenv, update
from appliance.model.errors import OperatorError


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be a box that runs from slot b, which is not proven; give its environment block."""
    block = tmp_path / "grubenv"
    grubenv.change(block, {"ORDER": "B A", "A_OK": "1", "B_OK": "1", "B_TRY": "1", "PROVEN": "A"})
    monkeypatch.setattr(update, "ENVIRONMENT", block)
    monkeypatch.setattr(update, "STATUS", tmp_path / "status")
    monkeypatch.setattr(update, "command_line", lambda: "quiet edgeway.slot=b")
    return block


def test_a_slot_on_trial_is_the_next_one_once_it_is_proven(box: Path) -> None:
    """It had one try, and that is used up."""
    assert [slot.letter for slot in update.look() if slot.next] == ["a"]
    assert update.prove() == "b"
    assert grubenv.read(box)["PROVEN"] == "B"
    assert [slot.letter for slot in update.look() if slot.next] == ["b"]


def test_a_machine_without_slots_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container, or a squashfs that was started bare."""
    monkeypatch.setattr(update, "command_line", lambda: "edgeway.root=/dev/vda")
    for ask in (update.look, update.prove):
        with pytest.raises(OperatorError, match="runs from no slot"):
            ask()


def test_what_is_no_bundle_is_refused_in_raucs_words(tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(OperatorError, match="no such file"):
        update.judged(tmp_path / "missing.raucb")
    (tmp_path / "not.raucb").write_bytes(bytes(8192))
    with pytest.raises(OperatorError, match="is refused: "):
        update.judged(tmp_path / "not.raucb")


def test_progress_is_told_and_the_reason_is_the_last_line_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RAUC talks in percents and ends with what went wrong."""
    (tmp_path / "rauc").write_text(
        "#!/bin/sh\necho installing\necho '  0% Installing'\necho 'Slot is too small'\nexit 1\n"
    )
    (tmp_path / "rauc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    told: list[str] = []
    with pytest.raises(OperatorError, match="not installed: Slot is too small"):
        update.install(tmp_path / "x.raucb", told.append)
    assert told == ["installing", "0% Installing", "Slot is too small"]
