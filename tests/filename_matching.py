"""Check that every source file has its test file at the matching path; print those that have none.

`pkg/path/x.py` is tested by `tests/unit/pkg/path/test_x.py`. A kernel port may be tested by its contract instead, in
`tests/contract/`, a BGP engine by `tests/engines/`, and what builds the image by the image, in `tests/image/`. `make lint` calls this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("appliance", "routing", "services", "images")
GENERATED = PurePosixPath("routing/engines/gobgp_api")

# Files that hold nothing a test could refute, each with its reason. An entry that is no longer needed is an error.
NOTHING_TO_TEST = {
    "appliance/kernel/port.py": "the Protocol of the ports: what it demands is tested with each port",
    "routing/engines/engine.py": "the Protocol of the engines and its events: tested with each engine",
}


def sources(root: Path) -> Iterator[PurePosixPath]:
    """Yield the files that a person wrote and that can hold a decision, sorted."""
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            path = PurePosixPath(file.relative_to(root).as_posix())
            if path.name not in {"__init__.py", "__main__.py"} and not path.is_relative_to(GENERATED):
                yield path


def places(source: PurePosixPath) -> tuple[PurePosixPath, ...]:
    """Return where the test of a source file may be, the usual place first."""
    name = f"test_{source.name}"
    found = [PurePosixPath("tests/unit") / source.parent / name]
    for package, directory in (
        ("appliance/kernel", "tests/contract"),
        ("routing/engines", "tests/engines"),
        ("images", "tests/image"),
    ):
        if source.is_relative_to(package):
            found.append(PurePosixPath(directory) / source.parent.relative_to(package) / name)
    return tuple(found)


def complaints(root: Path, exempt: dict[str, str]) -> list[str]:
    """Say what is missing and which exemptions are stale."""
    said = []
    known = {str(source): any((root / place).is_file() for place in places(source)) for source in sources(root)}
    for source, tested in known.items():
        if not tested and source not in exempt:
            said.append(f"{source}: no test; expected {' or '.join(map(str, places(PurePosixPath(source))))}")
    for source in exempt:
        if source not in known:
            said.append(f"{source}: exempt, but there is no such file")
        elif known[source]:
            said.append(f"{source}: exempt, but it has a test")
    return said


def main() -> int:
    """Print every complaint; fail if there is one."""
    said = complaints(ROOT, NOTHING_TO_TEST)
    for line in said:
        print(line)
    if said:
        print(f"{len(said)} of the source files lack their test file, or an exemption is stale.")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
