import json
import subprocess
from pathlib import Path

import pytest

from images import disk
from images.image import FILES
from images.recipe import PARTITIONS


def parts(tmp_path: Path) -> disk.Parts:
    """Make the parts of a small disk."""
    for name in ("vmlinuz", "initrd", "root"):
        (tmp_path / name).write_bytes(name.encode() * 5000)
    return disk.Parts(tmp_path / "vmlinuz", tmp_path / "initrd", tmp_path / "root")


def made(tmp_path: Path) -> Path:
    """Make a disk."""
    found, kernel, target = parts(tmp_path), tmp_path / "kernel", tmp_path / "disk.qcow2"
    disk.make_kernel(kernel, found, 1_700_000_000)
    disk.make_disk(target, found, kernel, 1_700_000_000)
    return target


def test_partitions_follow_each_other_without_overlapping() -> None:
    """The first begins after a mebibyte, which holds the table."""
    begin = disk.starts({"a": 1, "b": 64})
    assert begin == {"a": 1, "b": 2, "": 66}


def test_the_two_slots_are_alike() -> None:
    """What fits in one fits in the other."""
    assert PARTITIONS["kernel-a"] == PARTITIONS["kernel-b"]
    assert PARTITIONS["root-a"] == PARTITIONS["root-b"]


def test_the_disk_has_the_partitions_of_the_design_by_their_labels(tmp_path: Path) -> None:
    """The names are what initrd, RAUC and systemd look for; the second is GRUB's, and data is last and may grow."""
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", made(tmp_path), raw], check=True)
    table = json.loads(subprocess.run(["sfdisk", "--json", raw], check=True, capture_output=True).stdout)[
        "partitiontable"
    ]
    names = [each["name"] for each in table["partitions"]]
    assert names == ["bios", "esp", "kernel-a", "root-a", "kernel-b", "root-b", "data"]
    with raw.open("rb") as file:
        for name, begins in (("root-a", b"root" * 100), ("root-b", bytes(400))):
            file.seek(disk.starts()[name] << 20)
            assert file.read(400) == begins


def test_only_the_data_are_found_by_their_type() -> None:
    """What makes a partition larger in a box must not take another one."""
    types = [line.partition("type=")[2].partition(",")[0] for line in disk.table().splitlines() if "type=" in line]
    named = (FILES / "usr/lib/edgeway-box/repart.d/data.conf").read_text().partition("Type=")[2].strip()
    assert types.count(named.upper()) == 1
    assert types[-1] == named.upper()


def test_a_disk_made_twice_is_the_same(tmp_path: Path) -> None:
    """In octets, and so is the kernel's file system."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert made(tmp_path / "one").read_bytes() == made(tmp_path / "two").read_bytes()
    assert (tmp_path / "one/kernel").read_bytes() == (tmp_path / "two/kernel").read_bytes()


def test_a_root_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Before it runs over into the other slot."""
    found = parts(tmp_path)
    with found.root.open("r+b") as file:
        file.truncate((PARTITIONS["root-a"] + 1) << 20)
    disk.make_kernel(tmp_path / "kernel", found, 1_700_000_000)
    with pytest.raises(SystemExit, match="root has 257 MiB, its partition 256"):
        disk.make_disk(tmp_path / "disk", found, tmp_path / "kernel", 1_700_000_000)
