"""What `edgeway ready` says and how it ends, for every state a node can be in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from appliance.panel.cli import app
from appliance.panel.ready_cli import missing, until, until_ready
from tests.support.fake_daemon import daemon, ready
from tests.support.fake_node import quiet_vpc
from tests.support.intents import to_yaml

WELL: dict[str, Any] = {
    "node": "h1",
    "intent": {"file": "intent.yaml", "number": 2},
    "revision": 4,
    "converged": True,
    "sessions": {"established": 2, "configured": 2},
    "synced": {"zone": True},
    "pending": [],
    "engines": {},
}
PENDING = {"object": "link tun0", "error": "no such device", "retry": True}
DOWN = {"sessions": {"established": 1, "configured": 2}, "converged": False}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"intent": None}, ["no intent runs yet"]),
        ({"revision": 0}, ["no intent runs yet"]),
        ({"pending": [PENDING], "converged": False}, ["kernel: link tun0: no such device"]),
        ({"engines": {"zone": "it left no log"}, "synced": {"zone": False}}, ["engine zone: it left no log"]),
        ({"synced": {"zone": False}}, ["engine zone: has not told all it knows yet"]),
        ({"converged": False}, ["the daemon is still at work"]),
        (DOWN, []),
    ],
)
def test_what_is_missing_is_said(change: dict[str, Any], said: list[str]) -> None:
    """One line for each thing; neighbours that are down are not ours."""
    assert missing(WELL | change, sessions=False) == said


def test_sessions_count_for_who_asks_for_them() -> None:
    """A test that waits for routes does."""
    assert missing(WELL | DOWN, sessions=True) == ["sessions: 1 of 2 are established (`edgeway show neighbors`)"]
    assert missing(WELL, sessions=True) == []


def test_it_looks_until_the_time_is_up_and_not_longer() -> None:
    """Once in any case; a node that becomes ready ends the wait."""
    looks = iter([{"ready": False}, {"ready": False}, {"ready": True, "third": True}])
    slept: list[float] = []
    assert until(lambda: next(looks), 60, slept.append) == {"ready": True, "third": True}
    assert len(slept) == 2
    assert until(lambda: {"ready": False}, 0, slept.append) == {"ready": False}
    assert len(slept) == 2


def run(place: Path, *words: str) -> tuple[int, str]:
    """Return exit code and output of the command, for a node whose files are in `place`."""
    where = ("--socket", str(place / "api.sock"), "--intent", str(place / "intent.yaml"))
    done = CliRunner().invoke(app, ["ready", *where, *words])
    return done.exit_code, done.output


def test_a_box_without_an_intent_can_be_configured(tmp_path: Path) -> None:
    """That is what it is ready for; no daemon runs in it."""
    assert run(tmp_path) == (0, "ready, without an intent: it can be configured\n")
    code, said = run(tmp_path, "--json")
    assert (code, json.loads(said)) == (0, {"ready": True, "node": None, "intent": None, "missing": []})
    assert until_ready(0, tmp_path / "intent.yaml", tmp_path / "api.sock") == ""


def test_an_intent_without_a_daemon_is_not_ready(tmp_path: Path) -> None:
    """It is about to start, or it failed."""
    (tmp_path / "intent.yaml").touch()
    code, said = run(tmp_path, "--wait", "0.01")
    assert code == 1
    assert said.startswith("not ready:\n  error: no daemon answers at ")
    code, said = run(tmp_path, "--json")
    assert (code, json.loads(said)["ready"]) == (1, False)
    assert until_ready(0.01, tmp_path / "intent.yaml", tmp_path / "api.sock").startswith("error: no daemon answers at ")


def test_a_node_that_was_led_to_its_intent_is_ready(tmp_path: Path) -> None:
    """The daemon is asked."""
    (tmp_path / "intent.yaml").write_text(to_yaml(quiet_vpc()))
    with daemon(tmp_path / "intent.yaml", "h1", tmp_path) as (process, client):
        ready(process, client)
        assert run(tmp_path, "--wait", "30") == (0, "h1 is ready: intent 1 runs\n")
        code, said = run(tmp_path, "--json", "--sessions")
    assert (code, json.loads(said)) == (0, {"ready": True, "node": "h1", "intent": 1, "missing": []})
