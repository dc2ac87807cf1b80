"""The tree that becomes /usr/lib/edgeway: our packages from our wheel, and every dependency from wheels named by hash.

Called by `images.deb`. Two builds must give the same octets, so what a package manager notes about its own work goes, and
compiled modules name the place where they will be, carry no date, and are never compared with their sources: the package
brings both, and reading dates costs at every start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from images.place import BUILD, ROOT, fingerprint

#: Where the tree will be.
HOME: Final = "/usr/lib/edgeway"
#: The interpreter that will run it.
PYTHON: Final = "/usr/bin/python3"
PYTHON_VERSION: Final = (3, 11)

#: Directories at the top that are no packages: scripts, examples of configuration, manual pages.
_NO_PACKAGES: Final = ("bin", "etc", "share")
#: What the interpreter does not read: types, sources of C, what installers note, what only tests use.
_UNREAD: Final = (
    "*.pyi",
    "*.c",
    "*.h",
    "*.cc",
    "*.pxd",
    "*.pyx",
    "py.typed",
    "RECORD",
    "REQUESTED",
    "INSTALLER",
    "WHEEL",
)
_UNREAD_DIRECTORIES: Final = frozenset({"tests", "testdata", "__pycache__"})


def run(*command: str, **environ: str) -> None:
    """Run a tool; what it says is told only if it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ...: exit status {done.returncode}\n{done.stdout}")


def stage(target: Path, date: int, build: Path = BUILD) -> None:
    """Make the tree anew in `target`."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(dependencies(build), target)
    ours = build / "deb" / "ours"
    shutil.rmtree(ours, ignore_errors=True)
    shutil.copytree(_wheel(build, date), ours)
    _thin(ours)
    for program in ours.rglob("*.bpf.o"):
        # The types (BTF) stay; what a debugger would want names directories of the machine that built it.
        run("llvm-strip", "-g", str(program))
    for library in ours.rglob("*.so"):
        run("strip", "--strip-unneeded", str(library))
    _compile(ours)
    shutil.copytree(ours, target, dirs_exist_ok=True)


def dependencies(build: Path) -> Path:
    """Return the tree of the dependencies; it is made again only for other pins or another of these rules."""
    mark = fingerprint((ROOT / "requirements.txt", Path(__file__)), sys.version_info[:3])
    kept = build / "cache" / f"dependencies-{mark[:16]}"
    if not kept.is_dir():
        made = kept.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        print("deb: installing the dependencies of requirements.txt ...", flush=True)
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install")
        rules = ("--require-hashes", "--only-binary", ":all:", "--no-deps", "--no-compile")
        run(*pip, *rules, "--target", str(made), "--requirement", "requirements.txt")
        _thin(made)
        _compile(made)
        for old in kept.parent.glob("dependencies-*[!w]"):
            shutil.rmtree(old)
        made.rename(kept)
    return kept


def _wheel(build: Path, date: int) -> Path:
    """Return our packages as our wheel has them, unpacked."""
    directory, unpacked = build / "deb" / "wheel", build / "deb" / "unpacked"
    for old in (directory, unpacked):
        shutil.rmtree(old, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory), SOURCE_DATE_EPOCH=str(date))
    (wheel,) = directory.glob("*.whl")
    shutil.unpack_archive(wheel, unpacked, "zip")
    compiled = ("routing/bgp/_hot.*.so", "appliance/kernel/_routecolumns.*.so", "appliance/kernel/bpf/*.bpf.o")
    demand(unpacked, *compiled, "routing/engines/gobgp_api/*_pb2.py")
    return unpacked


def demand(tree: Path, *patterns: str) -> None:
    """Refuse a tree that lacks what was to be built before: it would work, but slowly, or only in part."""
    if missing := [pattern for pattern in patterns if not any(tree.glob(pattern))]:
        raise SystemExit(f"the wheel holds no {', no '.join(missing)}: `make setup` builds them")


def _thin(tree: Path) -> None:
    for name in _NO_PACKAGES:
        shutil.rmtree(tree / name, ignore_errors=True)
    for path in sorted(tree.rglob("*")):
        if path.is_dir() and path.name in _UNREAD_DIRECTORIES:
            shutil.rmtree(path)
        elif path.is_file() and any(path.match(pattern) for pattern in _UNREAD):
            path.unlink()


def _compile(tree: Path) -> None:
    # A process of its own, one file after the other: what a module is compiled to depends on what else was seen.
    version = f"{PYTHON_VERSION[0]}.{PYTHON_VERSION[1]}"
    if sys.version_info[:2] != PYTHON_VERSION:
        raise SystemExit(f"the package is for Python {version}, this is {sys.version.split()[0]}")
    rules = ("-q", "-f", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", HOME)
    run(PYTHON, "-S", "-m", "compileall", *rules, str(tree), PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="")


def settle(tree: Path, date: int, programs: Iterable[Path] = ()) -> None:
    """Give everything the build's date, and the modes of what everybody may read and nobody but root may write."""
    runs = set(programs)
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in runs else 0o644)
        os.utime(path, (date, date), follow_symlinks=False)
