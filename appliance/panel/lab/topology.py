"""A containerlab topology file -> Topology, or every finding at once, with line and column. Pure.

Called by the lab runner. What the file says means here what it means to containerlab
(https://containerlab.dev/manual/topo-def-file/), so that the same file runs in both; `appliance.panel.lab.schema` lists
what is honoured, what makes no difference and what is refused.

A node inherits: defaults, then its kind's section, then its group's, then its own. Single values are replaced, tables
are merged, lists are joined without repetitions, binds are replaced by target.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from appliance.model.errors import OperatorError
from appliance.model.text import parse_yaml
from appliance.panel.lab import schema
from appliance.panel.lab.levels import Levels
from appliance.panel.lab.links import read_links
from appliance.panel.lab.nodes import NAME, read_level, read_node
from appliance.panel.lab.reader import Reader, check_keys
from appliance.panel.lab.values import Node, Topology
from appliance.panel.lab.variables import expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.model.text import Path

NOTHING: Mapping[str, str] = MappingProxyType({})
SECTIONS: tuple[Literal["kinds", "groups"], ...] = ("kinds", "groups")


def parse(text: str, file: str = "", environment: Mapping[str, str] = NOTHING) -> Topology:
    """Parse and check a topology file; OperatorError holds all that is wrong with it."""
    document = parse_yaml(expand(text, environment), file)
    reader = Reader(document)
    top = reader.mapping((), document.data)
    check_keys(reader, (), top, schema.TOP_KEYS, schema.WARNED_TOP_KEYS)
    name = _lab_name(reader, top.get("name"))
    body = reader.mapping(("topology",), top.get("topology"))
    check_keys(reader, ("topology",), body, schema.TOPOLOGY_KEYS, {})
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


def _nodes(reader: Reader, body: dict[str, Any]) -> dict[str, Node | None]:
    """Read all nodes; one that is unusable is None, so that links to it are not findings as well."""
    path: Path = ("topology",)
    sections = {
        section: {
            name: read_level(reader, (*path, section, name), value)
            for name, value in reader.mapping((*path, section), body.get(section)).items()
        }
        for section in SECTIONS
    }
    levels = Levels(
        read_level(reader, (*path, "defaults"), body.get("defaults")), sections["kinds"], sections["groups"]
    )
    nodes = reader.mapping((*path, "nodes"), body.get("nodes"))
    if not nodes:
        reader.error((*path, "nodes"), "a lab needs nodes")
    return {name: read_node(reader, (*path, "nodes", name), name, value, levels) for name, value in nodes.items()}
