"""`python -m images deb`: build/edgeway_VERSION_amd64.deb, the only way into a machine or an image (design 0009).

Made by dpkg-deb from files that stand in packaging/ as they will lie on the machine, so debhelper has nothing to add; the
same sources give the same octets.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import tomllib
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Final

from images.clock import epoch
from images.deb_copyright import copyright_file
from images.place import BUILD, ROOT, alone, fingerprint, is_made, made
from images.staging import HOME, run, settle, stage

PACKAGING: Final = ROOT / "packaging"
#: What the package is made from.
INPUTS: Final = (
    *("appliance", "routing", "services", "packaging"),
    *("images/clock.py", "images/deb.py", "images/deb_copyright.py", "images/place.py", "images/staging.py"),
    *("pyproject.toml", "hatch_build.py", "requirements.txt", "CHANGELOG.md", "design/reference-intent.yaml"),
)
#: Where the files of packaging/ go.
PLACES: Final = (
    ("bin/*", "usr/bin"),
    ("systemd/*.service", "lib/systemd/system"),
    ("sysusers.conf", "usr/lib/sysusers.d/edgeway.conf"),
    ("tmpfiles.conf", "usr/lib/tmpfiles.d/edgeway.conf"),
    ("lintian-overrides", "usr/share/lintian/overrides/edgeway"),
    ("man/*.8", "usr/share/man/man8"),
)
#: Empty at first, and nobody's but root's.
PRIVATE: Final = ("etc/edgeway", "var/lib/edgeway")
DOC: Final = "usr/share/doc/edgeway"
MAINTAINER: Final = "Edgeway maintainers <maintainers@edgeway.invalid>"


def version() -> str:
    """Return the version of the distribution."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: str = tomllib.load(file)["project"]["version"]
    return found


def package(build: Path) -> Path:
    """Return where the package is, or will be."""
    return build / f"edgeway_{version()}_amd64.deb"


def build_package(build: Path = BUILD) -> Path:
    """Make the package unless it is made from just these files."""
    target, date = package(build), epoch(*INPUTS)
    mark = fingerprint((ROOT / name for name in INPUTS), date)
    with alone(build):
        if not is_made(target, mark):
            print(f"deb: building {target.name} ...", flush=True)
            _build(target, build / "deb" / "root", date)
            made(target, mark)
    return target


def _build(target: Path, root: Path, date: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    stage(root / HOME.lstrip("/"), date, root.parent.parent)
    for pattern, place in PLACES:
        for file in sorted(PACKAGING.glob(pattern)):
            _put(file, root / place / file.name if pattern != file.name else root / place)
    _document(root / DOC, root / HOME.lstrip("/"), date)
    for page in (root / "usr/share/man").rglob("*.8"):
        _zip(page)
    settle(root, date, (root / "usr/bin").iterdir())
    for place in PRIVATE:
        (root / place).mkdir(0o700, parents=True)
        os.utime(root / place, (date, date))
    _control(root, date)
    # One thread: how many there are would show in the octets.
    options = ("--root-owner-group", "-Zxz", "--threads-max=1", "--build")
    run("dpkg-deb", *options, str(root), str(target), SOURCE_DATE_EPOCH=str(date))


def _put(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


def _document(place: Path, home: Path, date: int) -> None:
    (place / "examples").mkdir(parents=True)
    (place / "copyright").write_text(copyright_file(home, date), encoding="utf-8")
    (place / "changelog").write_text(changelog(version(), date), encoding="utf-8")
    _put(ROOT / "CHANGELOG.md", place / "CHANGELOG.md")
    for name in ("changelog", "CHANGELOG.md"):
        _zip(place / name)
    _put(ROOT / "design/reference-intent.yaml", place / "examples" / "intent.yaml")


def _zip(file: Path) -> None:
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 9, mtime=0))
    file.unlink()


def changelog(release: str, date: int) -> str:
    """Return what dpkg's tools read; people read CHANGELOG.md."""
    words = "  * What changed is told in /usr/share/doc/edgeway/CHANGELOG.md.gz."
    return f"edgeway ({release}) stable; urgency=medium\n\n{words}\n\n -- {MAINTAINER}  {formatdate(date)}\n"


def _control(root: Path, date: int) -> None:
    octets = sum(
        -(-file.stat().st_size // 1024) for file in root.rglob("*") if file.is_file() and not file.is_symlink()
    )
    directory = root / "DEBIAN"
    directory.mkdir()
    for file in sorted((PACKAGING / "deb").iterdir()):
        _put(file, directory / file.name)
    told = (directory / "control").read_text(encoding="utf-8")
    told = told.replace("@VERSION@", version()).replace("@MAINTAINER@", MAINTAINER).replace("@SIZE@", str(octets))
    (directory / "control").write_text(told, encoding="utf-8")
    settle(directory, date, (directory / name for name in ("preinst", "postinst", "prerm", "postrm")))


def main(arguments: Sequence[str]) -> int:
    """Build the package and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m images deb", description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD, help="where to build, with a cache of its own")
    target = build_package(parser.parse_args(arguments).build.absolute())
    print(f"{os.path.relpath(target)}  {target.stat().st_size / 1e6:.1f} MB")
    return 0
