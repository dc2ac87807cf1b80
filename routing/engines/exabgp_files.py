"""The files in an ExaBGP engine's directory: those of every engine of our own RIB, and ExaBGP's configuration.

Called by the engine and by the API process.
"""

from __future__ import annotations

from pathlib import Path

from routing.engines import files


class Files(files.Files):
    """One engine's directory."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read or written before it is asked for."""
        super().__init__(directory, directory / "state")
        self.configuration = directory / "exabgp.conf"

    def write_configuration(self, text: str) -> bool:
        """Write ExaBGP's configuration; tell whether it changed."""
        return files.write(self.configuration, text.encode())
