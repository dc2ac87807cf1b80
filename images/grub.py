"""GRUB without grub-install: the core for BIOS, the program for UEFI, and the boot sector that finds the core.

grub-install wants a block device; both parts are only files. The core finds its configuration on the disk it came from
(`,gpt2`: the ESP), so that a second disk with our labels changes nothing. What GRUB then does is `images/grub/grub.cfg`.
"""

from __future__ import annotations

import struct
from pathlib import Path

from images.steps import run

CONFIGURATION = Path(__file__).with_name("grub") / "grub.cfg"
#: Of the cloud kernel: no graphics before it runs, both consoles, start again when it panics.
COMMAND_LINE = "console=tty0 console=ttyS0,115200 quiet panic=5 net.ifnames=0"
SECTOR = 512

_LIBRARY = Path("/usr/lib/grub")
_MODULES = (
    *("part_gpt", "fat", "ext2", "gzio", "normal", "configfile", "linux", "boot", "loadenv", "test", "true", "regexp"),
    *("echo", "serial", "terminal", "minicmd", "sleep", "reboot"),
)
_PREFIX = "(,gpt2)/grub"
_ENVIRONMENT_SIZE = 1024

# Places in boot.img and in the first sector of the core (GRUB's include/grub/i386/pc/boot.h): the sector where the core
# begins; the jump that would ignore the drive that the BIOS names; what the partition table has of the first sector.
_CORE_SECTOR, _DRIVE_CHECK, _TABLE = 0x5C, 0x66, slice(0x1B8, 0x200)
# The last list of blocks of the core: where its second sector is, how many follow, the segment they are read to.
_BLOCKS, _SEGMENT = 0x1F4, 0x820


def make_bios(file: Path) -> None:
    """Write the core for BIOS; it is not yet told where it lies."""
    run("grub-mkimage", "-O", "i386-pc", "-o", file, "-p", _PREFIX, "biosdisk", *_MODULES)


def make_uefi(file: Path) -> None:
    """Write the program for UEFI."""
    run("grub-mkimage", "-O", "x86_64-efi", "-o", file, "-p", _PREFIX, *_MODULES)


def placed(core: bytes, sector: int) -> bytes:
    """Return the core as it lies at this sector."""
    found = bytearray(core)
    struct.pack_into("<QHH", found, _BLOCKS, sector + 1, -(-len(core) // SECTOR) - 1, _SEGMENT)
    return bytes(found)


def boot_sector(table: bytes, sector: int) -> bytes:
    """Return the first sector of the disk: `table` as it is now, with the code that loads the core from `sector`."""
    found = bytearray((_LIBRARY / "i386-pc/boot.img").read_bytes()[:SECTOR])
    struct.pack_into("<Q", found, _CORE_SECTOR, sector)
    found[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    found[_TABLE] = table[_TABLE]
    return bytes(found)


def configuration() -> str:
    """Return grub.cfg."""
    return CONFIGURATION.read_text().replace("@COMMAND_LINE@", COMMAND_LINE)


def environment(**variables: str) -> bytes:
    """Return a grubenv with these variables: a block of 1024 octets, as `grub-editenv` makes it."""
    text = "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in variables.items())
    return text.encode().ljust(_ENVIRONMENT_SIZE, b"#")


#: The first slot is good; the other is empty until the first update.
FRESH = {"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "B_OK": "0", "B_TRY": "0", "PROVEN": "A"}
