"""Engines of this machine are found again by their directory, and ended when they are left over."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from appliance.control import engine_room
from appliance.control.engine_room import MAKERS, RealEngines
from appliance.model.intent import EngineName
from routing.engines.engine import Engine


class Ended:
    """An engine that only writes down that it was ended."""

    def __init__(self, directory: Path, ended: list[Path]) -> None:
        self.directory, self.ended = directory, ended

    async def close(self, *, stop: bool) -> None:
        """End."""
        assert stop
        self.ended.append(self.directory)


def test_every_kind_of_the_intent_can_be_made(tmp_path: Path) -> None:
    """A name in the model without an engine would fail on the node."""
    assert set(MAKERS) == set(get_args(EngineName))
    for kind in MAKERS:
        engine = RealEngines(tmp_path).make(kind, "router")
        assert all(hasattr(engine, name) for name in ("apply", "sessions", "routes", "watch", "close"))
    assert list(tmp_path.iterdir()) == []


async def test_what_is_left_over_is_ended_and_its_directory_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other speakers of the same kind, and the same speaker of another kind: both hold the port."""
    ended: list[Path] = []

    def maker(directory: Path) -> Engine:
        return Ended(directory, ended)  # type: ignore[return-value] # only `close` is called

    monkeypatch.setattr(engine_room, "MAKERS", {"gobgp": maker, "exabgp": maker})
    for name in ("gobgp/router", "gobgp/zone", "exabgp/router"):
        (tmp_path / name).mkdir(parents=True)
    await RealEngines(tmp_path).end_others("gobgp", {"router"})
    assert ended == [tmp_path / "gobgp/zone", tmp_path / "exabgp/router"]
    assert (tmp_path / "gobgp/router").exists()
    assert not (tmp_path / "gobgp/zone").exists()
    assert not (tmp_path / "exabgp/router").exists()


async def test_on_a_new_machine_there_is_nothing_to_end(tmp_path: Path) -> None:
    """The directory may not even exist."""
    await RealEngines(tmp_path / "edgeway").end_others("exabgp", {"router"})
    assert not (tmp_path / "edgeway").exists()
