"""Build what is there in C as well as in Python: routing/bgp/_hot*.so and appliance/kernel/_routecolumns*.so.

Each is made from all sources beside it. `make setup` runs this as a program; it does nothing while a library is newer than
its sources. hatchling runs the hook for a wheel, which carries the libraries if there is a compiler and the headers of
Python, and is a pure one otherwise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
LIBRARIES = (ROOT / "routing" / "bgp" / f"_hot{SUFFIX}", ROOT / "appliance" / "kernel" / f"_routecolumns{SUFFIX}")
SLOWER = "routes are handled in Python, several times slower"
FLAGS = ("-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden")


class CannotBuildError(Exception):
    """What is missing on this machine."""


def compiler() -> str:
    """Return the compiler's path if all that is needed is here."""
    found = shutil.which(os.environ.get("CC", "gcc")) or shutil.which("clang")
    if found is None:
        raise CannotBuildError("no C compiler")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise CannotBuildError("no headers of Python (Debian: python3-dev)")
    return found


def up_to_date(library: Path) -> bool:
    """Tell whether nothing that the library is made from is newer."""
    made_from = [Path(__file__), *library.parent.glob("*.[ch]")]
    return library.is_file() and library.stat().st_mtime >= max(path.stat().st_mtime for path in made_from)


def build(library: Path, directory: Path, *flags: str) -> None:
    """Build the library into a directory, all at once: it may be in use there."""
    target = directory / library.name
    made = target.with_suffix(f".{os.getpid()}")
    sources = sorted(str(path) for path in library.parent.glob("*.c"))
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [compiler(), *FLAGS, *flags, "-I", sysconfig.get_path("include"), *sources, "-o", str(made)], check=True
    )
    made.replace(target)


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Put the libraries into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, or say why the wheel is without; `make setup` looks after an editable install."""
        if version == "editable":
            return
        try:
            for library in LIBRARIES:
                build(library, library.parent)
        except CannotBuildError as reason:
            self.app.display_warning(f"edgeway: {reason}: {SLOWER}")
            return
        build_data["artifacts"] += [f"/{library.relative_to(ROOT)}" for library in LIBRARIES]
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def main(arguments: list[str]) -> None:
    """Build in place if need be; or, told a directory and further flags, there."""
    try:
        for library in LIBRARIES:
            if arguments:
                build(library, Path(arguments[0]), *arguments[1:])
            elif not up_to_date(library):
                print(f"setup: building {library.relative_to(ROOT)} ...")
                build(library, library.parent, "-Werror")
    except CannotBuildError as reason:
        print(f"setup: {reason}: {SLOWER}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
