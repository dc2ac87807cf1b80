"""Edgeway's own engine, told by its file as its daemon tells it (design 0008); or by its daemon's own class.

`Native` is the process alone. `Told` has a process beside it that does what the daemon does: it starts the engine
through the port and applies what it is told while everything runs (`bench.bgp.teller`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

from bench.bgp.dut import Command, Dut
from bench.bgp.exchange import Exchange, speaker
from routing.bgp.codec import speaker_to_json

_MODULE = "routing.engines.native"
#: Tell whoever reads one pipe to go on, and wait until another pipe says that it is done.
_TELL = 'echo go >"$0/go" && read -r word <"$0/done" && test "$word" = done'


class Native(Dut):
    """The engine's process."""

    name = "Edgeway"

    def available(self) -> bool:
        """Tell whether this tree has it."""
        return importlib.util.find_spec(f"{_MODULE}.__main__") is not None

    def commands(self, home: Path, at: Exchange) -> list[Command]:
        """Write what it is to be."""
        _write(home / "speaker.json", at)
        return [Command((sys.executable, "-m", _MODULE, str(home)))]


class Told(Native):
    """The engine's process, and one that tells it."""

    def commands(self, home: Path, at: Exchange) -> list[Command]:
        """Write what it is to be first."""
        _write(home / "first.json", at)
        for name in ("go", "done"):
            os.mkfifo(home / name)
        return [Command((sys.executable, "-m", "bench.bgp.teller", str(home)))]

    def amend(self, home: Path, at: Exchange) -> None:
        """Write what it is to be then."""
        _write(home / "next.new", at)
        (home / "next.new").replace(home / "next.json")

    def reload(self, home: Path) -> tuple[str, ...]:
        """Return the command that has it told."""
        return ("sh", "-c", _TELL, str(home))


def _write(path: Path, at: Exchange) -> None:
    path.write_text(json.dumps(speaker_to_json(speaker(at))))
