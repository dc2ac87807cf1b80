"""`python -m routing.engines.native DIRECTORY`: one speaker; all that it is told comes from the directory (design 0008)."""

from __future__ import annotations

import resource
import signal
import sys
import time
from pathlib import Path

from routing.engines.files import Files
from routing.engines.native.connection import listen
from routing.engines.native.control import Control
from routing.engines.native.core import Core
from routing.engines.native.loop import Loop
from routing.engines.native.privileges import account, give_up
from routing.engines.native.service import Service
from routing.engines.native.tidying import Tidying
from routing.engines.speaker_text import Draft


def main() -> None:
    """Bind, give up root, serve until told to end."""
    # A descriptor for each neighbour: what is given by default is enough for a thousand.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files, draft = Files.apart(Path(sys.argv[1])), Draft()
    speaker = files.speaker(draft)
    core = Core(speaker, time.monotonic(), files.established())
    loop = Loop(core, quiet=Tidying(time.monotonic).quiet)
    for address in speaker.listen:
        loop.listen(address, speaker.port)
    who = account()
    files.hold(None if who is None else (who.uid, who.gid))
    control = Control(core, listen(files.socket), draft)
    give_up(who)
    loop.serve(Service(core, control, files))

    signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    loop.run()


if __name__ == "__main__":
    main()
