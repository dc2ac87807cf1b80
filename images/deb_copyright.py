"""The package's copyright file: who holds the rights in what it carries, read from the carried packages' own metadata.

https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Final

from images.staging import HOME

_HEAD: Final = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Edgeway

Files: *
Copyright: @YEAR@ The Edgeway authors
License: Apache-2.0
"""
_APACHE: Final = """
License: Apache-2.0
 The full text is in /usr/share/common-licenses/Apache-2.0.
"""
#: How packages that do not use the words of SPDX call their licence.
_IN_SPDX: Final = {"3-Clause BSD License": "BSD-3-Clause", "ISC License": "ISC", "MIT License": "MIT"}


def licence(metadata: Message) -> str:
    """Return the licence in the words of SPDX; a package that names none is an error of who pinned it."""
    said = metadata["License-Expression"] or metadata["License"]
    if not said or "\n" in said:
        named = [c.rpartition(":: ")[2] for c in metadata.get_all("Classifier", []) if c.startswith("License ::")]
        said = " OR ".join(named)
    if not said:
        raise SystemExit(f"{metadata['Name']}: its metadata names no licence")
    return _IN_SPDX.get(said, said)


def copyright_file(home: Path, date: int) -> str:
    """Return the text for the tree that becomes /usr/lib/edgeway."""
    year = str(datetime.fromtimestamp(date, UTC).year)
    parts, licences = [_HEAD.replace("@YEAR@", year)], dict[str, str]()
    for file in sorted(home.glob("*.dist-info/METADATA")):
        if file.parent.name.startswith("edgeway-"):
            continue
        metadata = Parser().parsestr(file.read_text(encoding="utf-8"))
        name = licence(metadata)
        where = f"{HOME.lstrip('/')}/{file.parent.name}"
        holder = metadata["Author"] or metadata["Author-email"] or f"The authors of {metadata['Name']}"
        parts.append(f"\nFiles: {' '.join(_files(home, file.parent))}\nCopyright: {holder}\nLicense: {name}\n")
        licences.setdefault(name, where)
    texts = [f"\nLicense: {name}\n See the licence files in /{where}.\n" for name, where in licences.items()]
    return "".join([*parts, _APACHE, *(text for text in texts if not text.startswith("\nLicense: Apache-2.0\n"))])


def _files(home: Path, info: Path) -> list[str]:
    """Return what belongs to a distribution: its metadata, and the package of the same name, if it has that."""
    stem = info.name.partition("-")[0]
    found = [info, *(path for path in (home / stem, home / f"{stem}.py", home / stem.lower()) if path.exists())]
    return [f"{HOME.lstrip('/')}/{path.name}{'/*' if path.is_dir() else ''}" for path in dict.fromkeys(found)]
