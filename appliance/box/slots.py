"""The two slots of a box: what is in them, which one runs, which one starts next (design 0009). Pure.

From three texts: GRUB's variables, RAUC's status file, the kernel's command line. `images/grub/grub.cfg` is the other reader
of the variables: ORDER, A_OK, A_TRY have RAUC's meaning, PROVEN is the slot that was healthy last. Called by
`appliance.box.update` and `edgeway box slots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from typing import Final, Literal

Letter = Literal["a", "b"]
LETTERS: Final[tuple[Letter, Letter]] = ("a", "b")
#: Starts in a row that a slot is given before the other one is tried: proven or not.
TRIES: Final = {True: 3, False: 1}
#: RAUC's names of the root slots, in its status file.
_SECTIONS: Final = {"a": "slot.rootfs.0", "b": "slot.rootfs.1"}


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot. `version` is of the bundle that was written, empty if none was; `tries` are starts since it was good."""

    letter: Letter
    running: bool
    next: bool
    proven: bool
    good: bool
    tries: int
    version: str
    written: str


def running_slot(command_line: str) -> Letter | None:
    """Return the slot that runs, None if the box was not started from one."""
    words = dict(word.split("=", 1) for word in command_line.split() if "=" in word)
    return next((letter for letter in LETTERS if words.get("edgeway.slot") == letter), None)


def slots(variables: Mapping[str, str], status: str, command_line: str) -> tuple[Slot, ...]:
    """Return both slots."""
    known = ConfigParser(interpolation=None)
    known.read_string(status)
    running, coming = running_slot(command_line), next_slot(variables)
    return tuple(_slot(letter, variables, known, running, coming) for letter in LETTERS)


def _slot(
    letter: Letter, variables: Mapping[str, str], known: ConfigParser, running: Letter | None, coming: Letter | None
) -> Slot:
    upper, section = letter.upper(), _SECTIONS[letter]
    return Slot(
        letter,
        letter == running,
        letter == coming,
        variables.get("PROVEN") == upper,
        variables.get(f"{upper}_OK") == "1",
        _number(variables.get(f"{upper}_TRY", "")),
        known.get(section, "bundle.version", fallback=""),
        known.get(section, "installed.timestamp", fallback=""),
    )


def next_slot(variables: Mapping[str, str]) -> Letter | None:
    """Return the slot that GRUB starts next, None if every try is used up and they are counted anew."""
    for letter in variables.get("ORDER", "").lower().split():
        upper = letter.upper()
        tries, proven = _number(variables.get(f"{upper}_TRY", "")), variables.get("PROVEN") == upper
        if letter in LETTERS and variables.get(f"{upper}_OK") == "1" and tries < TRIES[proven]:
            return letter
    return None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def proof(letter: Letter) -> dict[str, str]:
    """Return the variables that say that a slot is good and proven."""
    return {f"{letter.upper()}_OK": "1", f"{letter.upper()}_TRY": "0", "PROVEN": letter.upper()}
