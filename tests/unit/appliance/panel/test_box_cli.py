"""`edgeway box`: the intent in its place, the seed by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from appliance.panel import box_cli
from appliance.panel.cli import app
from tests.support.intents import LAB
from tests.support.seeds import files


def invoke(*words: object, answer: str = "") -> Result:
    """Run `edgeway box`."""
    return CliRunner().invoke(app, ["box", *map(str, words)], input=answer)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Return the place of the intent; nothing is there yet."""
    return tmp_path / "etc"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start no service of this machine; note that it was asked for."""
    asked: list[str] = []
    monkeypatch.setattr(box_cli, "start", lambda: asked.append("start"))
    return asked


@pytest.fixture
def intent(tmp_path: Path) -> Path:
    """Return a good intent."""
    file = tmp_path / "intent.yaml"
    file.write_text(LAB)
    return file


def test_a_good_intent_is_put_in_its_place_and_the_daemon_started(etc: Path, intent: Path, started: list[str]) -> None:
    """With the node's name, for root only."""
    done = invoke("configure", intent, "--node", "h1", "--yes", "--etc", etc, "--socket", etc / "nobody")
    assert done.exit_code == 0, done.output
    assert ((etc / "intent.yaml").read_text(), (etc / "node").read_text()) == (LAB, "h1\n")
    assert (etc / "intent.yaml").stat().st_mode & 0o777 == 0o600
    assert started == ["start"]


def test_nothing_is_changed_without_a_yes(etc: Path, intent: Path, started: list[str]) -> None:
    """Asked after the plan."""
    assert (
        invoke("configure", intent, "--node", "h1", "--etc", etc, "--socket", etc / "nobody", answer="n\n").exit_code
        == 1
    )
    assert not etc.exists()
    assert started == []


@pytest.mark.parametrize(("text", "node"), [("frob: 1\n", "h1"), (LAB, "h77")])
def test_a_bad_intent_is_refused(etc: Path, tmp_path: Path, started: list[str], text: str, node: str) -> None:
    """One that is wrong, and one that does not know this box."""
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert invoke("configure", file, "--node", node, "--yes", "--etc", etc, "--socket", etc / "nobody").exit_code != 0
    assert not etc.exists()


def test_the_name_that_the_box_was_given_is_kept(etc: Path, intent: Path, started: list[str]) -> None:
    """Nobody has to say it twice."""
    etc.mkdir()
    (etc / "node").write_text("gw1\n")
    assert invoke("configure", intent, "--yes", "--etc", etc, "--socket", etc / "nobody").exit_code == 0
    assert (etc / "node").read_text() == "gw1\n"
    assert box_cli.own_node(etc / "nowhere") == os.uname().nodename.partition(".")[0]


def test_an_edit_is_checked_and_offered_again(
    etc: Path, intent: Path, started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first edit is wrong, the second is right."""
    script = tmp_path / "editor"
    script.write_text(
        f'#!/bin/sh\nif [ -e {tmp_path}/again ]; then cp {intent} "$1"; else touch {tmp_path}/again; echo frob: 1 >"$1"; fi\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    done = invoke("edit", "--node", "h1", "--etc", etc, "--socket", etc / "nobody", answer="y\ny\n")
    assert "frob" in done.output
    assert (etc / "intent.yaml").read_text() == LAB


def test_an_edit_that_changes_nothing_asks_nothing(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it write."""
    monkeypatch.setenv("VISUAL", "true")
    assert "nothing was changed" in invoke("edit", "--etc", etc).output
    assert not etc.exists()


def test_an_editor_is_named_or_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any, that is said."""
    monkeypatch.setenv("VISUAL", "ed -p x")
    assert box_cli.editor() == ["ed", "-p", "x"]
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no editor" in invoke("edit", "--etc", tmp_path / "etc").output
    (tmp_path / "vi").write_text("")
    (tmp_path / "vi").chmod(0o755)
    assert box_cli.editor() == ["vi"]


def seeded(directory: Path, text: str) -> Path:
    """Write a seed."""
    directory.mkdir()
    for name, octets in files(text).items():
        (directory / name).write_bytes(octets)
    return directory


def test_a_seed_is_judged_anywhere(tmp_path: Path) -> None:
    """As the box would."""
    done = invoke("seed", "--check", seeded(tmp_path / "good", "frob: 1"))
    assert done.exit_code == 0
    assert "user-data:2:1: warning: frob" in done.output
    assert invoke("seed", "--check", seeded(tmp_path / "bad", "hostname: '-'")).exit_code == 3


def test_a_seed_is_laid_ready_for_the_next_boot(tmp_path: Path) -> None:
    """Only on a box, and instead of one that waits already."""
    good, seeds = seeded(tmp_path / "good", "hostname: h9"), tmp_path / "seeds"
    assert invoke("seed", good, "--seeds", seeds).exit_code == 1
    (seeds / "new").mkdir(parents=True)
    (seeds / "new/old").touch()
    assert invoke("seed", good, "--seeds", seeds).exit_code == 0
    assert sorted(path.name for path in (seeds / "new").iterdir()) == ["meta-data", "user-data"]
    assert [path.name for path in seeds.iterdir()] == ["new"]
