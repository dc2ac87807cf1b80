from __future__ import annotations

from pathlib import Path

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab import runner, state


@pytest.fixture(autouse=True)
def _no_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Know of no lab."""
    monkeypatch.setattr(state, "ROOT", tmp_path / "labs")


def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    """Not even a directory is made."""
    file = tmp_path / "x.clab.yml"
    file.write_text("name: x\ntopology: {nodes: {a: {kind: ceos}}}\n")
    with pytest.raises(OperatorError) as caught:
        runner.up(file)
    assert str(caught.value).startswith(f"{file}:2:")
    assert not (tmp_path / "labs").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(OperatorError, match=r"none\.clab\.yml"):
        runner.up(tmp_path / "none.clab.yml")


def test_taking_down_nothing_is_fine_and_said() -> None:
    """It is what was asked for."""
    said: list[str] = []
    assert runner.down("nothing", said.append) == runner.Down("nothing", was_up=False, nodes=0, seconds=0.0)
    assert said == ["lab nothing is not up"]


def test_a_lab_is_found_by_its_file_or_its_name(tmp_path: Path) -> None:
    """A path has a slash or ends like one."""
    file = tmp_path / "x.clab.yml"
    file.write_text("name: by-file\n")
    assert runner.down(file).name == "by-file"
    assert runner.down("by-name").name == "by-name"


def test_a_lab_that_is_not_up_has_no_status_and_no_nodes(tmp_path: Path) -> None:
    """The message names those that are up."""
    (tmp_path / "labs" / "other").mkdir(parents=True)
    for ask in (
        lambda: runner.status("x"),
        lambda: runner.node_pid("x", "a"),
        lambda: runner.exec_in("x", "a", ["true"]),
    ):
        with pytest.raises(OperatorError, match=r"lab x is not up.*other"):
            ask()
