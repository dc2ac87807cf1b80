"""The files in the directory of an engine of our own RIB: what the daemon and the process tell one another through them.

Called by both. Every file appears whole or not at all and is readable by its owner alone, and by the group to which its
directory is open. The daemon writes the desired state; the process writes who is up, for the next process. One that gives
up root keeps the directory of that file open, for the way to it is closed to other users::

    DIRECTORY/  speaker.json  NAME.pid  NAME.log        root's
    DIRECTORY/state/  rib.sock  established.json        the user's that the process becomes, or is
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from routing.bgp.values import Address, Speaker
from routing.engines.speaker_text import Draft, lines

_ESTABLISHED: Final = "established.json"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Files:
    """One engine's directory; `state` is that of what the process writes, if it is another one."""

    def __init__(self, directory: Path, state: Path | None = None) -> None:
        """Nothing is read or written before it is asked for."""
        self.directory = directory
        self._speaker = directory / "speaker.json"
        self._state = state or directory
        self.socket = self._state / "rib.sock"
        self._held: int | None = None

    @classmethod
    def apart(cls, directory: Path) -> Self:
        """Return the files of a process that gives up root, or never has it."""
        return cls(directory, directory / "state")

    def speaker(self, draft: Draft | None = None) -> Speaker:
        """Return the desired state; `draft` then knows its lines."""
        with self._speaker.open("rb") as file:
            return (draft or Draft()).read(file)

    def write_speaker(self, speaker: Speaker) -> None:
        """Keep the desired state for the next process."""
        write(self._speaker, b"\n".join(lines(speaker)) + b"\n")

    def hold(self, owner: tuple[int, int] | None) -> None:
        """Keep the directory of what the process writes open, and give it to the user and group it is about to become."""
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held = os.open(self._state, _DIRECTORY | os.O_NOFOLLOW)
        if owner is not None:
            os.fchown(self._held, *owner)

    def established(self) -> tuple[Address, ...]:
        """Return the neighbours that were up when the last process ended; none if it was stopped on purpose."""
        try:
            with self._opened() as directory:
                found = json.loads(_read(directory, _ESTABLISHED))
            return tuple(ip_address(text) for text in found)
        except (FileNotFoundError, PermissionError, ValueError, TypeError):
            # Written by a process of less rights, perhaps of another user: it is no reason not to start.
            return ()

    def write_established(self, addresses: Iterable[Address]) -> None:
        """Keep who is up for the next process."""
        if self._held is None:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._opened() as directory:
            _write(directory, _ESTABLISHED, json.dumps([str(address) for address in addresses]).encode())

    def forget_established(self) -> None:
        """Say that the engine was stopped on purpose: nobody waits for its return."""
        with suppress(FileNotFoundError), self._opened() as directory:
            os.unlink(_ESTABLISHED, dir_fd=directory)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        if self._held is not None:
            yield self._held
            return
        with _directory(self._state) as directory:
            yield directory


def write(path: Path, data: bytes) -> bool:
    """Let a file hold `data`; tell whether it did not."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _directory(path.parent) as directory:
        return _write(directory, path.name, data)


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    opened = os.open(path, _DIRECTORY)
    try:
        yield opened
    finally:
        os.close(opened)


def _read(directory: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory), "rb") as file:  # noqa: PTH123 - in a directory
        return file.read()


def _write(directory: int, name: str, data: bytes) -> bool:
    with suppress(FileNotFoundError, PermissionError):
        if _read(directory, name) == data:
            return False
    new = f"{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=directory)
    with open(os.open(new, _NEW, 0o600, dir_fd=directory), "wb") as file:  # noqa: PTH123 - with a mode
        place = os.fstat(directory)
        if place.st_uid == os.geteuid() and place.st_gid != os.getegid():
            os.fchown(file.fileno(), -1, place.st_gid)
            os.fchmod(file.fileno(), 0o640)
        file.write(data)
    os.replace(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    return True
