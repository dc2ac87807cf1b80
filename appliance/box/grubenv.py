"""GRUB's environment block: 1024 octets in which GRUB, RAUC and we keep what the next start needs (design 0009).

Written in place and never truncated, and every variable fits the first sector, so a power cut leaves the old block or the new
one. GRUB's own `grub-editenv` truncates the file first: a cut then leaves none, and GRUB does not know the good slot any more.
RAUC runs a program of that name; `main` takes its place (`grub-editenv FILE list | set NAME=VALUE... | unset NAME...`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from appliance.model.errors import InternalError, OperatorError

HEADER: Final = "# GRUB Environment Block\n"
SIZE: Final = 1024
#: What a disk writes as a whole, or not at all.
SECTOR: Final = 512


def parse(block: bytes) -> dict[str, str]:
    """Return the variables; an OperatorError if these octets are no such block."""
    if not block.startswith(HEADER.encode()):
        raise OperatorError.of("this is no environment block of GRUB", "it begins with `# GRUB Environment Block`")
    lines = block[len(HEADER) :].decode("utf-8", "replace").split("\n")
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def render(variables: Mapping[str, str]) -> bytes:
    """Return the block; InternalError if it is more than a sector, which would not be written whole."""
    text = HEADER + "".join(f"{name}={value}\n" for name, value in variables.items())
    if len(text.encode()) > SECTOR:
        raise InternalError(f"the environment block has {len(text.encode())} octets: more than a sector")
    return text.encode().ljust(SIZE, b"#")


def read(file: Path) -> dict[str, str]:
    """Return the variables of a file."""
    return parse(file.read_bytes())


def change(file: Path, variables: Mapping[str, str | None]) -> dict[str, str]:
    """Set variables, or remove those that are None; on the disk when this returns. Return what the file holds now.

    A file that is no block is made one: it holds nothing that could be lost.
    """
    try:
        old = read(file)
    except (OperatorError, FileNotFoundError):
        old = {}
    merged = {**old, **variables}
    new = {name: value for name, value in merged.items() if value is not None}
    if new != old:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, render(new), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return new


def run(words: Sequence[str]) -> str:
    """Do what grub-editenv does with these words; return what it prints."""
    match words:
        case [file, "list"]:
            return "".join(f"{name}={value}\n" for name, value in read(Path(file)).items())
        case [file, "set", *given] if given and all("=" in word for word in given):
            change(Path(file), dict(word.split("=", 1) for word in given))
        case [file, "unset", *names] if names:
            change(Path(file), dict.fromkeys(names))
        case _:
            raise OperatorError.of(
                f"not understood: {' '.join(words)}", "FILE list | set NAME=VALUE... | unset NAME..."
            )
    return ""


def main() -> int:
    """Run as a program in the place of grub-editenv."""
    try:
        sys.stdout.write(run(sys.argv[1:]))
    except (OperatorError, InternalError, OSError) as error:
        sys.stderr.write(f"grub-editenv: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
