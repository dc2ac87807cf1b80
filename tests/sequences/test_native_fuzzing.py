"""Octets that are nearly right against our own BGP engine, for a moment; `make fuzz` takes longer, EDGEWAY_SEED begins elsewhere."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.support.fuzzing import Target
from tests.support.fuzzing_engine import TARGETS

SEED = int(os.environ.get("EDGEWAY_SEED", "1"))


@pytest.mark.parametrize("target", dict.fromkeys(TARGETS), ids=lambda target: target.__name__)
def test_what_is_nearly_right_breaks_nothing(target: Target) -> None:
    """Each target asserts what its part of the engine promises for any octets."""
    for seed in range(SEED, SEED + 150):
        try:
            target(Random(seed))
        except BaseException as error:
            error.add_note(f"EDGEWAY_SEED={seed}")
            raise
