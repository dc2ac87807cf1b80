"""Fixtures that every kind of test may ask for, and how several workers share the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from xdist.remote import Producer

from tests.support.namespaces import Namespaces, remove_leftovers, run_of_tests
from tests.support.parallel import Scheduling

# A machine that does something else is no failure.
settings.register_profile("edgeway", deadline=None)
settings.load_profile("edgeway")

# Under nohup a hangup is ignored, and what a test starts inherits that; a handler it does not inherit.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Decide who runs what when there are several workers."""
    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured, `record_property("measured", line)`: a worker has no terminal of its own."""
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, line in report.user_properties:
            if name == "measured" and report.when == "call":
                terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def namespace_token() -> Iterator[str]:
    """Give this run its token, after removing what earlier runs left behind when they crashed."""
    with run_of_tests() as token:
        remove_leftovers()
        yield token


@pytest.fixture
def netns_factory(namespace_token: str) -> Iterator[Namespaces]:
    """Make namespaces by name; they and the processes in them are gone after the test, whatever happens."""
    namespaces = Namespaces(namespace_token)
    try:
        yield namespaces
    finally:
        namespaces.close()
