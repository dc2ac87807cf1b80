"""The corrections to ExaBGP that need no session; those that do are in tests/engines/test_exabgp.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from routing.engines import exabgp_wrapper
from routing.engines.exabgp_wrapper import Queue


def test_the_wrapped_program_is_exabgp() -> None:
    """All corrections fit the installed release; the program runs and says its version."""
    argv = [sys.executable, "-m", "routing.engines.exabgp_wrapper", "version"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert exabgp_wrapper.RELEASE in done.stdout


def test_another_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads which one is needed."""
    monkeypatch.setattr(exabgp_wrapper, "version", "5.1.0")
    with pytest.raises(SystemExit, match=r"5\.1\.0 is installed, 5\.0\.15 is needed"):
        exabgp_wrapper.check()


def test_a_queue_gives_what_came_in_once_and_in_order() -> None:
    """And forgets it at the end and at the beginning of a session, but not when the configuration is read."""
    queue = Queue(False, [])
    one, two = object(), object()
    queue.add(one)  # type: ignore[arg-type] # anything can be queued
    queue.add(two)  # type: ignore[arg-type] # anything can be queued
    queue.clear()
    assert queue.pending()
    assert queue.updates(True) == [one, two]
    assert not queue.pending()
    for forget in (queue.reset, lambda: queue.replace_restart([], [])):
        queue.add(one)  # type: ignore[arg-type] # anything can be queued
        forget()
        assert not queue.pending()
