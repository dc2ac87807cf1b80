"""The files in an ExaBGP engine's directory: what the daemon, ExaBGP and its API process tell one another through them.

Called by the engine and by the API process. Every file appears whole or not at all and is readable by us alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from routing.bgp.codec import speaker_from_json, speaker_to_json
from routing.bgp.values import Address, Speaker


class Files:
    """One engine's directory."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read or written before it is asked for."""
        self.directory = directory
        self.socket = directory / "rib.sock"
        self.configuration = directory / "exabgp.conf"
        self._speaker = directory / "speaker.json"
        self._established = directory / "established.json"

    def speaker(self) -> Speaker:
        """Return the desired state."""
        return speaker_from_json(json.loads(self._speaker.read_text()))

    def write_speaker(self, speaker: Speaker) -> None:
        """Keep the desired state for the next process."""
        _write(self._speaker, json.dumps(speaker_to_json(speaker)))

    def write_configuration(self, text: str) -> bool:
        """Write ExaBGP's configuration; tell whether it changed."""
        return _write(self.configuration, text)

    def established(self) -> tuple[Address, ...]:
        """Return the neighbours that were up when the last process ended; none if it was stopped on purpose."""
        try:
            return tuple(ip_address(text) for text in json.loads(self._established.read_text()))
        except FileNotFoundError:
            return ()

    def write_established(self, addresses: Iterable[Address]) -> None:
        """Keep who is up for the next process."""
        _write(self._established, json.dumps([str(address) for address in addresses]))

    def forget_established(self) -> None:
        """Say that the engine was stopped on purpose: nobody waits for its return."""
        self._established.unlink(missing_ok=True)


def _write(path: Path, text: str) -> bool:
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(path.suffix + ".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 - with a mode
        file.write(text)
    new.replace(path)
    return True
