"""The initrd: busybox, `images/initrd/init`, and the modules that find a disk. 2 MB instead of Debian's 15.

A cpio archive in the kernel's form "newc" (Documentation/driver-api/early-userspace/buffer-format.rst), written here:
everything belongs to root, has the date of the build, and lies in the order of its names.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from images.recipe import EARLY_MODULES
from images.steps import run

INIT = Path(__file__).with_name("initrd") / "init"
BUSYBOX = Path("/bin/busybox")
#: What init calls; the rest of busybox is there under its own name, for a person.
APPLETS = ("sh", "mount", "modprobe", "mkdir", "mv", "sleep", "switch_root", "reboot")
_DIRECTORIES = ("bin", "dev", "etc", "proc", "sys", "ro", "rw", "new")
#: One `mount` each: a program that is started costs 20 ms under emulation.
_TABLES = {
    "etc/fstab": """\
proc /proc proc defaults 0 0
sysfs /sys sysfs defaults 0 0
devtmpfs /dev devtmpfs defaults 0 0
tmpfs /rw tmpfs mode=0755 0 0
""",
    "etc/fstab.root": """\
/new/data/config /new/etc/edgeway none bind 0 0
/new/data/edgeway /new/var/lib/edgeway none bind 0 0
/new/data/journal /new/var/log/journal none bind 0 0
/sys /new/sys none move 0 0
/dev /new/dev none move 0 0
/proc /new/proc none move 0 0
""",
}
_LISTS = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


def make_initrd(file: Path, tree: Path, date: int) -> None:
    """Write the compressed archive for the kernel whose modules are in the tree."""
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        stage = Path(name)
        _fill(stage, tree)
        archive = stage.with_suffix(".cpio")
        archive.write_bytes(b"".join(cpio(stage, date)))
    try:
        run("zstd", "-q", "-19", "-T1", "-f", archive, "-o", file)
    finally:
        archive.unlink()


def _fill(stage: Path, tree: Path) -> None:
    for name in _DIRECTORIES:
        (stage / name).mkdir()
    shutil.copyfile(BUSYBOX, stage / "bin/busybox")
    for applet in APPLETS:
        (stage / "bin" / applet).symlink_to("busybox")
    shutil.copyfile(INIT, stage / "init")
    for name, text in _TABLES.items():
        (stage / name).write_text(text)
    for program in (stage / "bin/busybox", stage / "init"):
        program.chmod(0o755)
    (source,) = (tree / "usr/lib/modules").iterdir()
    target = stage / "lib/modules" / source.name
    for module in early_modules(source):
        place = target / module.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, place)
    for name in _LISTS:
        shutil.copyfile(source / name, target / name)
    run("depmod", "-b", stage, source.name)
    for path in (*target.glob("modules.builtin.*"), *target.glob("modules.*.bin"), *(target / name for name in _LISTS)):
        path.unlink(missing_ok=True)  # busybox reads the texts


def early_modules(directory: Path) -> list[Path]:
    """Return the files of the modules of the recipe and of all that they need, sorted."""
    needs = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        name, _, needed = line.partition(":")
        needs[Path(name).name.partition(".")[0]] = [name, *needed.split()]
    if missing := [name for name in EARLY_MODULES if name not in needs]:
        raise SystemExit(f"the kernel has no {', '.join(missing)}: images/recipe.py names them for the initrd")
    return sorted({directory / name for module in EARLY_MODULES for name in needs[module]})


def cpio(stage: Path, date: int) -> Iterator[bytes]:
    """Yield the archive of a directory."""
    for number, path in enumerate(sorted(stage.rglob("*")), 1):
        mode = path.lstat().st_mode
        octets = _contents(path)
        permissions = 0o755 if path.is_dir() or mode & 0o111 else 0o644
        yield _entry(str(path.relative_to(stage)), number, stat.S_IFMT(mode) | permissions, date, octets)
    yield _entry("TRAILER!!!", 0, 0, 0, b"")


def _contents(path: Path) -> bytes:
    if path.is_symlink():
        return str(path.readlink()).encode()
    return path.read_bytes() if path.is_file() else b""


def _entry(name: str, number: int, mode: int, date: int, octets: bytes) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    # inode, mode, user, group, links, date, size, device twice, device of a special file twice, length of the name, checksum
    fields = (number, mode, 0, 0, links, date, len(octets), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(octets)


def _padded(octets: bytes) -> bytes:
    return octets + b"\0" * (-len(octets) % 4)
