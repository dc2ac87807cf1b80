"""The engines of this machine: a directory for each kind and speaker, so that one of an earlier daemon is found again.

::

    /run/edgeway/KIND/SPEAKER/     pid file, socket and log of one engine

Engines are imported when they are made: a node runs one kind, and each brings a library of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from appliance.model.intent import EngineName
from routing.engines.engine import Engine

log = structlog.get_logger()


def _gobgp(directory: Path) -> Engine:
    from routing.engines.gobgp import GoBgpEngine  # noqa: PLC0415 - loads grpc

    return GoBgpEngine(directory)


def _exabgp(directory: Path) -> Engine:
    from routing.engines.exabgp import ExaBgpEngine  # noqa: PLC0415 - loads our RIB

    return ExaBgpEngine(directory)


def _native(directory: Path) -> Engine:
    from routing.engines.native.engine import NativeEngine  # noqa: PLC0415 - loads our RIB

    return NativeEngine(directory)


MAKERS: dict[EngineName, Callable[[Path], Engine]] = {"gobgp": _gobgp, "exabgp": _exabgp, "native": _native}


class RealEngines:
    """Makes engines under one directory."""

    def __init__(self, directory: Path) -> None:
        """Nothing is made yet."""
        self._directory = directory

    def make(self, kind: EngineName, name: str) -> Engine:
        """Return the engine of a speaker."""
        return MAKERS[kind](self._directory / kind / name)

    async def end_others(self, kind: EngineName, names: Collection[str]) -> None:
        """End what an earlier daemon left of other kinds, or under other names, and remove its directory."""
        for other, maker in MAKERS.items():
            for directory in sorted((self._directory / other).glob("*/")):
                if other == kind and directory.name in names:
                    continue
                log.info("engine-left-over", kind=other, speaker=directory.name)
                await maker(directory).close(stop=True)
                shutil.rmtree(directory, ignore_errors=True)
