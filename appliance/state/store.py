"""The store: runtime facts that are no intent (port blocks taken, intents that ran), kept over restarts.

A small port (get, put, compare-and-swap) with an embedded SQLite implementation. Values are JSON text.
Called by `appliance.control`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """Keys to values with revisions; a revision of 0 means absent."""

    def get(self, key: str) -> tuple[str, int] | None:
        """Return value and revision, or None."""
        ...

    def put(self, key: str, value: str) -> int:
        """Write whatever stood there; return the new revision."""
        ...

    def swap(self, key: str, value: str, revision: int) -> bool:
        """Write if the revision is still the one given (0: absent); tell whether it was."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with a prefix, sorted."""
        ...


class MemoryStore:
    """The fake: a dict."""

    def __init__(self) -> None:
        """Start empty."""
        self._rows: dict[str, tuple[str, int]] = {}

    def get(self, key: str) -> tuple[str, int] | None:
        """Return value and revision, or None."""
        return self._rows.get(key)

    def put(self, key: str, value: str) -> int:
        """Write whatever stood there; return the new revision."""
        revision = self._rows.get(key, ("", 0))[1] + 1
        self._rows[key] = (value, revision)
        return revision

    def swap(self, key: str, value: str, revision: int) -> bool:
        """Write if the revision is still the one given (0: absent); tell whether it was."""
        if self._rows.get(key, ("", 0))[1] != revision:
            return False
        self._rows[key] = (value, revision + 1)
        return True

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with a prefix, sorted."""
        return sorted(key for key in self._rows if key.startswith(prefix))


class SqliteStore:
    """One file, write-ahead log: a killed daemon or a cut power loses nothing that was written."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, readable by us alone."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, value TEXT, revision INTEGER)")

    def get(self, key: str) -> tuple[str, int] | None:
        """Return value and revision, or None."""
        row = self._db.execute("SELECT value, revision FROM rows WHERE key = ?", (key,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]))

    def put(self, key: str, value: str) -> int:
        """Write whatever stood there; return the new revision."""
        statement = (
            "INSERT INTO rows VALUES (?, ?, 1) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = revision + 1 RETURNING revision"
        )
        return int(self._db.execute(statement, (key, value)).fetchone()[0])

    def swap(self, key: str, value: str, revision: int) -> bool:
        """Write if the revision is still the one given (0: absent); tell whether it was."""
        if revision == 0:
            done = self._db.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, 1)", (key, value))
        else:
            statement = "UPDATE rows SET value = ?, revision = revision + 1 WHERE key = ? AND revision = ?"
            done = self._db.execute(statement, (value, key, revision))
        return done.rowcount == 1

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with a prefix, sorted."""
        rows = self._db.execute("SELECT key FROM rows WHERE substr(key, 1, ?) = ? ORDER BY key", (len(prefix), prefix))
        return [str(row[0]) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
