"""User-data: the part of `#cloud-config` that a box takes. Pure; called by `appliance.box.seed`.

Keys, meanings and reasons stand in `design/reference-seed.md`. Nothing is passed over in silence: a key without effect
is a warning that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.box import people, scripts, write_files
from appliance.box.people import DEFAULT_USER, KEY, User
from appliance.box.reader import Reader
from appliance.box.write_files import File
from appliance.model.errors import Finding, OperatorError
from appliance.model.text import Path

__all__ = ["DEFAULT_USER", "HOST", "KEY", "Config", "read"]

HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,62}(?<!-)|)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}(?<!-)|))*"
)
_NODE: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}")
_SERVER: Final = re.compile(r"[A-Za-z0-9.:-]{1,253}")
_FILE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

_READ_ONLY: Final = "the root file system is an image; `edgeway box update` brings another"
_NO_EFFECT: Final = {
    **dict.fromkeys(("apt", "packages", "package_update", "package_upgrade", "snap", "yum_repos"), _READ_ONLY),
    **dict.fromkeys(
        ("growpart", "resize_rootfs", "disk_setup", "fs_setup", "mounts", "swap"), "the disk has its layout"
    ),
    "ssh_pwauth": "sshd takes keys only",
    "disable_root": "root never logs in by SSH",
    "manage_etc_hosts": "/etc/hosts always names the box",
    "preserve_hostname": "the name is the seed's",
    "prefer_fqdn_over_hostname": "the box has one name; fqdn is put into /etc/hosts",
    "final_message": "the console says when the box is ready",
    "output": "everything goes to the journal",
    "locale": "there is only C.UTF-8",
    "package_reboot_if_required": _READ_ONLY,
}


@dataclass(frozen=True, slots=True)
class Config:
    """What user-data asks for. `ntp` None: the clock is not set from the network."""

    hostname: str = ""
    fqdn: str = ""
    users: tuple[User, ...] = ()
    files: tuple[File, ...] = ()
    boot_script: str = ""
    run_script: str = ""
    timezone: str = ""
    ntp: tuple[str, ...] | None = None
    node: str = ""
    intent: str = ""


_KEYS: Final = frozenset({
    *("hostname", "fqdn", "users", "ssh_authorized_keys", "password", "chpasswd", "write_files", "bootcmd", "runcmd"),
    *("timezone", "ntp", "edgeway"),
})  # fmt: skip


def read(reader: Reader, text_of: Callable[[str], str | None], host: str = "") -> Config:
    """Read user-data; `text_of` gives other files of the volume, `host` is the name that meta-data gives."""
    said = reader.table(reader.document.data, (), _KEYS, _NO_EFFECT)
    fqdn = reader.text(said["fqdn"], ("fqdn",), HOST, "a host name with its domain") if "fqdn" in said else ""
    name = reader.text(said["hostname"], ("hostname",), HOST, "a host name") if "hostname" in said else ""
    hostname = (name or fqdn or host).partition(".")[0]
    node, intent = _edgeway(reader, said.get("edgeway"), text_of, hostname)
    return Config(
        hostname,
        fqdn or next((one for one in (name, host) if "." in one), ""),
        people.read(reader, said),
        write_files.read(reader, said.get("write_files")),
        scripts.read(reader, said.get("bootcmd"), ("bootcmd",)),
        scripts.read(reader, said.get("runcmd"), ("runcmd",)),
        reader.text(said["timezone"], ("timezone",), _ZONE, "a name like Europe/Paris") if "timezone" in said else "",
        _ntp(reader, said.get("ntp")),
        node,
        intent,
    )


def _ntp(reader: Reader, value: Any) -> tuple[str, ...] | None:
    """Return the servers; () means those the box would ask anyway."""
    if value is None:
        return None
    said = reader.table(value, ("ntp",), {"enabled", "servers", "pools"}, {"ntp_client": "there is only one"})
    if "enabled" in said and not reader.flag(said["enabled"], ("ntp", "enabled")):
        return None
    lists = [
        reader.texts(said[key], ("ntp", key), _SERVER, "a name or an address")
        for key in ("servers", "pools")
        if key in said
    ]
    return tuple(server for found in lists for server in found)


def _edgeway(reader: Reader, value: Any, text_of: Callable[[str], str | None], hostname: str) -> tuple[str, str]:
    """Return the node's name and the intent; both are judged as the daemon would."""
    at = ("edgeway",)
    said = reader.table(value, at, {"node", "intent", "intent_file"})
    given = reader.text(said["node"], (*at, "node"), _NODE, "a node's name of the intent") if "node" in said else ""
    place, file, text = _intent_text(reader, said, text_of)
    if not text:
        return given, ""
    node = given or hostname.lower()
    reader.findings.extend(intent_findings(text, file, node, reader, place))
    return node, text


def _intent_text(reader: Reader, said: dict[str, Any], text_of: Callable[[str], str | None]) -> tuple[Path, str, str]:
    """Return where the intent was said, the file it is in, and its text."""
    if "intent" in said:
        at: Path = ("edgeway", "intent")
        if "intent_file" in said:
            reader.wrong(at, "and intent_file exclude each other", "remove one")
        if isinstance(said["intent"], str):
            return at, "intent", said["intent"]
        reader.wrong(at, "must be a text", "write `intent: |` and indent the intent below it")
    elif "intent_file" in said:
        at = ("edgeway", "intent_file")
        name = reader.text(said["intent_file"], at, _FILE, "the name of a file beside user-data")
        text = text_of(name) if name else None
        if name and not text:
            reader.wrong(at, f"{name}: there is no such file on the volume, or it is empty")
        return at, name, text or ""
    return (), "", ""


def intent_findings(text: str, file: str, node: str, reader: Reader, place: Path) -> Iterator[Finding]:
    """Judge the intent with the checker of `edgeway check`, and ask whether it knows this node."""
    from appliance.model.load import parse  # noqa: PLC0415 - slow to import, and most boots bring no intent

    try:
        intent = parse(text, file)
    except OperatorError as error:
        yield from error.findings
        return
    if node not in intent.nodes:
        known = ", ".join(sorted(intent.nodes))
        yield reader.document.finding(place, f"the intent has no node {node or 'without a name'}", f"nodes: {known}")
