"""What a check of the intent says: used by `appliance.model.verify` and its parts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from appliance.model.text import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit, at a path of the document."""

    path: Path
    message: str
    hint: str = ""


def unique(items: Iterable[tuple[Path, Hashable]], what: str) -> Iterator[Problem]:
    """Yield a problem for each value that an earlier path has."""
    seen: dict[Hashable, Path] = {}
    for path, value in items:
        if value in seen:
            other = ".".join(str(part) for part in seen[value])
            yield Problem(path, f"{what} {value} is taken by {other}", "give each its own")
        else:
            seen[value] = path
