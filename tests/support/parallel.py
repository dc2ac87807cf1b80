"""Which tests stay together when several workers share them, and which go first: called by `tests/conftest.py`.

Most tests wait for daemons and not for the processor, so there are more workers than cores. A worker takes units: a file,
or in a file of scenarios one engine's part of it, because the daemons of a unit are started once; or all tests that bear
the same mark `xdist_group("name")`, because they need something that the machine has only once.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

#: Where a unit is that takes long, the longest first: a long unit that begins last would be waited for.
LANES = ("@", "tests/engines/scenarios/", "tests/lab/", "tests/engines/", "tests/packet/", "tests/")
_ENGINE = re.compile(r"\b(gobgp|exabgp|native|bird)\b")


def unit(nodeid: str) -> str:
    """Return the unit of a test: what one worker does alone, in order. A group comes as `nodeid@group`."""
    _, at, group = nodeid.rpartition("@")
    if at and "]" not in group:
        return f"@{group}"
    path, _, name = nodeid.partition("::")
    _, _, parameters = name.partition("[")
    engine = _ENGINE.search(parameters) if path.startswith("tests/engines/scenarios/") else None
    return f"{path} {engine[1]}" if engine else path


def lane(unit: str) -> int:
    """Return how early a unit goes: 0 is first."""
    return next((number for number, start in enumerate(LANES) if unit.startswith(start)), len(LANES))


class Scheduling(LoadGroupScheduling):  # type: ignore[misc] # without types it may be anything
    """Hands out units by lane; within a lane those with the most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=lane), last=False)
        super()._assign_work_unit(node)
