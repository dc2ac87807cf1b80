"""Fixtures of packet tests: namespaces as contract tests have them, and the loaded program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.kernel.compose import OBJECT, PROGRAM
from appliance.kernel.libbpf import Program
from tests.contract.conftest import world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.packet.composing import Composer

__all__ = ["world"]


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    """Give the program, loaded and attached to nothing."""
    from tests.packet.composing import Composer  # noqa: PLC0415 - scapy, of which most tests here have no need

    with Program.load(OBJECT, PROGRAM) as program:
        yield Composer(program)
