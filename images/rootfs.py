"""The root tree: Debian's packages, our own package, the files of the box; then without what no box needs.

Two steps, because the first takes a minute and changes seldom: `make_base` installs Debian's packages by mmdebstrap from the
local archive of `images/packages.py`; `make_root` adds ours. Needs root: packages run scripts as root of the tree.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from images import recipe
from images.steps import remove, run

#: A hook of mmdebstrap: programs are in /usr before the first package is unpacked.
MERGED = 'for name in bin sbin lib lib64; do mkdir -p "$1/usr/$name"; ln -s "usr/$name" "$1/$name"; done'


def make_base(tree: Path, archive: Path, names: Sequence[str]) -> None:
    """Install the packages into a new tree."""
    words: list[str | Path] = ["mmdebstrap", "--quiet", "--mode=root", "--variant=essential", f"--setup-hook={MERGED}"]
    words += [f"--include={','.join(names)}", f"--architectures={recipe.ARCHITECTURE}", "--format=directory"]
    words += [f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.EXCLUDED]
    words += [f"--dpkgopt=path-include={pattern}" for pattern in recipe.INCLUDED]
    words += ["--dpkgopt=force-unsafe-io"]  # what a power cut leaves of a build is thrown away
    words += [recipe.SUITE, tree, f"deb [trusted=yes] copy:{archive.resolve()} ./"]
    run(*words, environ={"SOURCE_DATE_EPOCH": str(recipe.INSTALLED)})
    thin_modules(tree)
    settle(tree, recipe.INSTALLED)


def make_root(tree: Path, base: Path, package: Path, files: Path, keyring: Path, date: int) -> None:
    """Add our package, our files and whose updates are taken to a copy of the base; take away what is not needed."""
    run("cp", "--archive", "--reflink=auto", base, tree)
    shutil.copyfile(package, tree / "edgeway.deb")
    run(
        "chroot",
        tree,
        "dpkg",
        "--install",
        "/edgeway.deb",
        environ={"DEBIAN_FRONTEND": "noninteractive", "SOURCE_DATE_EPOCH": str(date)},
    )
    (tree / "edgeway.deb").unlink()
    if files.is_dir():
        put_files(files, tree)
        shutil.copyfile(keyring, tree / "etc/rauc/keyring.pem")
        run("systemctl", f"--root={tree}", "preset-all")
    thin(tree)
    compile_all(tree)
    settle(tree, date)


def put_files(files: Path, tree: Path) -> None:
    """Copy our files as they lie; who may run them is said by their mode, root owns them."""
    for source in sorted(files.rglob("*")):
        place = tree / source.relative_to(files)
        if source.is_symlink():
            remove(place)
            place.symlink_to(source.readlink())
        elif source.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.unlink(missing_ok=True)  # never through a link that a package made
            shutil.copyfile(source, place)
            place.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def thin(tree: Path) -> None:
    """Remove what is not needed; make the places where initrd mounts."""
    for pattern in recipe.REMOVED:
        for path in tree.glob(pattern):
            remove(path)
    for name in recipe.DIRECTORIES:
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    # An empty file, so that what initrd finds on the data partition can be put there; systemd takes none for a first boot.
    (tree / "etc/machine-id").touch(0o444)


def thin_modules(tree: Path) -> None:
    """Keep the kernel modules of the recipe with those they need."""
    (directory,) = (tree / "usr/lib/modules").iterdir()
    keep_modules(directory)
    run("depmod", "-b", tree / "usr", directory.name)


def keep_modules(directory: Path) -> None:
    """Do it in the directory of a kernel."""
    needs = dict(_needs((directory / "modules.dep").read_text()))
    wanted = [name for name in needs if any(fnmatchcase(name, f"kernel/{pattern}") for pattern in recipe.MODULES)]
    kept = {name for one in wanted for name in (one, *needs[one])}
    for path in sorted(directory.rglob("*.ko*")):
        if str(path.relative_to(directory)) not in kept:
            path.unlink()


def _needs(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        name, _, needed = line.partition(":")
        yield name, needed.split()


def compile_all(tree: Path) -> None:
    """Compile Debian's Python anew so that it never compares dates: reading dates costs, and dates are ours."""
    for cached in tree.glob("usr/lib/python3*/**/__pycache__"):
        remove(cached)
    words = ("-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "/usr/lib/python3.11", "/usr/lib/python3")
    run("chroot", tree, "python3", "-S", "-m", "compileall", *words, environ={"PYTHONHASHSEED": "0"})


def settle(tree: Path, date: int) -> None:
    """Let nothing be younger than the date of the build."""
    for directory, names, files in os.walk(tree, topdown=False):
        for name in (*names, *files, "."):
            path = Path(directory, name)
            if path.lstat().st_mtime > date:
                os.utime(path, (date, date), follow_symlinks=False)


def make_squashfs(file: Path, tree: Path, date: int) -> None:
    """Pack the tree; zstd because it unpacks fastest of those that pack well.

    Level 9 takes 8 s of processor time for 93 MB, the usual 15 takes 55 s for 87 MB.
    """
    words = ("-comp", "zstd", "-Xcompression-level", "9", "-noappend", "-no-progress", "-quiet", "-no-exports")
    run("mksquashfs", tree, file, *words, environ={"SOURCE_DATE_EPOCH": str(date)})
