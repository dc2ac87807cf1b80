"""The disk: GPT with the partitions of design 0009, written as a file without loop device or mount.

Slot b is empty: the first update fills it, and until then it would only make the download twice as large.
Every identifier is derived from a name, so that two builds are the same; partitions are found by their labels.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images import grub
from images.recipe import PARTITIONS
from images.steps import run

MIB = 1 << 20
_ZEROS = bytes(MIB)
_SPACE = uuid.UUID("5b0d3c2e-7a55-5d0e-9a3b-0e0000000009")
#: https://uapi-group.org/specifications/specs/discoverable_partitions_specification/ and GRUB's manual, "BIOS installation".
_TYPES = {
    "bios": "21686148-6449-6E6F-744E-656564454649",
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "kernel": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "root": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",  # generic: nobody shall mount it by its type
    "data": "9A5CBD6F-93C1-5BA9-8D4E-6B5B4C2F0009",  # of our own: by it a box finds what it may make larger
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the disk is made of."""

    kernel: Path
    initrd: Path
    root: Path


def identifier(name: str) -> str:
    """Return the identifier of a thing of the disk, the same in every build."""
    return str(uuid.uuid5(_SPACE, name))


def starts(sizes: Mapping[str, int] = PARTITIONS) -> dict[str, int]:
    """Return where each partition starts, MiB; and of "" where the last one ends."""
    place, found = 1, {}
    for name, size in sizes.items():
        found[name] = place
        place += size
    return {**found, "": place}


def table(sizes: Mapping[str, int] = PARTITIONS) -> str:
    """Return the script of sfdisk."""
    lines = ["label: gpt", f"label-id: {identifier('disk')}", "first-lba: 34", "unit: sectors"]
    for name, start in starts(sizes).items():
        if name:
            kind = _TYPES[name.partition("-")[0]]
            size = sizes[name] * MIB // grub.SECTOR
            first = start * MIB // grub.SECTOR
            lines.append(f"start={first}, size={size}, type={kind}, name={name}, uuid={identifier(name)}")
    return "\n".join(lines) + "\n"


def make_kernel(file: Path, parts: Parts, date: int) -> None:
    """Write the file system with the kernel of a slot, which GRUB reads: ext2, no larger than the partition."""
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        directory = Path(name)
        directory.chmod(0o755)
        for source, target in ((parts.kernel, "vmlinuz"), (parts.initrd, "initrd")):
            (directory / target).write_bytes(source.read_bytes())
            (directory / target).chmod(0o644)
        for path in (*directory.iterdir(), directory):
            os.utime(path, (date, date))
        # Without a directory for what is lost, and without the blocks that root alone may fill.
        make_ext(file, "ext2", "kernel", PARTITIONS["kernel-a"], date, "-b", "4096", "-m", "0", "-d", directory)
    # When a file was changed last cannot be set outside.
    names = ("/", "/lost+found", "/vmlinuz", "/initrd")
    script = "".join(
        f"set_inode_field {name} {field} @{date}\n" for name in names for field in ("atime", "ctime", "crtime")
    )
    run("debugfs", "-w", "-f", "-", file, text=script, environ={"E2FSPROGS_FAKE_TIME": str(date)})


def make_ext(file: Path, kind: str, label: str, size: int, date: int, *words: str | Path) -> None:
    """Write a file system of `size` MiB; further words are mke2fs's."""
    options = f"hash_seed={identifier(f'hash {label}')},lazy_itable_init=0,root_owner=0:0"
    environ = {"E2FSPROGS_FAKE_TIME": str(date), "SOURCE_DATE_EPOCH": str(date)}
    words = ("-q", "-t", kind, "-L", label, "-U", identifier(f"file system {label}"), "-E", options, *words)
    run("mke2fs", *words, file, f"{size}M", environ=environ)


def make_esp(file: Path, configuration: str, date: int) -> None:
    """Write the partition from which GRUB runs."""
    with file.open("wb") as empty:
        empty.truncate(PARTITIONS["esp"] * MIB)
    run("mkfs.vfat", "-F", "32", "-n", "ESP", "--invariant", file)
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        stage = Path(name)
        for directory in ("EFI/BOOT", "grub"):
            (stage / directory).mkdir(parents=True)
        grub.make_uefi(stage / "EFI/BOOT/BOOTX64.EFI")
        (stage / "grub/grub.cfg").write_text(configuration)
        (stage / "grub/grubenv").write_bytes(grub.environment(**grub.FRESH))
        for path in stage.rglob("*"):
            os.utime(path, (date, date))
        # As trees, with their dates: a directory that mtools make by itself has the date of now.
        run("mcopy", "-s", "-m", "-i", file, stage / "EFI", stage / "grub", "::")


def make_disk(file: Path, parts: Parts, kernel: Path, date: int) -> None:
    """Write the disk as qcow2; `kernel` is what `make_kernel` wrote."""
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        esp, data = Path(name, "esp"), Path(name, "data")
        make_esp(esp, grub.configuration(), date)
        make_ext(data, "ext4", "data", PARTITIONS["data"], date)
        assemble(file, {"esp": esp, "kernel-a": kernel, "root-a": parts.root, "data": data})


def assemble(file: Path, contents: Mapping[str, Path], sizes: Mapping[str, int] = PARTITIONS) -> None:
    """Write a disk as qcow2: GRUB's core for BIOS, and what is given for each partition."""
    begin = starts(sizes)
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        raw, core = Path(name, "raw"), Path(name, "core")
        with raw.open("wb") as empty:
            empty.truncate((begin[""] + 1) * MIB)
        run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", raw, text=table(sizes))
        grub.make_bios(core)
        with raw.open("r+b") as disk:
            _put_boot(disk.fileno(), core.read_bytes(), begin["bios"] * MIB // grub.SECTOR)
            for partition, source in contents.items():
                _put(disk.fileno(), source, begin[partition] * MIB, sizes[partition] * MIB)
        # It is renamed only when it is whole; to wait for the platter would cost seconds.
        run("qemu-img", "convert", "-t", "unsafe", "-f", "raw", "-O", "qcow2", raw, file)


def _put_boot(disk: int, core: bytes, sector: int) -> None:
    if len(core) > PARTITIONS["bios"] * MIB:
        raise SystemExit(f"GRUB's core has {len(core)} octets: more than its partition")
    os.pwrite(disk, grub.boot_sector(os.pread(disk, grub.SECTOR, 0), sector), 0)
    os.pwrite(disk, grub.placed(core, sector), sector * grub.SECTOR)


def _put(disk: int, source: Path, start: int, room: int) -> None:
    """Copy a file into the disk; what is zero stays a hole."""
    if (size := source.stat().st_size) > room:
        raise SystemExit(f"{source.name} has {size / MIB:.0f} MiB, its partition {room / MIB:.0f}: images/recipe.py")
    with source.open("rb") as file:
        place = start
        while octets := file.read(MIB):
            if octets != _ZEROS[: len(octets)]:  # compared as memory; to look at each octet takes ten seconds
                os.pwrite(disk, octets, place)
            place += len(octets)
