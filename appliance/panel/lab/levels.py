"""Where the keys of a node may stand, and which of these places a node is made of. Pure.

Called by `appliance.panel.lab.topology`. The order is containerlab's: defaults, kind, group, node.
"""

from __future__ import annotations

from typing import NamedTuple

from appliance.panel.lab.reader import Placed


class Level(NamedTuple):
    """One place where node keys may stand: the defaults, a kind, a group or a node."""

    texts: dict[str, Placed]
    lists: dict[str, list[Placed]]
    tables: dict[str, dict[str, Placed]]

    def one(self, key: str) -> str:
        """Return a single text, or nothing."""
        return self.texts[key].text if key in self.texts else ""


EMPTY = Level({}, {}, {})


class Levels(NamedTuple):
    """All of them."""

    defaults: Level
    kinds: dict[str, Level]
    groups: dict[str, Level]

    def above(self, node: Level) -> tuple[str, list[Level]]:
        """Return a node's kind, and the levels it is made of, the weakest first."""
        inherited = (self.groups.get(group, EMPTY).one("kind") for group in (node.one("group"), self.default_group))
        kind = node.one("kind") or next(filter(None, inherited), "") or self.defaults.one("kind")
        of_kind = self.kinds.get(kind, EMPTY)
        group = node.one("group") or of_kind.one("group") or self.default_group
        return kind, [self.defaults, of_kind, self.groups.get(group, EMPTY), node]

    @property
    def default_group(self) -> str:
        """Return the group of a node that names none."""
        return self.defaults.one("group")
