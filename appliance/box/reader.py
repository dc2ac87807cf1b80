"""Values of a parsed document, judged one by one; used by the readers of a seed.

What is wrong becomes an error, what nobody here knows becomes a warning: both with the place in the file. A reader never
raises, so that one look finds everything.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.model.errors import Finding
from appliance.model.text import Document, Path

#: Truth as seeds write it: many were written for YAML 1.1.
_FLAGS: Final = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
LINE: Final = re.compile(r"[^\x00-\x1f\x7f\x85\u2028\u2029]+")


@dataclass(slots=True)
class Reader:
    """One document and what was found in it and beside it."""

    document: Document
    findings: list[Finding]

    def wrong(self, path: Path, message: str, hint: str = "") -> None:
        """Note an error: the seed changes nothing."""
        self.findings.append(self.document.finding(path, message, hint))

    def doubt(self, path: Path, message: str, hint: str = "") -> None:
        """Note a warning: the seed is taken without this."""
        self.findings.append(self.document.finding(path, message, hint, warning=True))

    def table(
        self, value: Any, path: Path, known: Container[str], without_effect: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the known keys of a mapping that have a value; every other key is told by name."""
        if not isinstance(value, dict):
            if value is not None:
                self.wrong(path, "must be a mapping of keys and values")
            return {}
        reasons = without_effect or {}
        for key in value:
            if key in reasons:
                self.doubt((*path, key), f"has no effect: {reasons[key]}")
            elif key not in known:
                self.doubt((*path, key), "is not known and has no effect", "design/reference-seed.md lists every key")
        return {key: given for key, given in value.items() if key in known and given is not None}

    def items(self, value: Any, path: Path) -> list[tuple[Path, Any]]:
        """Return the items of a list with their paths."""
        if isinstance(value, list):
            return [((*path, index), item) for index, item in enumerate(value)]
        if value is not None:
            self.wrong(path, "must be a list")
        return []

    def text(self, value: Any, path: Path, pattern: re.Pattern[str] = LINE, what: str = "one line of text") -> str:
        """Return a text that the pattern covers wholly, or nothing."""
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if isinstance(text, str) and pattern.fullmatch(text):
            return text
        self.wrong(path, f"must be {what}")
        return ""

    def texts(
        self, value: Any, path: Path, pattern: re.Pattern[str] = LINE, what: str = "one line of text"
    ) -> tuple[str, ...]:
        """Return the texts of a list; one text alone is a list of one."""
        if not isinstance(value, list):
            return tuple(filter(None, [self.text(value, path, pattern, what)]))
        return tuple(filter(None, (self.text(item, at, pattern, what) for at, item in self.items(value, path))))

    def flag(self, value: Any, path: Path) -> bool:
        """Return a truth value."""
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _FLAGS:
            return _FLAGS[value.lower()]
        self.wrong(path, "must be true or false")
        return False

    def number(self, value: Any, path: Path, low: int, high: int) -> int:
        """Return a whole number within bounds, or the lower one."""
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.wrong(path, f"must be a whole number from {low} to {high}")
        return low
