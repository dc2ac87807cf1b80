"""Which intent runs: candidate, running, previous; kept in the store so that a restart runs what ran before.

A candidate that does not parse or verify, or that does not know this node, is never committed. Rollback makes the
previous intent the running one again. Called by `appliance.control.daemon`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from appliance.model.errors import OperatorError
from appliance.model.intent import Intent
from appliance.model.load import parse
from appliance.state.store import Store

#: One value holds both versions, so that a crash never leaves one without the other.
KEY = "intent"


@dataclass(frozen=True, slots=True)
class Version:
    """An intent as text, where it came from, and its number."""

    text: str
    file: str
    number: int


def parse_for(node: str, text: str, file: str) -> Intent:
    """Parse an intent for a node; OperatorError holds all findings, or the names of the nodes there are."""
    intent = parse(text, file)
    require_node(intent, node, file)
    return intent


def require_node(intent: Intent, node: str, file: str = "the intent") -> None:
    """Raise OperatorError when an intent has no such node."""
    if node not in intent.nodes:
        known = ", ".join(sorted(intent.nodes))
        raise OperatorError.of(f"{file} has no node {node}", f"nodes: {known}", f"nodes.{node}")


class History:
    """The running and the previous version in the store."""

    def __init__(self, store: Store) -> None:
        """Use `store` under KEY."""
        self._store = store

    def _versions(self) -> tuple[Version, ...]:
        """Return what the store has: running, previous."""
        row = self._store.get(KEY)
        return () if row is None else tuple(Version(**fields) for fields in json.loads(row[0]))

    @property
    def running(self) -> Version | None:
        """What was committed last."""
        return next(iter(self._versions()), None)

    @property
    def previous(self) -> Version | None:
        """What ran before that."""
        return next(iter(self._versions()[1:]), None)

    def version(self, text: str, file: str) -> Version:
        """Number a text: as the running version if it is the same, else as the next."""
        running = self.running
        if running is not None and running.text == text:
            return running
        return Version(text, file, running.number + 1 if running else 1)

    def before(self) -> Version:
        """Return the previous version with a new number; OperatorError if there is none."""
        previous = self.previous
        if previous is None:
            raise OperatorError.of("there is no previous intent", "rollback works after the first reload")
        return self.version(previous.text, previous.file)

    def commit(self, version: Version) -> None:
        """Make a version the running one; the one that runs now becomes the previous one."""
        running = self.running
        if version != running:
            versions = [version] + ([running] if running else [])
            self._store.put(KEY, json.dumps([asdict(each) for each in versions]))
