"""Looking at and spoiling the partitions of a disk of the image, without mounting anything."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

MIB = 1 << 20


def convert(disk: Path, raw: Path) -> None:
    """Write a qcow2 disk as it is on a real one."""
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)


def partition(raw: Path, name: str) -> tuple[int, int]:
    """Return where the partition of this label starts and how long it is, octets."""
    said = subprocess.run(["sfdisk", "--json", raw], check=True, capture_output=True, text=True).stdout
    table = json.loads(said)["partitiontable"]
    (found,) = (each for each in table["partitions"] if each["name"] == name)
    return found["start"] * table["sectorsize"], found["size"] * table["sectorsize"]


def overwrite(raw: Path, name: str) -> None:
    """Spoil the beginning of a partition: no file system is found there."""
    start, _ = partition(raw, name)
    with raw.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * MIB)


def extract(raw: Path, name: str, target: Path) -> Path:
    """Copy a partition into a file; holes stay holes."""
    start, size = partition(raw, name)
    words = [
        "dd",
        f"if={raw}",
        f"of={target}",
        "bs=1M",
        f"skip={start // MIB}",
        f"count={size // MIB}",
        "conv=sparse",
        "status=none",
    ]
    subprocess.run(words, check=True)
    return target


def file_of(file_system: Path, path: str) -> bytes:
    """Return what is in a file of an ext file system, whose journal is read first: it may be of a machine without power."""
    subprocess.run(["e2fsck", "-fy", file_system], check=False, capture_output=True)
    return subprocess.run(["debugfs", "-R", f"cat {path}", file_system], check=True, capture_output=True).stdout
