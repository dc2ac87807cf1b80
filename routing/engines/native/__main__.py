"""`python -m routing.engines.native DIRECTORY`: one speaker, all that it is told comes from the directory (design 0008)."""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from pathlib import Path

from routing.bgp.codec import speaker_from_json
from routing.engines.native.core import Core
from routing.engines.native.loop import Loop


def main() -> None:
    """Bind, give up root, serve until told to end."""
    directory = Path(sys.argv[1])
    speaker = speaker_from_json(json.loads((directory / "speaker.json").read_text()))
    core = Core(speaker, time.monotonic())
    loop = Loop(core)
    for address in speaker.listen:
        loop.listen(address, speaker.port)

    def stop(*_: object) -> None:
        loop.stopped = True

    signal.signal(signal.SIGTERM, stop)
    # Paths live long, and cycles are rare: the collector would only walk over them.
    gc.set_threshold(200_000, 50, 100)
    loop.run()


if __name__ == "__main__":
    main()
