"""`edgeway drain` over a daemon's socket, and when it stops looking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from appliance.panel import cli, drain_cli
from appliance.panel.client import Client
from tests.support.fake_daemon import daemon, ready
from tests.support.fake_node import quiet_vpc
from tests.support.intents import to_yaml


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the socket of a daemon of host h1 that has converged."""
    monkeypatch.setattr(drain_cli, "PAUSE", 0.01)
    file = tmp_path / "intent.yaml"
    file.write_text(to_yaml(quiet_vpc()))
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        yield tmp_path / "api.sock"


def said(socket: Path, *words: str) -> str:
    """Run the command; return what it prints."""
    done = CliRunner().invoke(cli.app, ["drain", *words, "--socket", str(socket)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_order_is_given_and_taken_back(served: Path) -> None:
    """In words, and as JSON."""
    assert "h1 is drained" in said(served)
    assert Client(served).show("drain")["drained"]
    assert said(served, "--undo") == "h1 announces everything again\n"
    assert json.loads(said(served, "--undo", "--json"))["drained"] is False


def test_another_order_is_refused(served: Path) -> None:
    """By name."""
    with pytest.raises(Exception, match="no order 'stop'"):
        Client(served).post("drain", {"order": "stop"})


class Counter(Client):
    """A daemon that has forwarded so many packets at each look."""

    def __init__(self, *looks: int) -> None:
        """The last counts on."""
        super().__init__(Path("/nowhere"))
        self.looks = list(looks)

    def show(self, name: str, **options: str) -> Any:
        """Return the next look."""
        return {"forwarded": self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]}


@pytest.mark.parametrize(("looks", "left"), [((5, 5, 5), 1), ((1, 5, 5, 6, 6, 6), 1), ((5, 5, 5, 8, 9), 2)])
def test_it_is_quiet_when_nothing_was_forwarded_for_two_looks(
    monkeypatch: pytest.MonkeyPatch, looks: tuple[int, ...], left: int
) -> None:
    """And looks no longer than that."""
    monkeypatch.setattr(drain_cli, "PAUSE", 0)
    counter = Counter(*looks)
    assert drain_cli.settled(counter, 30)["quiet"]
    assert len(counter.looks) == left


def test_when_time_is_up_it_says_that_packets_still_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host forwards for its own guests as long as they talk."""
    monkeypatch.setattr(drain_cli, "PAUSE", 0)
    assert drain_cli.settled(Counter(1, 2, 3, 4), 0)["quiet"] is False
