"""A containerlab topology file -> Topology, or every finding at once, with line and column. Pure.

Called by the lab runner. What the file says means here what it means to containerlab
(https://containerlab.dev/manual/topo-def-file/), so that the same file runs in both; `appliance.panel.lab.schema` lists
what is honoured, what makes no difference and what is refused.

A node inherits: defaults, then its kind's section, then its group's, then its own. Single values are replaced, tables
are merged, lists are joined without repetitions, binds are replaced by target.
"""

from __future__ import annotations

import re
import shlex
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from appliance.model.errors import OperatorError
from appliance.model.text import parse_yaml
from appliance.panel.lab import schema
from appliance.panel.lab.levels import Level, Levels
from appliance.panel.lab.links import read_links
from appliance.panel.lab.reader import Placed, Reader
from appliance.panel.lab.values import Bind, EnvFile, Kind, Node, Topology
from appliance.panel.lab.variables import expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.model.text import Path

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-._]*")
_NET_SYSCTL = re.compile(r"net(?:[./][\w-]+)+")
LONGEST_HOSTNAME, LONGEST_INTERFACE = 63, 15
NOTHING: Mapping[str, str] = MappingProxyType({})
SECTIONS: tuple[Literal["kinds", "groups"], ...] = ("kinds", "groups")


def parse(text: str, file: str = "", environment: Mapping[str, str] = NOTHING) -> Topology:
    """Parse and check a topology file; OperatorError holds all that is wrong with it."""
    document = parse_yaml(expand(text, environment), file)
    reader = Reader(document)
    top = reader.mapping((), document.data)
    _check_keys(reader, (), top, schema.TOP_KEYS, schema.WARNED_TOP_KEYS)
    name = _lab_name(reader, top.get("name"))
    body = reader.mapping(("topology",), top.get("topology"))
    _check_keys(reader, ("topology",), body, schema.TOPOLOGY_KEYS, {})
    reader.check_variables((), document.data)
    nodes = _nodes(reader, body)
    links = read_links(reader, body.get("links"), nodes)
    errors = tuple(finding for finding in reader.findings if finding.severity == "error")
    if errors:
        raise OperatorError(errors)
    return Topology(name, tuple(node for node in nodes.values() if node), links, reader.findings, file)


def lab_name(text: str, file: str = "", environment: Mapping[str, str] = NOTHING) -> str:
    """Return only the lab's name, also of a file that has other faults: a lab can be taken down by its file."""
    document = parse_yaml(expand(text, environment), file)
    reader = Reader(document)
    name = _lab_name(reader, reader.mapping((), document.data).get("name"))
    if reader.findings:
        raise OperatorError(reader.findings)
    return name


def _lab_name(reader: Reader, value: Any) -> str:
    name = reader.text(("name",), value)
    if name and NAME.fullmatch(name.text):
        return name.text
    reader.error(
        ("name",), "the lab needs a name", "letters, digits, '-', '.' and '_', beginning with a letter or digit"
    )
    return ""


def _check_keys(
    reader: Reader, path: Path, found: dict[str, Any], known: frozenset[str], warned: dict[str, str]
) -> None:
    for key in found:
        if key in warned:
            reader.warn((*path, key), f"`{key}` makes no difference", warned[key])
        elif key not in known:
            reader.error((*path, key), f"`{key}` is not supported here", f"supported: {', '.join(sorted(known))}")


def _nodes(reader: Reader, body: dict[str, Any]) -> dict[str, Node | None]:
    """Read all nodes; one that is unusable is None, so that links to it are not findings as well."""
    path: Path = ("topology",)
    sections = {
        section: {
            name: _level(reader, (*path, section, name), value)
            for name, value in reader.mapping((*path, section), body.get(section)).items()
        }
        for section in SECTIONS
    }
    levels = Levels(_level(reader, (*path, "defaults"), body.get("defaults")), sections["kinds"], sections["groups"])
    nodes = reader.mapping((*path, "nodes"), body.get("nodes"))
    if not nodes:
        reader.error((*path, "nodes"), "a lab needs nodes")
    return {name: _node(reader, (*path, "nodes", name), name, value, levels) for name, value in nodes.items()}


def _level(reader: Reader, path: Path, value: Any) -> Level:
    """Read the node keys that stand in one place."""
    level = Level({}, {}, {})
    found = reader.mapping(path, value)
    for key, item in found.items():
        place = (*path, key)
        shape = schema.NODE_KEYS.get(key)
        if shape == "text" and (text := reader.text(place, item)):
            level.texts[key] = text
        elif shape == "texts":
            level.lists[key] = reader.texts(place, item)
        elif shape == "table":
            level.tables[key] = reader.table(place, item)
    others = {key: item for key, item in found.items() if key not in schema.NODE_KEYS}
    for key in [key for key in others if key in schema.REFUSED_NODE_KEYS]:
        reader.error((*path, key), f"`{key}` is not supported here", "take it out, or use containerlab")
        del others[key]
    _check_keys(reader, path, others, frozenset(schema.NODE_KEYS), schema.WARNED_NODE_KEYS)
    return level


