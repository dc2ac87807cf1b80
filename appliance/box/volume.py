"""The volume a seed comes on: ISO 9660 or FAT, labelled `cidata`. Quick to import: it is looked for at every boot.

Labels are read from the first octets of each disk and partition: udev has not looked at them yet, and a tool that does
takes longer to start than this takes.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LABEL = "cidata"
#: Up to the end of the first volume descriptor of a CD.
HEAD = 32768 + 2048
LONGEST = 8 << 20
#: Disks that are of our own making or have no medium worth waiting for.
_PASSED_OVER = ("loop", "ram", "zram", "dm-", "fd", "md", "mtdblock")
_CD = "5"


def label(head: bytes) -> tuple[str, str]:
    """Return kind of file system and label, from the first octets; ("", "") when it is neither ISO 9660 nor FAT."""
    if head[32769:32774] == b"CD001":
        return "iso9660", _word(head[32808:32840])
    if head[510:512] == b"\x55\xaa" and head[82:87] == b"FAT32":
        return "vfat", _word(head[71:82])
    if head[510:512] == b"\x55\xaa" and head[54:57] == b"FAT":
        return "vfat", _word(head[43:54])
    return "", ""


def _word(octets: bytes) -> str:
    return octets.decode("ascii", "replace").rstrip(" \0")


def find(sys: str = "/sys", dev: str = "/dev") -> tuple[str, str]:
    """Return kind and device of the first volume with the label; ("", "") when there is none."""
    for name in sorted(_names(f"{sys}/class/block")):
        if name.startswith(_PASSED_OVER) or _text(f"{sys}/class/block/{name}/size") == "0":
            continue
        kind, found = label(_head(f"{dev}/{name}"))
        if found.lower() == LABEL:
            return kind, f"{dev}/{name}"
    return "", ""


def drives_without_driver(sys: str = "/sys") -> bool:
    """Tell whether there is a CD drive that no driver has taken yet: `sr_mod` is a module."""
    base = f"{sys}/bus/scsi/devices"
    return any(
        _text(f"{base}/{name}/type") == _CD and not os.path.exists(f"{base}/{name}/block")  # noqa: PTH110 - slow to import
        for name in _names(base)
    )


def reader(directory: str) -> Callable[[str], bytes | None]:
    """Return what reads a file of a directory; more than can be judged is not read."""

    def read(name: str) -> bytes | None:
        try:
            file = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        with open(file, "rb") as opened:  # noqa: PTH123 - a descriptor
            return opened.read(LONGEST + 1)

    return read


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - pathlib is slow to import
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""


def _head(device: str) -> bytes:
    """Return the first octets of a device, as far as it gives any."""
    try:
        file = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, HEAD)
    except OSError:
        return b""
    finally:
        os.close(file)
