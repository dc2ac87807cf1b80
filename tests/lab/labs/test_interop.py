"""Every router of labs/interop/duts takes the place of the device under test, and all checks are good."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.lab.driving import ROOT, brought_up

pytestmark = [pytest.mark.kernel, pytest.mark.engine, pytest.mark.timeout(600)]

DUTS = sorted((ROOT / "labs/interop/duts").glob("*.env"))


def variables(file: Path) -> dict[str, str]:
    """Read a file as the shell of the README does."""
    lines = (shlex.split(line, comments=True) for line in file.read_text().splitlines())
    return dict(words[0].split("=", 1) for words in lines if words)


@pytest.mark.parametrize("file", DUTS, ids=lambda file: file.stem)
def test_a_router_under_test_does_what_its_neighbours_expect(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Its sessions, its prefixes, and nothing that is not its own."""
    for name, value in variables(file).items():
        monkeypatch.setenv(name, value)
    with brought_up("interop") as lab:
        assert lab.observe().green
