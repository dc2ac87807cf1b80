"""Namespaces that belong to one test run and never outlive it.

A run takes a random token and holds a lock on a file of that name for as long as it lives; the kernel lets go of the lock
when the run dies, however it dies. So a later run can tell the leftovers of a crash from the namespaces of a run that goes
on beside it. `tests/conftest.py` makes fixtures of this.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import eventually

PREFIX = "ewt-"
LOCKS = Path("/run/edgeway-tests")
NAMED = Path("/run/netns")


def require_root() -> None:
    """Say what to do instead of failing later with a permission error of the kernel."""
    if os.geteuid() != 0:
        message = "this test makes network namespaces: run the tests as root"
        raise AssertionError(message)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def exists(name: str) -> bool:
    """Tell whether a namespace of this name is there."""
    return (NAMED / name).exists()


def remove(name: str) -> None:
    """Kill what runs in the namespace, then delete it; nothing to do when it is gone."""

    def killed() -> bool:
        pids = [int(pid) for pid in _ip("netns", "pids", name).split()]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    if exists(name):
        with suppress(subprocess.CalledProcessError):  # the name of a half-made namespace: it holds no process
            eventually(killed, what=f"the processes in {name} end")
        _ip("netns", "delete", name)


@contextmanager
def _held(token: str) -> Iterator[None]:
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    path = LOCKS / token
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _alive(token: str) -> bool:
    """Tell whether the run that took this token still holds it; forget the token when it does not."""
    path = LOCKS / token
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def sweeping() -> Iterator[None]:
    """Be the only one who removes leftovers: workers of one run, and runs that start together, would do it at once."""
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    here = os.open(LOCKS, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(here, fcntl.LOCK_EX)
        yield
    finally:
        os.close(here)


def remove_leftovers() -> list[str]:
    """Remove the namespaces of runs that are dead; return their names."""
    with sweeping():
        return sweep()


def sweep() -> list[str]:
    """Do it, `sweeping`."""
    of_token: dict[str, list[str]] = {}
    for path in sorted(NAMED.glob(f"{PREFIX}*")):
        of_token.setdefault(path.name.removeprefix(PREFIX).partition("-")[0], []).append(path.name)
    dead = [name for token, names in of_token.items() if not _alive(token) for name in names]
    for name in dead:
        remove(name)
    return dead


class Namespaces:
    """Makes namespaces named ewt-TOKEN-NAME for one run; call it with a name, get the full name."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.made: list[str] = []

    def __call__(self, name: str) -> str:
        """Make a namespace with its loopback up; the same name twice is an error of the test."""
        full = f"{PREFIX}{self.token}-{name}"
        if exists(full):
            message = f"there is a namespace {full} already"
            raise AssertionError(message)
        self.made.append(full)  # before it is made: an interruption in between leaves nothing
        _ip("netns", "add", full)
        _ip("-n", full, "link", "set", "lo", "up")
        return full

    def close(self) -> None:
        """Remove all of them, the newest first; one that resists does not save the others."""
        failures = []
        while self.made:
            try:
                remove(self.made.pop())
            except (AssertionError, subprocess.CalledProcessError) as error:
                failures.append(error)
        if failures:
            message = "some namespaces could not be removed"
            raise ExceptionGroup(message, failures)


@contextmanager
def run_of_tests() -> Iterator[str]:
    """Take a token for one run."""
    require_root()
    token = secrets.token_hex(3)
    with _held(token):
        yield token
