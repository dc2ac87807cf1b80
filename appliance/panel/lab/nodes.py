"""The keys of a node, wherever they stand -> Node, or findings. Pure.

Called by `appliance.panel.lab.topology`.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from appliance.panel.lab import schema
from appliance.panel.lab.images import is_ours
from appliance.panel.lab.levels import Level, Levels
from appliance.panel.lab.reader import Placed, Reader, check_keys
from appliance.panel.lab.stages import read_health, read_stages
from appliance.panel.lab.values import Bind, EnvFile, Kind, Node

if TYPE_CHECKING:
    from appliance.model.text import Path

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-._]*")
_NET_SYSCTL = re.compile(r"net(?:[./][\w-]+)+")
LONGEST_HOSTNAME, LONGEST_INTERFACE = 63, 15
LISTS = ("binds", "exec", "env-files", "stages")
SPECIAL = {"health": read_health, "stages": read_stages}
#: Where the program behind a kind or an image looks for its configuration.
VM_HEALTH = ("grep", "-q", "running", "/health")
INTENT, VM_CONFIG = "/etc/edgeway/intent.yaml", "/config/startup-config.cfg"


def read_level(reader: Reader, path: Path, value: Any) -> Level:
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
        elif shape in SPECIAL:
            level.lists[key] = SPECIAL[shape](reader, place, item)
    others = {key: item for key, item in found.items() if key not in schema.NODE_KEYS}
    for key in [key for key in others if key in schema.REFUSED_NODE_KEYS]:
        reader.error((*path, key), f"`{key}` is not supported here", "take it out, or use containerlab")
        del others[key]
    check_keys(reader, path, others, frozenset(schema.NODE_KEYS), schema.WARNED_NODE_KEYS)
    return level


def read_node(reader: Reader, path: Path, name: str, value: Any, levels: Levels) -> Node | None:
    """Read one node with what it inherits; None when it is unusable."""
    own = read_level(reader, path, value)
    kind, above = levels.above(own)
    if not NAME.fullmatch(name) or len(name) > LONGEST_HOSTNAME:
        reader.error(path, f"{name!r} cannot name a node here", "letters, digits, '-', '.' and '_', at most 63")
        return None
    for level in above:
        if level.one("group") and level.one("group") not in levels.groups:
            reader.error(level.texts["group"].path, f"no group {level.one('group')!r} in topology.groups")
    where = own.texts["kind"].path if "kind" in own.texts else path
    if kind in {"linux", "generic_vm"}:
        return _machine(reader, path, name, "linux" if kind == "linux" else "generic_vm", above)
    if kind == "ovs-bridge":
        reader.warn(where, "an ovs-bridge is a bridge of the kernel here", "frames pass alike")
    if kind in {"bridge", "ovs-bridge"}:
        return _bridge(reader, path, name, own)
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


def _machine(reader: Reader, path: Path, name: str, kind: Kind, above: list[Level]) -> Node:
    """Read a node that runs something."""
    texts = {key: text for level in above for key, text in level.texts.items() if text.text}
    tables: dict[str, dict[str, Placed]] = {"env": {}, "sysctls": {}, "labels": {}, "tmpfs": {}}
    for level in above:
        for key, table in level.tables.items():
            tables[key] |= table
    lists = {key: [text for level in above for text in level.lists.get(key, [])] for key in LISTS}
    health = next((level.lists["healthcheck"] for level in reversed(above) if "healthcheck" in level.lists), [])
    _check_node(reader, kind, texts, tables)
    commands = (*lists["exec"], *lists["stages"], *(texts[key] for key in ("cmd", "entrypoint") if key in texts))
    for text in commands:
        _check_words(reader, text)
    binds = {bind.target: bind for text in lists["binds"] if (bind := _bind(reader, text))}

    def one(key: str) -> str:
        return texts[key].text if key in texts else ""

    def pairs(key: str) -> tuple[tuple[str, str], ...]:
        return tuple((key, value.text) for key, value in tables[key].items())

    return Node(
        name,
        kind,
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
        tmpfs=pairs("tmpfs"),
        stages=tuple(text.text for text in lists["stages"]),
        health=tuple(text.text for text in health) or (VM_HEALTH if kind == "generic_vm" else ()),
        startup_config=_startup_config(reader, texts.get("startup-config"), kind, one("image")),
        startup_delay=int(one("startup-delay")) if one("startup-delay").isdecimal() else 0,
        memory=one("memory"),
        management=one("network-mode") != "none",
    )


def _startup_config(reader: Reader, text: Placed | None, kind: Kind, image: str) -> Bind | None:
    """Return where a configuration goes; a program that we know nothing of reads none."""
    if text is None:
        return None
    if kind == "linux" and not is_ours(image):
        reader.warn(text.path, "`startup-config` makes no difference", "kind linux reads none: use `binds`")
        return None
    return Bind(text.text, VM_CONFIG if kind == "generic_vm" else INTENT, read_only=True, place=reader.place(text.path))


def _check_node(reader: Reader, kind: Kind, texts: dict[str, Placed], tables: dict[str, dict[str, Placed]]) -> None:
    """Check the values that have rules of their own."""
    if kind == "linux" and "memory" in texts:
        reader.warn(texts["memory"].path, "`memory` makes no difference", "no limit is set here")
    delay = texts.get("startup-delay")
    if delay and not delay.text.isdecimal():
        reader.error(delay.path, f"{delay.text!r} is no number of seconds")
    for target, text in tables["tmpfs"].items():
        if not target.startswith("/") or "/../" in f"{target}/" or target.strip("/") == "":
            reader.error(text.path, f"{target!r} is no place in a node", "write /PATH: size=64m")
    mode = texts.get("network-mode")
    if mode and mode.text != "none":
        reader.error(mode.path, f"network-mode {mode.text!r} is not supported here", "only `none`")
    for name, text in tables["sysctls"].items():
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
