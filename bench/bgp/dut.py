"""A route server under measurement: how it is told an exchange, started, and told anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import ClassVar

from bench.bgp.exchange import Exchange


class Lack(Enum):
    """What a server does not do, or cannot be told."""

    HIDDEN = auto()  # prefixes that one client is not sent
    SECOND = auto()  # the second-best route for who announces the best itself
    LENGTH = auto()  # a limit to the length of paths
    SILENCE = auto()  # it sends routes back to who announced them
    RELOAD = auto()  # here nobody wrote down how it is told a policy anew


@dataclass(frozen=True, slots=True)
class Command:
    """A process of the server. Helpers are not measured; `ready` is what appears when the next one may start."""

    argv: tuple[str, ...]
    measured: bool = True
    ready: Path | None = None


class Dut(ABC):
    """One of them.

    `most` is how many deliveries (prefix times receiver) one can wait for or has the memory for; `within` is how many
    seconds a phase may take.
    """

    name: ClassVar[str]
    lacks: ClassVar[frozenset[Lack]] = frozenset()
    most: ClassVar[int] = 300_000_000
    within: ClassVar[float] = 120.0

    @abstractmethod
    def available(self) -> bool:
        """Tell whether this machine has it."""

    @abstractmethod
    def commands(self, home: Path, at: Exchange) -> list[Command]:
        """Write what it is told into a directory of its own; return what is to be started, in order."""

    def amend(self, home: Path, at: Exchange) -> None:
        """Write what it is to be told while it runs."""
        raise NotImplementedError

    def reload(self, home: Path) -> tuple[str, ...]:
        """Return the command that tells it so."""
        raise NotImplementedError
