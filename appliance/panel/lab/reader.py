"""Read shapes out of a YAML document, keeping the path of every value and collecting findings instead of raising.

Called by `appliance.panel.lab.topology`. containerlab reads every scalar as the text that stands in the file; YAML
libraries read numbers. Where the two would differ (0644, 1.10) the operator is asked for quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance.panel.lab.values import Place

if TYPE_CHECKING:
    from appliance.model.errors import Finding
    from appliance.model.text import Document, Path

_VARIABLE = re.compile(r"\$(?:\{(\w+)([^}]*)\}|([A-Za-z_]\w*))")


class Placed(NamedTuple):
    """A text and where it stands."""

    path: Path
    text: str


class Reader:
    """The document, and what was found so far."""

    def __init__(self, document: Document) -> None:
        """Start with no findings."""
        self._document = document
        self._findings: dict[Finding, None] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return everything found, each once."""
        return tuple(sorted(self._findings))

    def error(self, path: Path, message: str, hint: str = "") -> None:
        """Note something that must be changed."""
        self._findings[self._document.finding(path, message, hint)] = None

    def warn(self, path: Path, message: str, hint: str = "") -> None:
        """Note something that makes less difference than the operator may expect."""
        self._findings[self._document.finding(path, message, hint, warning=True)] = None

    def place(self, path: Path) -> Place:
        """Return where a path stands."""
        finding = self._document.finding(path, "")
        return Place(finding.path, finding.line, finding.column)

    def mapping(self, path: Path, value: Any) -> dict[str, Any]:
        """Read a mapping; nothing at all is an empty one."""
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return dict(value)
        self.error(path, "must be a mapping")
        return {}

    def sequence(self, path: Path, value: Any) -> list[tuple[Path, Any]]:
        """Read a list; nothing at all is an empty one."""
        if value is None:
            return []
        if isinstance(value, list):
            return [((*path, index), item) for index, item in enumerate(value)]
        self.error(path, "must be a list")
        return []

    def text(self, path: Path, value: Any) -> Placed | None:
        """Read a scalar as the text it is."""
        if isinstance(value, bool):
            return Placed(path, str(value).lower())
        if value is None:
            return Placed(path, "")
        if isinstance(value, str) or type(value) is int:
            return Placed(path, str(value))
        if isinstance(value, int | float):
            self.error(path, "a number that programs read differently", "put it in quotes")
        else:
            self.error(path, "must be a text")
        return None

    def texts(self, path: Path, value: Any) -> list[Placed]:
        """Read a list of texts."""
        found = (self.text(place, item) for place, item in self.sequence(path, value))
        return [text for text in found if text]

    def table(self, path: Path, value: Any) -> dict[str, Placed]:
        """Read a mapping of texts."""
        found = {key: self.text((*path, key), item) for key, item in self.mapping(path, value).items()}
        return {key: text for key, text in found.items() if text}

    def check_variables(self, path: Path, value: Any) -> None:
        """Find what is left of variables: those without a value, and what containerlab would not understand either."""
        for place, text in _strings(path, value):
            for name, rest, bare in _VARIABLE.findall(text):
                if rest:
                    self.error(place, f"${{{name}{rest}}} is not expanded here", "write the value")
                else:
                    self.warn(place, f"${name or bare} stays as it is: the environment does not have it")


def _strings(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    """Walk over every text."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings((*path, key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings((*path, index), item)
    elif isinstance(value, str):
        yield path, value


def check_keys(
    reader: Reader, path: Path, found: dict[str, Any], known: frozenset[str], warned: dict[str, str]
) -> None:
    """Find the keys of a mapping that make no difference, and those that are not known."""
    for key in found:
        if key in warned:
            reader.warn((*path, key), f"`{key}` makes no difference", warned[key])
        elif key not in known:
            reader.error((*path, key), f"`{key}` is not supported here", f"supported: {', '.join(sorted(known))}")
