"""The one date of a build."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from images.clock import epoch


def git(tree: Path, *words: str, date: int = 0) -> None:
    """Run git there, at that time."""
    who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {"GIT_AUTHOR_DATE": f"{date} +0000", "GIT_COMMITTER_DATE": f"{date} +0000"}
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tree), **who, **when}
    subprocess.run(["git", "-C", str(tree), *words], check=True, capture_output=True, env=env)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give a repository with two commits."""
    git(tmp_path, "init", "-q")
    for name, date in (("a", 1_000_000_000), ("b", 1_000_000_100)):
        (tmp_path / name).touch()
        git(tmp_path, "add", name)
        git(tmp_path, "commit", "-q", "-m", name, date=date)
    return tmp_path


def test_it_is_that_of_the_last_commit(tree: Path) -> None:
    """Of those that touched what is built, if that is told."""
    assert epoch(root=tree, environ={}) == 1_000_000_100
    assert epoch("a", root=tree, environ={}) == 1_000_000_000


def test_who_builds_may_say_another(tree: Path) -> None:
    """As every tool of reproducible builds allows."""
    assert epoch("a", root=tree, environ={"SOURCE_DATE_EPOCH": "7"}) == 7


def test_without_either_it_is_asked_for(tmp_path: Path) -> None:
    """The time of today would make another package every day."""
    with pytest.raises(SystemExit, match="set SOURCE_DATE_EPOCH"):
        epoch(root=tmp_path, environ={})
