"""Fixtures that every kind of test may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.namespaces import Namespaces, remove_leftovers, run_of_tests

# A machine that does something else is no failure.
settings.register_profile("edgeway", deadline=None)
settings.load_profile("edgeway")


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