def _node(reader: Reader, path: Path, name: str, value: Any, levels: Levels) -> Node | None:
    own = _level(reader, path, value)
    kind, above = levels.above(own)
    if not NAME.fullmatch(name) or len(name) > LONGEST_HOSTNAME:
        reader.error(path, f"{name!r} cannot name a node here", "letters, digits, '-', '.' and '_', at most 63")
        return None
    for level in above:
        if level.one("group") and level.one("group") not in levels.groups:
            reader.error(level.texts["group"].path, f"no group {level.one('group')!r} in topology.groups")
    if kind == "linux":
        return _linux(reader, path, name, above)
    if kind == "bridge":
        return _bridge(reader, path, name, own)
    where = own.texts["kind"].path if "kind" in own.texts else path
    message = f"kind {kind!r} is not supported here" if kind else "the node has no kind"
    reader.error(where, message, f"supported: {', '.join(schema.KINDS)}")
    return None


def _bridge(reader: Reader, path: Path, name: str, own: Level) -> Node | None:
    """Read a bridge: nothing runs in it, and its name becomes that of a device."""
    for key in {**own.texts, **own.lists, **own.tables}:
        if key not in {"kind", "group", "labels"}:
            reader.error((*path, key), f"`{key}` has no meaning for a bridge")
    if len(name) > LONGEST_INTERFACE:
        reader.error(path, f"{name!r} is too long for a bridge", "at most 15 characters: it names a device")
        return None
    kind: Kind = "bridge"
    return Node(name, kind, reader.place(path))


def _linux(reader: Reader, path: Path, name: str, above: list[Level]) -> Node:
    """Read a node that runs something."""
    texts = {key: text for level in above for key, text in level.texts.items() if text.text}
    tables: dict[str, dict[str, Placed]] = {"env": {}, "sysctls": {}, "labels": {}}
    for level in above:
        for key, table in level.tables.items():
            tables[key] |= table
    lists = {
        key: [text for level in above for text in level.lists.get(key, [])] for key in ("binds", "exec", "env-files")
    }
    _check_node(reader, texts, tables["sysctls"])
    for text in (*lists["exec"], *(texts[key] for key in ("cmd", "entrypoint") if key in texts)):
        _check_words(reader, text)
    binds = {bind.target: bind for text in lists["binds"] if (bind := _bind(reader, text))}

    def one(key: str) -> str:
        return texts[key].text if key in texts else ""

    def pairs(key: str) -> tuple[tuple[str, str], ...]:
        return tuple((key, value.text) for key, value in tables[key].items())

    return Node(
        name,
        "linux",
        reader.place(path),
        image=one("image"),
        entrypoint=one("entrypoint"),
        cmd=one("cmd"),
        hostname=one("hostname") or name,
        binds=tuple(binds.values()),
        exec=tuple(dict.fromkeys(text.text for text in lists["exec"])),
        env=pairs("env"),
        env_files=tuple(EnvFile(text.text, reader.place(text.path)) for text in lists["env-files"]),
        sysctls=pairs("sysctls"),
        labels=pairs("labels"),
        management=one("network-mode") != "none",
    )


def _check_node(reader: Reader, texts: dict[str, Placed], sysctls: dict[str, Placed]) -> None:
    """Check the values that have rules of their own."""
    mode = texts.get("network-mode")
    if mode and mode.text != "none":
        reader.error(mode.path, f"network-mode {mode.text!r} is not supported here", "only `none`")
    for name, text in sysctls.items():
        if not _NET_SYSCTL.fullmatch(name) and name not in schema.IPC_SYSCTLS:
            reader.error(text.path, f"{name} belongs to the machine, not to a node", "set it on the machine yourself")


def _check_words(reader: Reader, text: Placed) -> None:
    """Check that a command line can be split into words; no shell is between."""
    try:
        words = shlex.split(text.text)
    except ValueError as error:
        reader.error(text.path, f"{text.text!r}: {error}")
        return
    if not words:
        reader.error(text.path, "the command is empty")


def _bind(reader: Reader, text: Placed) -> Bind | None:
    source, _, rest = text.text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target.startswith("/") or "/../" in f"{target}/" or target.strip("/") == "":
        reader.error(text.path, f"{text.text!r} is no bind", "write SOURCE:/TARGET or SOURCE:/TARGET:ro")
        return None
    modes = set(filter(None, mode.split(",")))
    if modes - {"ro", "rw", "z", "Z"}:
        reader.error(text.path, f"bind mode {mode!r} is not supported here", "ro or rw")
    return Bind(source, target, "ro" in modes, reader.place(text.path))
