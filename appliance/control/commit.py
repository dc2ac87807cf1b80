"""Which intent runs: candidate, running, previous; kept in the store so that a restart runs what ran before.

A candidate that does not parse or verify changes nothing. Rollback makes the previous intent the running one again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from appliance.model.errors import OperatorError
from appliance.model.intent import Intent
from appliance.model.load import parse
from appliance.state.store import Store

RUNNING, PREVIOUS = "intent/running", "intent/previous"


@dataclass(frozen=True, slots=True)
class Version:
    """An intent as text, where it came from, and its number."""

    text: str
    file: str
    number: int

    def parse(self) -> Intent:
        """Parse; raises OperatorError with all findings."""
        return parse(self.text, self.file)


class History:
    """The running and the previous version in the store."""

    def __init__(self, store: Store) -> None:
        """Use `store` under the keys `intent/...`."""
        self._store = store

    def _load(self, key: str) -> Version | None:
        row = self._store.get(key)
        return None if row is None else Version(**json.loads(row[0]))

    def _save(self, key: str, version: Version) -> None:
        fields = {"text": version.text, "file": version.file, "number": version.number}
        self._store.put(key, json.dumps(fields))

    @property
    def running(self) -> Version | None:
        """What was committed last."""
        return self._load(RUNNING)

    @property
    def previous(self) -> Version | None:
        """What ran before that."""
        return self._load(PREVIOUS)

    def commit(self, text: str, file: str, node: str) -> Intent:
        """Make a text the running intent, or raise OperatorError and change nothing."""
        running = self.running
        candidate = Version(text, file, (running.number if running else 0) + 1)
        intent = candidate.parse()
        if node not in intent.nodes:
            known = ", ".join(sorted(intent.nodes))
            raise OperatorError.of(f"{file} has no node {node}", f"nodes: {known}", f"nodes.{node}")
        if running is None or running.text != text:
            if running is not None:
                self._save(PREVIOUS, running)
            self._save(RUNNING, candidate)
        return intent

    def rollback(self, node: str) -> Intent:
        """Make the previous version the running one."""
        previous = self.previous
        if previous is None:
            raise OperatorError.of("there is no previous intent", "rollback works after the first reload")
        return self.commit(previous.text, previous.file, node)
