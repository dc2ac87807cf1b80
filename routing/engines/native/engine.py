"""The engine that is all ours, as the daemon has it: one process that holds sessions and tables (design 0008).

Called by the control layer through the port `Engine`. The process serves on when the daemon dies and is adopted by the next
one. It starts as root, binds, and becomes an unprivileged user, so what it cannot change while it runs is part of its
environment: another environment means another process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from routing.bgp.values import Speaker
from routing.engines.files import Files
from routing.engines.process import Process
from routing.engines.ribengine import RibEngine
from routing.engines.speaker_text import lines

#: Where `routing` is imported from, installed or not.
PACKAGES = Path(__file__).parents[3]
#: Of the daemon's environment, what the process is to have as well.
_PASSED = ("EDGEWAY_PURE",)


class NativeEngine(RibEngine):
    """One speaker; everything about it is in `directory`."""

    def __init__(self, directory: Path) -> None:
        """Nothing starts before `apply`."""
        super().__init__("native", Files.apart(directory))

    def _process_for(self, speaker: Speaker) -> Process:
        directory = self._files.directory
        argv = (sys.executable, "-P", "-m", "routing.engines.native", str(directory))
        return Process("native", argv, environment(speaker, str(PACKAGES)), directory)

    def _request(self, speaker: Speaker) -> Iterator[bytes]:
        yield b'{"id": 1, "method": "apply"}\n'
        for line in lines(speaker):
            yield line + b"\n"


def environment(speaker: Speaker, packages: str) -> dict[str, str]:
    """Return the environment of the process, which finds us in `packages`; a change of it needs a new process."""
    return {
        "PYTHONPATH": packages,
        # Not read by anybody: what a running process cannot change makes another environment, so another process.
        "EDGEWAY_SPEAKER": f"{speaker.name} {speaker.mode.value} {speaker.asn} {speaker.router_id}",
        "EDGEWAY_LISTEN": " ".join((*map(str, speaker.listen), str(speaker.port))),
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
    }
