"""YAML text -> plain values with the place of every key and item; used by `appliance.model.intent`.

Line and column count from 1. YAML errors (also duplicate keys) become findings like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from appliance.model.errors import Finding, OperatorError

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Document:
    """A parsed document: `data` is made of dict, list and scalars; `places` maps paths to (line, column)."""

    file: str
    data: Any = None
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def finding(self, path: Path, message: str, hint: str = "", *, warning: bool = False) -> Finding:
        """Make a finding at `path`, or at the nearest parent that stands in the file."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                line, column = self.places[path[:length]]
                break
        else:
            line, column = 1, 1
        dotted = ".".join(str(part) for part in path) or "the document"
        return Finding(line, column, dotted, message, hint, "warning" if warning else "error", self.file)


def parse_yaml(text: str, file: str = "") -> Document:
    """Parse one YAML document; raise OperatorError with the place of the first YAML error."""
    document = Document(file)
    try:
        raw = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise OperatorError((Finding(line, column, "the document", message, "mend the YAML", file=file),)) from error
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError, KeyError, IndexError) as error:
        # ruamel lets plain Python errors out for some odd scalars (timestamps, numbers, merge keys).
        message = f"this is not YAML that can be read: {str(error).splitlines()[0] if str(error) else error!r}"
        raise OperatorError((Finding(1, 1, "the document", message, "mend the YAML", file=file),)) from error
    try:
        document.data = _plain(raw, (), document.places)
    except RecursionError as error:
        message = "the document holds itself through an alias"
        raise OperatorError((Finding(1, 1, "the document", message, "remove the alias", file=file),)) from error
    return document


def _plain(node: Any, path: Path, places: dict[Path, tuple[int, int]]) -> Any:
    if isinstance(node, CommentedMap):
        places.setdefault(path, (node.lc.line + 1, node.lc.col + 1))
        for key in node:
            if key in (node.lc.data or {}):
                line, column = node.lc.key(key)
                places[*path, str(key)] = (line + 1, column + 1)
        return {str(key): _plain(value, (*path, str(key)), places) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        places.setdefault(path, (node.lc.line + 1, node.lc.col + 1))
        for index in range(len(node)):
            line, column = node.lc.item(index)
            places[*path, index] = (line + 1, column + 1)
        return [_plain(value, (*path, index), places) for index, value in enumerate(node)]
    return node if node is None or isinstance(node, bool | int | float) else str(node)
