"""The volume is found by its label, whoever made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance.box import volume


def iso(path: Path, label: str) -> Path:
    """Make a CD with a file."""
    path.with_suffix(".d").mkdir()
    (path.with_suffix(".d") / "meta-data").write_text("instance-id: i\n")
    command: list[str | Path] = [
        "xorriso",
        "-as",
        "genisoimage",
        "-quiet",
        "-V",
        label,
        "-J",
        "-R",
        "-o",
        path,
        path.with_suffix(".d"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return path


def fat(path: Path, label: str, bits: int) -> Path:
    """Make a FAT file system."""
    size = {12: 1, 16: 16, 32: 64}[bits] << 20
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.vfat", "-F", str(bits), "-n", label, path], check=True, capture_output=True)
    return path


def machine(directory: Path, **disks: Path) -> tuple[str, str]:
    """Lay out /sys and /dev with these disks."""
    for name, image in disks.items():
        block = directory / "sys/class/block" / name
        block.mkdir(parents=True)
        (block / "size").write_text("2048\n")
        (directory / "dev").mkdir(exist_ok=True)
        (directory / "dev" / name).symlink_to(image)
    return str(directory / "sys"), str(directory / "dev")


@pytest.mark.parametrize("word", ["cidata", "CIDATA"])
def test_a_cd(tmp_path: Path, word: str) -> None:
    """Upper and lower case are both in use."""
    assert volume.label(iso(tmp_path / "cd", word).read_bytes()[: volume.HEAD]) == ("iso9660", word)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_a_disk_with_fat(tmp_path: Path, bits: int) -> None:
    """Three forms, two places of the label."""
    assert volume.label(fat(tmp_path / "disk", "CIDATA", bits).read_bytes()[: volume.HEAD]) == ("vfat", "CIDATA")


@pytest.mark.parametrize("head", [b"", b"\0" * volume.HEAD, b"\xff" * volume.HEAD, b"short"])
def test_what_is_neither(head: bytes) -> None:
    """No label, no complaint."""
    assert volume.label(head) == ("", "")


def test_the_volume_is_found_among_disks(tmp_path: Path) -> None:
    """One without medium, one with another label, one that is a loop."""
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    right, other = iso(tmp_path / "right", "cidata"), iso(tmp_path / "other", "data")
    sys, dev = machine(tmp_path, loop0=right, sda=empty, sr0=other, sr1=right, vda1=tmp_path / "gone")
    assert volume.find(sys, dev) == ("iso9660", f"{dev}/sr1")


def test_there_may_be_none(tmp_path: Path) -> None:
    """Nor any disk at all."""
    assert volume.find(*machine(tmp_path)) == ("", "")


def test_a_drive_that_waits_for_its_driver_is_seen(tmp_path: Path) -> None:
    """A CD drive without a block device; a disk is none."""
    disk, drive = (tmp_path / "bus/scsi/devices" / name for name in ("0:0:0:0", "1:0:0:0"))
    for device, kind in ((disk, "0"), (drive, "5")):
        device.mkdir(parents=True)
        (device / "type").write_text(f"{kind}\n")
    assert volume.drives_without_driver(str(tmp_path))
    (drive / "block").mkdir()
    assert not volume.drives_without_driver(str(tmp_path))


def test_files_of_a_volume_are_read_up_to_a_length(tmp_path: Path) -> None:
    """One octet more than is judged, so that the judge sees it."""
    (tmp_path / "a").write_bytes(b"x" * (volume.LONGEST + 5))
    read = volume.reader(str(tmp_path))
    assert len(read("a") or b"") == volume.LONGEST + 1
    assert read("b") is None
