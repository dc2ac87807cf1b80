"""The Debian packages of the image: chosen and fetched once with this machine's own apt sources, then a local archive.

`choose` asks apt; the files stay in the cache. mmdebstrap sees only the archive that `publish` writes, so a build without
network gives the same as the one before, and the list with its digests is what sbom.json says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.recipe import ARCHITECTURE, SUITE
from images.steps import run, sha256

SOURCES = Path("/etc/apt")
_STANZA = re.compile(rf"^Suites:(.*\s)?{SUITE}(?!-backports)", re.MULTILINE)
_LINE = re.compile(rf"deb (\[.*\] )?\S+ {SUITE}(?!-backports)\S* ")
_CHOSEN = re.compile(r"^Inst (?P<name>\S+) (?:\[\S+\] )?\((?P<version>\S+) .*\[(?P<architecture>\w+)\]", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package that is chosen."""

    name: str
    version: str
    architecture: str

    @property
    def file(self) -> str:
        """Return the name that apt gives the file."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def sources(directory: Path = SOURCES) -> dict[str, str]:
    """Return those of this machine's apt sources that are of our suite: file name to contents."""
    found = {}
    for path in sorted([*directory.glob("sources.list"), *directory.glob("sources.list.d/*")]):
        if path.suffix == ".sources":
            each = re.split(r"\n\s*\n", path.read_text())
            text = "\n\n".join(stanza for stanza in each if _STANZA.search(stanza))
        elif path.suffix == ".list":
            lines = path.read_text().splitlines()
            text = "\n".join(line for line in lines if _LINE.match(line))
        else:
            continue
        if text.strip():
            found[path.name] = f"{text.strip()}\n"
    if not found:
        raise SystemExit(f"{directory} names no source of {SUITE}: the image is built from Debian's own packages")
    return found


class Apt:
    """apt with its state in the cache and no package installed, so that it chooses for an empty machine."""

    def __init__(self, directory: Path, found: dict[str, str]) -> None:
        """Prepare the directory; nothing is fetched yet."""
        self.archives = directory / "cache/archives"
        parts, status = directory / "sources", directory / "status"
        for needed in (directory / "state/lists/partial", self.archives / "partial", parts):
            needed.mkdir(parents=True, exist_ok=True)
        for old in parts.iterdir():
            old.unlink()
        for name, text in found.items():
            (parts / name).write_text(text)
        status.write_text("")
        settings = {
            "Dir::State": directory / "state",
            "Dir::State::status": status,
            "Dir::Cache": directory / "cache",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": parts,
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "APT::Architecture": ARCHITECTURE,
            "APT::Install-Recommends": "false",
            "pkgCacheGen::ForceEssential": ",",  # apt takes itself for essential: nothing is installed on a box
            "APT::Sandbox::User": "root",  # the cache is in a directory of whoever builds
            "APT::Get::Assume-Yes": "true",
        }
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def update(self) -> None:
        """Fetch the lists."""
        run("apt-get", *self._options, "update")

    def choose(self, names: Sequence[str | Path]) -> list[Package]:
        """Return what an empty machine would get for these names and files, after fetching it; sorted."""
        wanted = ("install", "?essential", *names)
        run("apt-get", *self._options, "--download-only", *wanted)
        chosen = _CHOSEN.finditer(run("apt-get", *self._options, "--simulate", *wanted))
        return sorted({Package(each["name"], each["version"], each["architecture"]) for each in chosen})


def publish(files: Sequence[Path], directory: Path) -> str:
    """Write `Packages` for these files, which lie in or are linked into `directory`; return it."""
    stanzas = []
    for file in files:
        fields = run("dpkg-deb", "--field", file).rstrip("\n")
        if file.parent != directory:
            place = directory / file.name
            place.unlink(missing_ok=True)
            place.hardlink_to(file)
        stanzas.append(f"{fields}\nFilename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {sha256(file)}\n")
    text = "\n".join(stanzas)
    (directory / "Packages").write_text(text)
    # mmdebstrap looks for the essential packages in the archive of this name only.
    octets = text.encode()
    digest = f"SHA256:\n {hashlib.sha256(octets).hexdigest()} {len(octets)} Packages\n"
    (directory / "Release").write_text(f"Suite: {SUITE}\nCodename: {SUITE}\n{digest}")
    return text


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each stanza of a `Packages` or `status` file; of long fields the first line."""
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"[\w-]+: ", line))
        if fields:
            yield fields
