"""The links of a topology file -> Link values, and those -> the `ip` commands that make them. Pure.

A veth pair is made in one step in the two namespaces it belongs to, so nothing of it is ever seen on the machine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from appliance.panel.lab import schema
from appliance.panel.lab.reader import check_keys
from appliance.panel.lab.values import DEFAULT_MTU, Endpoint, Link, Node, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.model.text import Path
    from appliance.panel.lab.reader import Reader

SMALLEST_MTU, GREATEST_MTU = 68, 65535
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")
_ENDS = 2
TYPES = (*schema.PAIR_TYPES, schema.DUMMY_TYPE)
LONGEST_FAR = 11


def read_links(reader: Reader, value: Any, nodes: Mapping[str, Node | None]) -> tuple[Link, ...]:
    """Read topology.links."""
    path: Path = ("topology", "links")
    links = [_link(reader, place, item, nodes) for place, item in reader.sequence(path, value)]
    _check_unique(reader, links, nodes)
    return tuple(link for _, link in filter(None, links))


def _link(reader: Reader, path: Path, value: Any, nodes: Mapping[str, Node | None]) -> tuple[Path, Link] | None:
    found = reader.mapping(path, value)
    kind = found.get("type", "veth")
    if kind == schema.DUMMY_TYPE:
        return _dummy(reader, path, found, nodes)
    if kind not in schema.PAIR_TYPES:
        hint = "nothing is connected to the machine" if kind in schema.OUTWARD_TYPES else f"one of {', '.join(TYPES)}"
        reader.error((*path, "type"), f"link type {kind!r} is not supported here", hint)
        return None
    check_keys(reader, path, found, schema.LINK_KEYS, schema.WARNED_LINK_KEYS)
    places = reader.sequence((*path, "endpoints"), found.get("endpoints"))
    if len(places) != _ENDS:
        reader.error((*path, "endpoints"), "a link has two endpoints")
        return None
    ends = [_endpoint(reader, place, item, nodes, brief="type" not in found) for place, item in places]
    mtu = _mtu(reader, (*path, "mtu"), found.get("mtu", DEFAULT_MTU))
    if not ends[0] or not ends[1]:
        return None
    return path, Link(ends[0], ends[1], reader.place(path), mtu)


def _dummy(
    reader: Reader, path: Path, found: dict[str, Any], nodes: Mapping[str, Node | None]
) -> tuple[Path, Link] | None:
    """Read a link to nowhere: one end of a pair whose other end is in the same node, because kernels lack `dummy`."""
    check_keys(reader, path, found, schema.DUMMY_KEYS, schema.WARNED_LINK_KEYS)
    end = _endpoint(reader, (*path, "endpoint"), found.get("endpoint"), nodes, brief=False)
    mtu = _mtu(reader, (*path, "mtu"), found.get("mtu", DEFAULT_MTU))
    if end is None:
        return None
    far = Endpoint(end.node, f"{end.interface[:LONGEST_FAR]}.far")
    return path, Link(end, far, reader.place(path), mtu)


def _mtu(reader: Reader, path: Path, value: Any) -> int:
    if type(value) is int and SMALLEST_MTU <= value <= GREATEST_MTU:
        return value
    reader.error(path, f"{value!r} is no MTU", f"{SMALLEST_MTU} to {GREATEST_MTU}")
    return DEFAULT_MTU


def _endpoint(
    reader: Reader,
    path: Path,
    value: Any,
    nodes: Mapping[str, Node | None],
    *,
    brief: bool,
) -> Endpoint | None:
    """Read one end: `node:interface`, or with `type` a mapping."""
    if isinstance(value, str) != brief:
        form = "`node:interface`" if brief else "a mapping of `node` and `interface`"
        reader.error(path, f"this endpoint must be {form}", "mappings go with `type: veth`")
        return None
    if isinstance(value, str):
        node, _, interface = value.partition(":")
        mac = ""
    else:
        node, interface, mac = _endpoint_mapping(reader, path, reader.mapping(path, value))
    return _checked(reader, path, Endpoint(node, interface, mac), nodes)


def _endpoint_mapping(reader: Reader, path: Path, found: dict[str, Any]) -> tuple[str, str, str]:
    check_keys(reader, path, found, schema.ENDPOINT_KEYS, schema.WARNED_LINK_KEYS)
    node, interface, mac = (str(found.get(key, "")) for key in ("node", "interface", "mac"))
    if mac and not _MAC.fullmatch(mac):
        reader.error((*path, "mac"), f"{mac!r} is no MAC address")
    return node, interface, mac.replace("-", ":")


def _checked(reader: Reader, path: Path, end: Endpoint, nodes: Mapping[str, Node | None]) -> Endpoint | None:
    if end.node in schema.MACHINE_ENDPOINTS and end.node not in nodes:
        reader.error(path, f"endpoint {end.node!r} is not supported here", "nothing is connected to the machine")
    elif end.node not in nodes:
        reader.error(path, f"no node {end.node!r} in topology.nodes")
    elif not _INTERFACE.fullmatch(end.interface) or end.interface in {"lo", ".", ".."}:
        reader.error(path, f"{end.interface!r} cannot name an interface", "at most 15 characters, no blank, '/' or ':'")
    elif (node := nodes[end.node]) and node.kind != "bridge" and node.management and end.interface == "eth0":
        reader.error(path, "eth0 is containerlab's management interface", "use eth1, or `network-mode: none`")
    else:
        return end
    return None


def _check_unique(reader: Reader, links: list[tuple[Path, Link] | None], nodes: Mapping[str, Node | None]) -> None:
    """Find names used twice. containerlab's bridges share one namespace, so their ports share one space of names."""
    seen = {("", name) for name, node in nodes.items() if node and node.kind == "bridge"}
    for path, link in filter(None, links):
        for index, end in enumerate((link.a, link.b)):
            node = nodes[end.node]
            key = ("" if node and node.kind == "bridge" else end.node, end.interface)
            if key in seen:
                reader.error((*path, "endpoints", index), f"{end}: the interface name is taken")
            seen.add(key)


def machine_commands(topology: Topology, pids: Mapping[str, int]) -> list[str]:
    """Return the lines for `ip -batch` on the machine: they make every device, each where it belongs."""
    bridges = [f"link add name {node.name} netns {pids[node.name]} up type bridge" for node in topology.bridges()]
    return bridges + [_veth(link, pids) for link in topology.links]


def _veth(link: Link, pids: Mapping[str, int]) -> str:
    a, b = (
        f"{end.interface} {f'address {end.mac} ' if end.mac else ''}netns {pids[end.node]} mtu {link.mtu}"
        for end in (link.a, link.b)
    )
    return f"link add name {a} up type veth peer name {b}"


def node_commands(topology: Topology, node: Node) -> list[str]:
    """Return the lines for `ip -batch` in a node's namespace: what cannot be done while a pair is made.

    The kernel raises the second end of a pair only when the first is there; and a port needs its bridge.
    """
    commands = []
    for link in topology.links:
        for end in (link.a, link.b):
            if end.node == node.name and (node.kind == "bridge" or end is link.b):
                plug = f" master {node.name}" if node.kind == "bridge" else ""
                commands.append(f"link set dev {end.interface}{plug} up")
    return commands
