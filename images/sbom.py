"""What is in the image, for who must know: sbom.json (CycloneDX 1.5) and manifest.json (artefacts with their digests).

Every Debian package with the digest of the file it came from, every Python distribution with the digests that
requirements.txt allows, and what comes from the machine that builds: busybox in the initrd, GRUB on the disk.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from images.packages import stanzas
from images.recipe import ARCHITECTURE, SUITE
from images.steps import sha256

Component = dict[str, Any]
_SPACE = uuid.UUID("5b0d3c2e-7a55-5d0e-9a3b-0e000000000a")


def debian(status: str, index: str) -> Iterator[Component]:
    """Yield the packages that dpkg's `status` names as installed; `index` is the local archive's `Packages`."""
    digests = {(each["Package"], each["Version"]): each["SHA256"] for each in stanzas(index)}
    for each in stanzas(status):
        if each.get("Status", "").endswith(" installed"):
            yield _deb(each["Package"], each["Version"], digests.get((each["Package"], each["Version"]), ""))


def _deb(name: str, version: str, digest: str) -> Component:
    place = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={ARCHITECTURE}&distro={SUITE}"
    found: Component = {"type": "library", "bom-ref": place, "name": name, "version": version, "purl": place}
    return {**found, "hashes": [{"alg": "SHA-256", "content": digest}]} if digest else found


def python(home: Path, requirements: str) -> Iterator[Component]:
    """Yield the distributions below `home`, by name."""
    allowed = pinned(requirements)
    for metadata in sorted(home.glob("*.dist-info/METADATA")):
        head = metadata.read_text(encoding="utf-8").partition("\n\n")[0]
        fields = dict(line.split(": ", 1) for line in head.splitlines() if re.match(r"(Name|Version): ", line))
        name = normal(fields["Name"])
        place = f"pkg:pypi/{name}@{fields['Version']}"
        yield {
            "type": "library",
            "bom-ref": place,
            "name": name,
            "version": fields["Version"],
            "purl": place,
            "properties": [{"name": "edgeway:allowed-sha256", "value": digest} for digest in allowed.get(name, [])],
        }


def normal(name: str) -> str:
    """Return a distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(requirements: str) -> dict[str, list[str]]:
    """Return the digests of each distribution in a file of pins."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in requirements.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(\[.*\])?==", line):
            name = normal(match[1])
        found.setdefault(name, []).extend(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


def bill(version: str, package: Path, components: Iterable[Component], date: int) -> str:
    """Return the whole list as text."""
    ours: Component = {
        "type": "application",
        "bom-ref": "edgeway",
        "name": "edgeway",
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": sha256(package)}],
    }
    listed = sorted((each for each in components if each["name"] != "edgeway"), key=lambda each: str(each["bom-ref"]))
    text = json.dumps(listed, sort_keys=True)
    whole = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, text + ours['hashes'][0]['content'])}",
        "version": 1,
        "metadata": {"timestamp": stamp(date), "component": ours},
        "components": listed,
    }
    return json.dumps(whole, indent=1) + "\n"


def stamp(date: int) -> str:
    """Return a date as RFC 3339 writes it."""
    return datetime.fromtimestamp(date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def tools(listed: str) -> dict[str, str]:
    """Return the versions that `dpkg-query --show` lists."""
    return dict(line.split("\t") for line in listed.splitlines())


def manifest(version: str, artefacts: Iterable[Path], listed: Mapping[str, str], date: int) -> str:
    """Return what was built, from what, by which tools."""
    found = {path.name: {"sha256": sha256(path), "size": path.stat().st_size} for path in artefacts}
    whole = {"version": version, "date": stamp(date), "artefacts": found, "tools": dict(listed)}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


#: Of the machine that builds, and yet in what is built.
BUILT_IN = ("busybox-static", "grub-pc-bin", "grub-efi-amd64-bin")


def built_in(listed: Mapping[str, str]) -> Iterator[Component]:
    """Yield what the tools leave in the artefacts."""
    for name in BUILT_IN:
        yield _deb(name, listed[name], "")
