"""The commands about slots on a machine that has none, and the order of an update's steps on one that has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from appliance.box import update as box
from appliance.box.slots import Slot
from appliance.panel import cli, ready_cli


def edgeway(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, ["box", *words])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Be a box that runs from slot a; return what is done with it."""
    done: list[str] = []

    def judged(bundle: Path) -> dict[str, Any]:
        done.append(f"judge {bundle}")
        return {"version": "2.0"}

    def prove() -> str:
        done.append("prove")
        return "a"

    monkeypatch.setattr(box, "here", lambda: "a")
    monkeypatch.setattr(box, "judged", judged)
    monkeypatch.setattr(box, "install", lambda *_: done.append("install"))
    monkeypatch.setattr(box, "prove", prove)
    monkeypatch.setattr(box, "reboot", lambda: done.append("reboot"))
    monkeypatch.setattr(ready_cli, "until_ready", lambda _: "")
    return done


def test_a_machine_without_slots_says_so() -> None:
    """Before anything is read or written."""
    for words in (("slots",), ("update", "/nowhere.raucb"), ("prove", "--wait", "0")):
        done = edgeway(*words)
        assert done.exit_code == 1, words
        assert "runs from no slot" in done.output


def test_an_update_is_judged_written_and_started(steps: list[str], tmp_path: Path) -> None:
    """In this order; without a daemon nothing has to be drained."""
    done = edgeway("update", "/data/x.raucb", "--socket", str(tmp_path / "none"))
    assert done.exit_code == 0, done.output
    assert steps == ["judge /data/x.raucb", "install", "reboot"]
    assert "version 2.0, its signature is good; slot a runs" in done.output


def test_an_update_can_wait_for_the_operators_reboot(steps: list[str]) -> None:
    """And says what to do then."""
    done = edgeway("update", "/data/x.raucb", "--no-reboot")
    assert steps == ["judge /data/x.raucb", "install"]
    assert "edgeway drain && systemctl reboot" in done.output


def test_a_slot_is_proven_when_the_box_is_ready(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And not before."""
    assert "slot a is good" in edgeway("prove").output
    monkeypatch.setattr(ready_cli, "until_ready", lambda _: "the daemon does not answer")
    late = edgeway("prove", "--wait", "0")
    assert (late.exit_code, steps) == (1, ["prove"])
    assert "slot a is not ready" in late.output


def test_both_slots_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """For eyes and for machines."""
    slot = Slot("a", running=True, next=True, proven=True, good=True, tries=0, version="1.0", written="")
    monkeypatch.setattr(box, "look", lambda: (slot,))
    assert '"letter": "a"' in edgeway("slots", "--json").output
    assert "proven" in edgeway("slots").output
