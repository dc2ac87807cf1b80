import struct
import subprocess
from pathlib import Path

from images import grub


def test_the_boot_sector_keeps_the_partition_table() -> None:
    """And knows where the core lies, and asks the drive that the BIOS started from."""
    table = bytes(range(256)) * 2
    sector = grub.boot_sector(table, 2048)
    assert len(sector) == grub.SECTOR
    assert sector[0x1B8:] == table[0x1B8:]
    assert struct.unpack_from("<Q", sector, 0x5C) == (2048,)
    assert sector[0x66:0x68] == b"\x90\x90"


def test_the_core_is_told_where_its_rest_lies() -> None:
    """All sectors after its first one, wherever it is put."""
    placed = grub.placed(bytes(grub.SECTOR * 3 + 1), 2048)
    assert struct.unpack_from("<QHH", placed, 0x1F4) == (2049, 3, 0x820)


def test_the_environment_is_what_grub_editenv_reads(tmp_path: Path) -> None:
    """GRUB writes in place, so the block must have its size from the start."""
    (tmp_path / "grubenv").write_bytes(grub.environment(**grub.FRESH))
    said = subprocess.run(
        ["grub-editenv", tmp_path / "grubenv", "list"], check=True, capture_output=True, text=True
    ).stdout
    assert dict(line.split("=", 1) for line in said.splitlines()) == grub.FRESH
    assert (tmp_path / "grubenv").stat().st_size == 1024


def test_the_configuration_is_a_script_that_grub_can_read(tmp_path: Path) -> None:
    """What is put in its place is there, and the script has no error of syntax."""
    script = tmp_path / "grub.cfg"
    script.write_text(grub.configuration())
    assert "@" not in grub.configuration()
    done = subprocess.run(["grub-script-check", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_programs_are_made_without_a_disk(tmp_path: Path) -> None:
    """The core fits in its partition; the other is a program of UEFI."""
    grub.make_bios(tmp_path / "core")
    grub.make_uefi(tmp_path / "efi")
    assert 0 < (tmp_path / "core").stat().st_size < 1 << 20
    assert (tmp_path / "efi").read_bytes()[:2] == b"MZ"
