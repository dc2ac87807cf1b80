"""The engine that runs ExaBGP: sessions and messages are ExaBGP's, tables and policies are ours, in its API process.

Called by the control layer through the port `Engine`. Three processes: the daemon (here), ExaBGP (started by
`exabgp_wrapper`), and ExaBGP's API process (`exabgp_child`). The latter two serve on when the daemon dies and are adopted
by the next one; if one of them dies, the other ends or starts it again, and a watcher is told `Lost` until all is known.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from routing.bgp.codec import speaker_to_json
from routing.bgp.values import Speaker
from routing.engines.exabgp_config import configuration, environment
from routing.engines.exabgp_files import Files
from routing.engines.process import Process
from routing.engines.ribengine import RibEngine

#: Where `routing` is imported from, installed or not.
PACKAGES = Path(__file__).parents[2]


class ExaBgpEngine(RibEngine):
    """One speaker run by ExaBGP; everything about it is in `directory`."""

    _files: Files

    def __init__(self, directory: Path) -> None:
        """Nothing starts before `apply`."""
        super().__init__("exabgp", Files(directory))

    def _process_for(self, speaker: Speaker) -> Process:
        directory = self._files.directory
        argv = (sys.executable, "-P", "-m", "routing.engines.exabgp_wrapper", "server", str(self._files.configuration))
        return Process("exabgp", argv, environment(speaker, str(directory), str(PACKAGES)), directory)

    def _request(self, speaker: Speaker) -> Iterator[bytes]:
        yield json.dumps({"id": 1, "method": "apply", "speaker": speaker_to_json(speaker)}).encode() + b"\n"

    def _write(self, speaker: Speaker) -> None:
        super()._write(speaker)
        self._files.write_configuration(configuration(speaker, sys.executable))
