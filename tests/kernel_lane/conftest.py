"""These tests need the image's kernel: `tests/image/test_kernel_lane.py` runs them inside a machine, nobody else does.

A file that is named on the command line runs here all the same, on whatever kernel this is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.kernel_lane.yard import Yard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.namespaces import Namespaces

collect_ignore_glob = [] if "EDGEWAY_LANE" in os.environ else ["test_*.py"]


@pytest.fixture
def yard(netns_factory: Namespaces) -> Iterator[Yard]:
    """Give a place for machines."""
    with Yard(netns_factory) as made:
        yield made
