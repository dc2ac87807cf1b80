"""Which tests stay together when several workers share them, and which go first: called by `tests/conftest.py`.

Most tests wait for daemons and not for the processor, so there are more workers than cores. A worker takes units: a file,
or in a file of scenarios one engine's part of it, because the daemons of a unit are started once; or all files that need
the same thing of which the machine has only one.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

#: What needs a thing of which the machine has one: how the path begins, and the name of the thing. The first counts.
#: (By path: the mark `xdist_group` does not reach the scheduler from this pytest.)
ONLY_ONE = {"tests/lab/test_runner.py": "", "tests/lab/labs/": "", "tests/lab/": "zone", "tests/image/": "image"}
#: Where a unit is that takes long, the longest first: a long unit that begins last would be waited for.
LANES = ("image", "zone", "tests/engines/", "tests/lab/", "tests/packet/", "tests/")
_ENGINE = re.compile(r"\b(gobgp|exabgp|native|bird)\b")


def unit(nodeid: str) -> str:
    """Return the unit of a test: what one worker does alone, in order."""
    if thing := next((thing for start, thing in ONLY_ONE.items() if nodeid.startswith(start)), ""):
        return thing
    path, _, name = nodeid.partition("::")
    _, _, parameters = name.partition("[")
    engine = _ENGINE.search(parameters) if path.startswith("tests/engines/scenarios/") else None
    return f"{path} {engine[1]}" if engine else path


def lane(unit: str) -> int:
    """Return how early a unit goes: 0 is first."""
    return next((number for number, start in enumerate(LANES) if unit.startswith(start)), len(LANES))


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # without types it may be anything
    """Hands out units by lane; within a lane those with the most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=lane), last=False)
        super()._assign_work_unit(node)
