"""Namespaces of tests go away with the test, and those of crashed runs with the next run."""

from __future__ import annotations

import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import namespaces
from tests.support.namespaces import Namespaces, exists, remove_leftovers, run_of_tests, sweep, sweeping
from tests.support.waiting import eventually

CRASHING_RUN = """
import os, signal
from tests.support.namespaces import Namespaces, run_of_tests
with run_of_tests() as token:
    print(Namespaces(token)("lost"), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_namespace_is_named_after_the_run_and_has_its_loopback_up(netns_factory: Namespaces) -> None:
    """The prefix is what the clean-up looks for."""
    name = netns_factory("a")
    assert name == f"ewt-{netns_factory.token}-a"
    seen = subprocess.run(["ip", "-n", name, "-o", "link", "show", "lo"], check=True, capture_output=True, text=True)
    assert ",UP" in seen.stdout


def test_closing_removes_the_namespace_and_kills_what_runs_in_it(netns_factory: Namespaces) -> None:
    """A forgotten daemon would keep the namespace alive without a name."""
    name = netns_factory("busy")
    with subprocess.Popen(["ip", "netns", "exec", name, "sleep", "300"]) as process:
        inside = ["ip", "netns", "pids", name]
        eventually(lambda: subprocess.check_output(inside), what="the process is inside")
        netns_factory.close()
        assert process.wait(timeout=30) == -9
    assert not exists(name)


def test_the_same_name_twice_is_refused(netns_factory: Namespaces) -> None:
    """Two halves of a test must not share a namespace by accident."""
    netns_factory("a")
    with pytest.raises(AssertionError, match="already"):
        netns_factory("a")


def test_what_a_crashed_run_left_is_removed_and_a_living_run_is_spared(netns_factory: Namespaces) -> None:
    """The lock of the dead run is free, ours and that of a neighbour is not."""
    ours = netns_factory("ours")
    with run_of_tests() as neighbour_token, sweeping():  # nobody else finds first what is lost here
        crashed = subprocess.run(
            [sys.executable, "-c", CRASHING_RUN],
            cwd=Path(namespaces.__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        lost = crashed.stdout.strip()
        assert crashed.returncode == -9
        assert exists(lost)
        neighbour = Namespaces(neighbour_token)
        theirs = neighbour("theirs")
        try:
            assert lost in sweep()
            assert not exists(lost)
            assert not (namespaces.LOCKS / lost.split("-")[1]).exists()
            assert exists(ours)
            assert exists(theirs)
        finally:
            neighbour.close()


def test_two_who_clean_up_at_once_do_it_one_after_the_other() -> None:
    """The second would find that what it removes is gone already."""
    with ThreadPoolExecutor(1) as pool:
        with sweeping():
            second = pool.submit(remove_leftovers)
            with pytest.raises(TimeoutError):
                second.result(timeout=0.1)
        assert isinstance(second.result(timeout=30), list)


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipping would look like success."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(AssertionError, match="as root"), run_of_tests():
        pass


def test_removing_an_absent_namespace_is_nothing() -> None:
    """Cleaning up twice happens."""
    name = f"ewt-{secrets.token_hex(3)}-never"
    namespaces.remove(name)
    assert not exists(name)
