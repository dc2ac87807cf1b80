"""`python -m bench.bgp.teller HOME`: what Edgeway's daemon does to its engine, and nothing else of the daemon.

Started by `bench.bgp.native.Told` in the server's namespace. It makes the engine `first.json`, reads `next.json` as soon
as that is there (the daemon has its intent in memory), and when somebody writes into the pipe `go`, makes it that.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib import import_module
from pathlib import Path

from routing.bgp.codec import speaker_from_json
from routing.bgp.values import Speaker
from routing.engines.engine import Engine

_LOOK = 0.05


def _read(path: Path) -> Speaker:
    while not path.exists():
        time.sleep(_LOOK)
    return speaker_from_json(json.loads(path.read_text()))


async def _tell(home: Path) -> None:
    engine: Engine = import_module("routing.engines.native.engine").NativeEngine(home / "engine")
    await engine.apply(_read(home / "first.json"))
    then = _read(home / "next.json")
    with (home / "go").open() as go:
        go.readline()
    await engine.apply(then)
    (home / "done").write_text("done\n")
    # The engine would live on without us; whoever measures ends both.
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_tell(Path(sys.argv[1])))
