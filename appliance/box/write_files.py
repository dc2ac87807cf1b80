"""write_files of user-data. Pure; called by `appliance.box.cloud_config`."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
import zlib
from dataclasses import dataclass
from typing import Any, Final

from appliance.box.reader import Reader
from appliance.model.text import Path

#: What a compressed file may become.
LONGEST: Final = 8 << 20

_PATH: Final = re.compile(r"/[^\x00-\x1f\x7f]{1,1000}")
_MODE: Final = re.compile(r"(0o)?[0-7]{3,5}")
_OWNER: Final = re.compile(r"[a-z_][a-z0-9_.-]{0,31}(:[a-z_][a-z0-9_.-]{0,31})?")
_KNOWN: Final = frozenset({"path", "content", "encoding", "permissions", "owner", "append"})
_IGNORED: Final = {"defer": "files are written after the users are made"}
#: How content may be wrapped, from the outside in.
_ENCODINGS: Final = {
    **dict.fromkeys(("text/plain", "plain"), ""),
    **dict.fromkeys(("b64", "base64"), "b"),
    **dict.fromkeys(("gz", "gzip"), "z"),
    **dict.fromkeys(("gz+base64", "gzip+base64", "gz+b64", "gzip+b64"), "bz"),
}
_OURS: Final = {
    "/etc/passwd": "write users instead",
    "/etc/shadow": "write users instead",
    "/etc/group": "write groups of a user instead",
    "/etc/gshadow": "write groups of a user instead",
    "/etc/hostname": "write hostname instead",
    "/etc/edgeway/intent.yaml": "write edgeway.intent instead: it is checked",
    "/etc/edgeway/node": "write edgeway.node instead",
}
_NOWHERE: Final = ("/proc/", "/sys/", "/dev/", "/data/", "/run/systemd/")


@dataclass(frozen=True, slots=True)
class File:
    """A file to write."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    owner: str = "root:root"
    append: bool = False


def read(reader: Reader, value: Any) -> tuple[File, ...]:
    """Return the files in their order."""
    return tuple(file for at, item in reader.items(value, ("write_files",)) if (file := _file(reader, item, at)))


def _file(reader: Reader, item: Any, at: Path) -> File | None:
    said = reader.table(item, at, _KNOWN, _IGNORED)
    if not said.get("path"):
        reader.wrong(at, "needs a path")
        return None
    path = _path(reader, said["path"], (*at, "path"))
    owner = reader.text(said.get("owner", "root:root"), (*at, "owner"), _OWNER, "a user, or user:group")
    return File(
        path,
        _content(reader, said, at),
        _mode(reader, said["permissions"], (*at, "permissions")) if "permissions" in said else 0o644,
        owner if ":" in owner else f"{owner}:{owner}",
        reader.flag(said.get("append", False), (*at, "append")),
    )


def _path(reader: Reader, value: Any, at: Path) -> str:
    path = reader.text(value, at, _PATH, "an absolute path")
    if path and (posixpath.normpath(path) != path or path.startswith("//")):
        reader.wrong(at, "must be written without //, /./ and /../")
    elif path in _OURS:
        reader.wrong(at, "is made by the box", _OURS[path])
    elif path.startswith(_NOWHERE):
        reader.wrong(at, "is no place for files of a seed")
    return path


def _mode(reader: Reader, value: Any, at: Path) -> int:
    """Return a mode; `0644` without quotes has lost its meaning as a number in base 8, and is read as it looks."""
    text = reader.text(value, at, _MODE, 'octal digits in quotes, like "0640"')
    return int(text.removeprefix("0o"), 8) & 0o7777 if text else 0o644


def _content(reader: Reader, said: dict[str, Any], at: Path) -> bytes:
    encoding = reader.text(said.get("encoding", "plain"), (*at, "encoding")).lower()
    if encoding not in _ENCODINGS:
        reader.wrong((*at, "encoding"), f"must be one of {', '.join(sorted(_ENCODINGS))}")
        return b""
    content = said.get("content", "")
    if not isinstance(content, str):
        reader.wrong((*at, "content"), "must be a text", "write it in quotes, or `content: |` and indent it below")
        return b""
    octets = content.encode()
    try:
        for layer in _ENCODINGS[encoding]:
            octets = base64.b64decode("".join(content.split()), validate=True) if layer == "b" else _unzip(octets)
    except (binascii.Error, ValueError, OSError, EOFError, zlib.error) as error:
        reader.wrong((*at, "content"), f"is not {encoding}: {error}")
    return octets


def _unzip(octets: bytes) -> bytes:
    """Undo gzip, but not without end."""
    engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    made = engine.decompress(octets, LONGEST)
    if engine.unconsumed_tail:
        raise ValueError(f"it would become longer than {LONGEST} octets")
    if not engine.eof:
        raise ValueError("it ends too early")
    return made
