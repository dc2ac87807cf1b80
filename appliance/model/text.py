"""YAML text -> plain values with the place of every key and item; used by `appliance.model.intent`.

Line and column count from 1. YAML errors and duplicate keys become findings like any other. Values are made here from
the composed nodes and not by the library's constructor: an address that looks like a date or a number in base 60 stays
the text it is, and what an alias or a merge key brings keeps the place where it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner, ScannerError

from appliance.model.errors import Finding, OperatorError

Path = tuple[str | int, ...]

_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset(
    _TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
)
_NO_TEXT: Final = re.compile(r"[\x00\ud800-\udfff]")
#: Values an octet of text may become through aliases, so that a few lines of them cannot fill the memory.
EXPANSION: Final = 10
#: Brackets in brackets; an intent has about eight levels.
DEPTH: Final = 32
#: No number of an intent is longer; Python would take long over the longest.
_DIGITS: Final = 40


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
    """Parse one YAML document; raise OperatorError with the place of every error that YAML lets us see at once."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _Scanner
    yaml.composer.warn_double_anchors = False  # YAML 1.2 7.1: an alias means the latest one
    try:
        root = yaml.compose(text)
    except RecursionError as error:
        raise _unreadable(file, (1, 1), "the document is nested too deeply") from error
    except ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise _unreadable(file, place, f"character #x{ord(text[error.position]):04x} is not allowed") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise _unreadable(file, place, message or "this is not YAML") from error
    except (YAMLError, ValueError, AttributeError, TypeError, LookupError) as error:
        # The library lets plain Python errors out for some odd directives and escapes.
        raise _unreadable(file, (1, 1), f"this is not YAML that can be read: {error!r}") from error
    return _Builder(Document(file), EXPANSION * (len(text) + 100)).build(root)


def _unreadable(file: str, place: tuple[int, int], message: str) -> OperatorError:
    return OperatorError((Finding(*place, "the document", message, "mend the YAML", file=file),))


class _Scanner(Scanner):
    """Refuses deep nesting where it stands: the library's cost grows with its square, up to the recursion limit."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:  # noqa: N803 - the library's name
        if len(self.flow_context) >= DEPTH:
            raise ScannerError(problem="nested too deeply", problem_mark=self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


@dataclass(slots=True)
class _Builder:
    """Makes plain values from nodes; `budget` bounds what aliases expand to, `open` finds those that hold themselves."""

    document: Document
    budget: int
    findings: list[Finding] = field(default_factory=list)
    open: set[int] = field(default_factory=set)

    def build(self, root: Node | None) -> Document:
        """Return the document, or raise what was found."""
        if root is not None:
            self.document.places[()] = _place(root)
            self.document.data = self._value(root, ())
        if self.findings:
            raise OperatorError(tuple(dict.fromkeys(self.findings)))
        return self.document

    def _refuse(self, node: Node, path: Path, message: str, hint: str = "mend the YAML") -> None:
        dotted = ".".join(str(part) for part in path) or "the document"
        self.findings.append(Finding(*_place(node), dotted, message, hint, file=self.document.file))

    def _value(self, node: Node, path: Path) -> Any:
        self.budget -= 1
        if self.budget < 0:
            self._refuse(node, (), "aliases make the document too large", "write less with aliases")
            raise OperatorError(tuple(dict.fromkeys(self.findings)))
        if node.tag not in _TAGS:
            self._refuse(node, path, f"the tag {node.tag} means nothing here", "remove the tag")
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self.open:
            self._refuse(node, path, "holds itself through an alias", "remove the alias")
            return None
        self.open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, MappingNode) else self._sequence(node.value, path)
        self.open.discard(id(node))
        return value

    def _sequence(self, nodes: list[Node], path: Path) -> list[Any]:
        items = []
        for index, item in enumerate(nodes):
            self.document.places[*path, index] = _place(item)
            items.append(self._value(item, (*path, index)))
        return items

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, (word, value) in self._entries(node, path).items():
            self.document.places[*path, key] = _place(word)
            made[key] = self._value(value, (*path, key))
        return made

    def _entries(self, node: MappingNode, path: Path) -> dict[str, tuple[Node, Node]]:
        """Return keys with key node and value node; a key of the mapping itself wins over a merged one."""
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for word, value in node.value:
            if word.tag == _TAG + "merge":
                for source in self._sources(value, path):
                    merged = {**self._entries(source, path), **merged}
            elif not isinstance(word, ScalarNode) or word.tag not in _TAGS:
                self._refuse(word, path, "a key is a plain word")
            elif word.value in own:
                self._refuse(word, (*path, word.value), "the key stands twice", "remove one")
            elif self._is_text(word, path):
                own[word.value] = (word, value)
        return {**own, **{key: entry for key, entry in merged.items() if key not in own}}

    def _sources(self, value: Node, path: Path) -> Iterator[MappingNode]:
        """Yield the mappings that a merge key names, each only while it does not merge itself."""
        for source in value.value if isinstance(value, SequenceNode) else [value]:
            self.budget -= 1 + len(source.value)
            if not isinstance(source, MappingNode):
                self._refuse(source, path, "a merge key takes a mapping or a list of mappings")
            elif id(source) in self.open or self.budget < 0:
                self._refuse(source, path, "merges itself, or too much", "remove the merge key")
            else:
                self.open.add(id(source))
                yield source
                self.open.discard(id(source))

    def _is_text(self, node: ScalarNode, path: Path) -> bool:
        if _NO_TEXT.search(node.value):
            self._refuse(node, path, "holds a character that is no text")
            return False
        return True

    def _scalar(self, node: ScalarNode, path: Path) -> str | int | float | None:
        if not self._is_text(node, path):
            return None
        return _scalar(str(node.tag).removeprefix(_TAG), str(node.value))


def _scalar(kind: str, text: str) -> str | int | float | None:
    """Read a scalar as YAML 1.2 does; what is none of its kind stays text, and the type check says so where it stands."""
    match kind:
        case "null" if text.lower() in ("", "~", "null"):
            return None
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int" | "float" if len(text) <= _DIGITS:
            return _number(kind, text)
    return text


def _place(node: Node) -> tuple[int, int]:
    return (node.start_mark.line + 1, node.start_mark.column + 1)


def _number(kind: str, text: str) -> str | int | float:
    plain = text.replace("_", "").lower()
    with suppress(ValueError):
        if kind == "float":
            return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
        sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain.removeprefix("+"))
        return sign * int(digits, {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10))
    return text
