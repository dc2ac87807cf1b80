"""The container image: an OCI layout in one archive, written without a container engine.

https://github.com/opencontainers/image-spec: one layer, the root tree without what only a machine needs. Podman, skopeo and
containerd load it as it is. Entry point is `appliance.control.init`, its command waits for an intent and runs the daemon.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from images.recipe import ARCHITECTURE, MACHINE_ONLY

NAME = "localhost/edgeway"
_TYPE = "application/vnd.oci.image"
#: An intent may be bound, copied or written later; the name of the node is the host's unless it is given.
COMMAND = (
    "until [ -s /etc/edgeway/intent.yaml ]; do sleep 1; done; read -r host </proc/sys/kernel/hostname; "
    'exec /usr/bin/edgeway run /etc/edgeway/intent.yaml --node "${EDGEWAY_NODE:-$host}"'
)
CONFIGURATION = {
    # By its path: with -I and -S nothing that is bound into the container has a say in what Python runs.
    "Entrypoint": ["/usr/bin/python3", "-IS", "/usr/lib/edgeway/appliance/control/init.py"],
    "Cmd": ["--", "/bin/sh", "-c", COMMAND],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
    "ExposedPorts": {"179/tcp": {}},
    "StopSignal": "SIGTERM",
}
_XATTRS = ("security.capability",)


def make_oci(file: Path, tree: Path, version: str, date: int) -> None:
    """Write the archive of a tree."""
    layer = file.with_name(f"{file.name}.layer")
    try:
        with layer.open("wb") as out:
            diff = write_layer(out, tree, date)
        _write_layout(file, layer, diff, version, date)
    finally:
        layer.unlink(missing_ok=True)


def write_layer(out: BinaryIO, tree: Path, date: int) -> str:
    """Write the tree as a compressed tar in the order of names; return the digest of the tar itself."""
    packed = _Packed(out)
    with tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload] # writes only
        known: dict[tuple[int, int], str] = {}
        for path in members(tree):
            entry = _entry(archive, path, tree, date, known)
            if entry.isreg():
                with path.open("rb") as contents:
                    archive.addfile(entry, contents)
            else:
                archive.addfile(entry)
    packed.finish()
    return packed.digest.hexdigest()


def members(tree: Path) -> Iterator[Path]:
    """Yield what goes into a container, directories before what is in them."""
    for directory, names, files in os.walk(tree):
        here = Path(directory)
        kept = [name for name in names if not _machine_only(here / name, tree)]
        names[:] = sorted(name for name in kept if not (here / name).is_symlink())
        links = {name for name in kept if (here / name).is_symlink()}
        if here != tree:
            yield here
        yield from (here / name for name in sorted({*files, *links}) if not _machine_only(here / name, tree))


def _machine_only(path: Path, tree: Path) -> bool:
    name = str(path.relative_to(tree))
    return any(fnmatchcase(name, pattern) for pattern in MACHINE_ONLY)


def _entry(
    archive: tarfile.TarFile, path: Path, tree: Path, date: int, known: dict[tuple[int, int], str]
) -> tarfile.TarInfo:
    name, status = str(path.relative_to(tree)), path.lstat()
    entry = archive.gettarinfo(str(path), name)
    entry.uname = entry.gname = ""
    entry.mtime = min(int(status.st_mtime), date)
    # What tarfile remembers of links depends on paths outside; ours is by what was written.
    if not path.is_symlink() and path.is_file():
        entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", status.st_size
        if (first := known.setdefault((status.st_dev, status.st_ino), name)) != name:
            entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first, 0
        present = os.listxattr(path)
        entry.pax_headers = {
            f"SCHILY.xattr.{kind}": os.getxattr(path, kind).decode("utf-8", "surrogateescape")
            for kind in _XATTRS
            if kind in present
        }
    return entry


class _Packed:
    """A file that is written compressed (gzip without a date, RFC 1952), and whose plain octets are digested."""

    def __init__(self, out: BinaryIO) -> None:
        """Write the head."""
        self.digest = hashlib.sha256()
        self._out, self._check, self._size = out, 0, 0
        self._packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        out.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")

    def write(self, octets: bytes) -> int:
        """Take some."""
        self.digest.update(octets)
        self._check, self._size = zlib.crc32(octets, self._check), self._size + len(octets)
        self._out.write(self._packer.compress(octets))
        return len(octets)

    def finish(self) -> None:
        """Write the rest."""
        self._out.write(
            self._packer.flush() + self._check.to_bytes(4, "little") + (self._size % 2**32).to_bytes(4, "little")
        )


def _write_layout(file: Path, layer: Path, diff: str, version: str, date: int) -> None:
    created = datetime.fromtimestamp(date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with layer.open("rb") as contents:
        digest = hashlib.file_digest(contents, "sha256").hexdigest()
    labels = {"org.opencontainers.image.title": "Edgeway", "org.opencontainers.image.version": version}
    image = {
        "architecture": ARCHITECTURE,
        "config": {**CONFIGURATION, "Labels": labels},
        "created": created,
        "history": [{"created": created, "created_by": "edgeway images"}],
        "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{diff}"], "type": "layers"},
    }
    blobs: dict[str, bytes] = {}
    described = {"mediaType": f"{_TYPE}.layer.v1.tar+gzip", "digest": f"sha256:{digest}", "size": layer.stat().st_size}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": _blob(blobs, image, f"{_TYPE}.config.v1+json"),
        "layers": [described],
    }
    tagged = {"org.opencontainers.image.ref.name": f"{NAME}:{version}", "io.containerd.image.name": f"{NAME}:{version}"}
    entry = {**_blob(blobs, manifest, f"{_TYPE}.manifest.v1+json"), "annotations": tagged}
    small = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "mediaType": f"{_TYPE}.index.v1+json", "manifests": [entry]}),
        **{f"blobs/sha256/{name}": octets for name, octets in sorted(blobs.items())},
    }
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, octets in small.items():
            archive.addfile(_plain(name, len(octets), date), io.BytesIO(octets))
        with layer.open("rb") as contents:
            archive.addfile(_plain(f"blobs/sha256/{digest}", layer.stat().st_size, date), contents)


def _plain(name: str, size: int, date: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = size, date
    return entry


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _blob(blobs: dict[str, bytes], value: Any, kind: str) -> dict[str, Any]:
    octets = _json(value)
    digest = hashlib.sha256(octets).hexdigest()
    blobs[digest] = octets
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(octets)}
