"""What a NoCloud seed says, as values, and how it is judged: everything at once, nothing in parts.

Pure: `judge` is given the files of the volume and returns a Seed or raises OperatorError with every finding of every file.
`design/reference-seed.md` is the list of keys. Called by `appliance.box.first_boot` and `edgeway box seed`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from appliance.box import cloud_config, network
from appliance.box.cloud_config import HOST, Config
from appliance.box.network import NetworkFile
from appliance.box.reader import Reader
from appliance.model.errors import Finding, OperatorError
from appliance.model.text import Document, parse_yaml

#: Returns the octets of a file of the volume, None when there is no such file.
Read = Callable[[str], bytes | None]

#: No file of a seed is longer; the longest intents have a tenth of it.
LONGEST: Final = 8 << 20

_META: Final = frozenset({"instance-id", "local-hostname", "public-keys"})
_META_IGNORED: Final = {
    "dsmode": "the seed is read before the network in any case",
    "network-interfaces": "write a network-config of version 2",
    "hostname": "the name is read from local-hostname or from user-data",
}
#: How instances begin that have no id of their own.
_CONTENT: Final = "content-"
_INSTANCE: Final = re.compile(r"[!-.0-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Seed:
    """Everything that a volume asks for. `network` None: there is no network-config.

    `meta` is meta-data as it stands, by which a later boot knows the instance without parsing; nothing without instance-id.
    """

    instance: str
    meta: bytes
    hostname: str
    config: Config
    keys: tuple[str, ...]
    network: tuple[NetworkFile, ...] | None
    warnings: tuple[Finding, ...]


def judge(read: Read) -> Seed:
    """Read every file of a seed; raise OperatorError with all findings when one of them is an error."""
    findings: list[Finding] = []
    meta = Reader(_document(read, "meta-data", findings), findings)
    user = Reader(_user_data(read, findings), findings)
    net = Reader(_document(read, "network-config", findings), findings)
    said = meta.table(meta.document.data, (), _META, _META_IGNORED)
    local = (
        meta.text(said["local-hostname"], ("local-hostname",), HOST, "a host name")
        if said.get("local-hostname")
        else ""
    )
    keys = _public_keys(meta, said.get("public-keys"))
    config = cloud_config.read(user, lambda name: _text(read, name, findings), local)
    files = network.read(net) if net.document.data is not None else None
    if read("vendor-data"):
        findings.append(Finding(1, 1, "vendor-data", "is not read", "", "warning", "vendor-data"))
    if any(finding.severity == "error" for finding in findings):
        raise OperatorError(tuple(dict.fromkeys(findings)))
    instance = _instance(meta, said.get("instance-id"), read)
    hostname = config.hostname or local
    meta_octets = b"" if instance.startswith(_CONTENT) else read("meta-data") or b""
    return Seed(instance, meta_octets, hostname, config, keys, files, tuple(dict.fromkeys(findings)))


def _text(read: Read, name: str, findings: list[Finding]) -> str | None:
    """Return the text of a file, or None and a finding when it is no text."""
    octets = read(name)
    if octets is None:
        return None
    try:
        if len(octets) > LONGEST:
            findings.append(Finding(1, 1, "the file", f"is longer than {LONGEST} octets", file=name))
            return None
        return octets.decode()
    except UnicodeDecodeError as error:
        before = octets[: error.start]
        place = (before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        findings.append(Finding(*place, "the file", "is not UTF-8", file=name))
        return None


def _document(read: Read, name: str, findings: list[Finding]) -> Document:
    """Parse a file; what it holds is nothing when it is absent or wrong."""
    return _parsed(_text(read, name, findings) or "", name, findings)


def _parsed(text: str, name: str, findings: list[Finding]) -> Document:
    try:
        return parse_yaml(text, name)
    except OperatorError as error:
        findings.extend(error.findings)
        return Document(name)


def _user_data(read: Read, findings: list[Finding]) -> Document:
    """Parse user-data, which says in its first line what it is."""
    text = _text(read, "user-data", findings) or ""
    first = text.partition("\n")[0].rstrip()
    if first == "#cloud-config" or not text.strip():
        return _parsed(text, "user-data", findings)
    what = "a script: put its lines under runcmd" if first.startswith("#!") else "not known here"
    finding = Finding(
        1, 1, "the first line", f"must be #cloud-config; this kind of user-data is {what}", file="user-data"
    )
    findings.append(finding)
    return Document("user-data")


def _public_keys(meta: Reader, value: Any) -> tuple[str, ...]:
    """Return meta-data's keys: a list, or a mapping of names to keys."""
    if value is None:
        return ()
    if isinstance(value, dict):
        tables = [(("public-keys", name), one) for name, one in value.items()]
        return tuple(
            key for path, one in tables for key in meta.texts(one, path, cloud_config.KEY, "an SSH public key")
        )
    return meta.texts(value, ("public-keys",), cloud_config.KEY, "an SSH public key")


def _instance(meta: Reader, value: Any, read: Read) -> str:
    """Return what names this seed; without instance-id, its content does."""
    text = "" if value is None else str(value)
    if _INSTANCE.fullmatch(text):
        return text
    digest = hashlib.sha256()
    for name in ("meta-data", "user-data", "network-config"):
        digest.update(b"\0" + (read(name) or b""))
    meta.doubt(("instance-id",), "is missing or odd: the content of the seed names it")
    return f"{_CONTENT}{digest.hexdigest()[:16]}"
