"""What a dialect is: the world in the words of one kind of router, as files, and how such a router is started.

Called by `dialects`. Pure: nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from routing.interop.world import Knob, World


@dataclass(frozen=True, slots=True)
class Written:
    """Files by name; `config` is the one that the command names."""

    files: Mapping[str, str]
    config: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A kind of router. `command` has the placeholders of `fill`; `user` owns the directory, if not root.

    `write` is given the directory that the router will find as {run}. `directories` must be there before it starts.
    """

    name: str
    write: Callable[[World, str], Written]
    knobs: frozenset[Knob] = frozenset()
    command: str = ""
    user: str = ""
    directories: tuple[str, ...] = ()


def fill(command: str, *, config: str, run: str, python: str = "") -> str:
    """Put {config}, {run} and {python} into a command; every other brace is the command's own."""
    return command.replace("{config}", config).replace("{run}", run).replace("{python}", python)


def lines(*parts: str) -> str:
    """Join lines to a file."""
    return "\n".join([*parts, ""])
