"""The log of the engine's process: one line for each thing that happened, on stderr, which is the engine's log file.

Called by the parts of the process that do I/O. Events have names and values, as in the daemon's log, which structlog writes:
that would bring an event loop and more memory than a small table.
"""

from __future__ import annotations

import sys
import time


def log(event: str, **values: object) -> None:
    """Write one line."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = "".join(f" {name}={value!r}" for name, value in values.items())
    sys.stderr.write(f"{now} {event}{said}\n")
    sys.stderr.flush()
