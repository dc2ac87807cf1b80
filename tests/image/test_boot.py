"""Every way in which the image starts, up to the line that says it is ready."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from images.recipe import PARTITIONS
from tests.support.disks import MIB, convert, extract, file_of, overwrite, partition
from tests.support.vm import Bios, Boot, Direct, Drive, Machine, Uefi

#: A machine that emulates beside others; nothing is judged by it but that the box starts at all.
WITHIN = 900.0
READY = r"edgeway: READY node=(?P<node>\S+) slot=(?P<slot>\S+) version=\S+ up=(?P<up>[\d.]+)s"

Recorder = Callable[[str, object], None]

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]
more = pytest.mark.skipif(os.environ.get("EDGEWAY_IMAGE") != "all", reason="starts a machine each: make image-test")


def boot(name: str, how: Boot, drive: Drive, record: Recorder) -> str:
    """Start a machine; return the slot that it says it runs from."""
    with Machine(name, how, [drive]) as machine:
        ready = machine.expect(READY, WITHIN)
        assert ready["node"] == "-", "it has no intent and must not say that it is somebody"
        line = f"{name}: ready after {machine.seconds:.1f} s, {machine.cpu_seconds:.1f} s of processor time, up {ready['up']} s"
        record("measured", line)
        return ready["slot"]


def test_kernel_initrd_and_root_start_at_once(image: Path, record_property: Recorder) -> None:
    """No firmware, no GRUB, no disk: how most tests and labs start a machine."""
    assert boot("direct", Direct(image), Drive(image / "root.squashfs", readonly=True), record_property) == "-"


def test_the_disk_starts_under_bios_on_virtio(image: Path, record_property: Recorder) -> None:
    """GRUB's core is found by the boot sector, and the kernel by its own drivers."""
    assert (
        boot("bios-virtio", Bios(), Drive(image / "disk.qcow2", "virtio", "qcow2", temporary=True), record_property)
        == "a"
    )


@more
def test_the_disk_starts_under_bios_on_ide(image: Path, record_property: Recorder) -> None:
    """What `qemu -drive file=disk.qcow2` does."""
    assert boot("bios-ide", Bios(), Drive(image / "disk.qcow2", "ide", "qcow2", temporary=True), record_property) == "a"


@more
def test_the_disk_starts_under_uefi(image: Path, record_property: Recorder) -> None:
    """The same disk, by the program on its EFI system partition."""
    assert boot("uefi", Uefi(), Drive(image / "disk.qcow2", "virtio", "qcow2", temporary=True), record_property) == "a"


@more
def test_a_machine_id_is_kept_on_the_data_partition(image: Path, tmp_path: Path) -> None:
    """Two starts with one disk; the power is cut between them, and the first must not have been in memory only."""
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes((image / "disk.qcow2").read_bytes())
    seen = []
    for number in (1, 2):
        with Machine(f"kept-{number}", Bios(), [Drive(disk, "virtio", "qcow2")]) as machine:
            machine.expect(READY, WITHIN)
            assert "no data" not in machine.console
            machine.power_cut()
        convert(disk, tmp_path / "raw")
        seen.append(file_of(extract(tmp_path / "raw", "data", tmp_path / "data"), "/machine-id").strip())
    assert len(seen[0]) == 32, seen
    assert seen[0] == seen[1]


@more
def test_a_larger_disk_has_more_room_for_the_data(image: Path, tmp_path: Path) -> None:
    """The partition and its file system take what was gained, once, and what was there stays."""
    disk, raw = tmp_path / "disk.qcow2", tmp_path / "raw"
    words: list[str | Path] = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        image / "disk.qcow2",
        disk,
        "3G",
    ]
    subprocess.run(words, check=True)
    with Machine("grown", Bios(), [Drive(disk, "virtio", "qcow2")]) as machine:
        more = machine.expect(r"edgeway: the disk has become larger: (\d+) MiB more for the data", WITHIN)
        machine.power_cut()
    convert(disk, raw)
    start, size = partition(raw, "data")
    assert size // MIB == PARTITIONS["data"] + int(more[1])
    assert (3 << 30) - start - size <= MIB
    data = extract(raw, "data", tmp_path / "data")
    assert len(file_of(data, "/machine-id").strip()) == 32
    said = subprocess.run(["dumpe2fs", "-h", data], check=True, capture_output=True, text=True).stdout
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    assert int(fields["Block count"]) * int(fields["Block size"]) == size
    with Machine("grown-again", Bios(), [Drive(disk, "virtio", "qcow2")]) as machine:
        machine.expect(READY, WITHIN)
        assert "no data" not in machine.console


@more
def test_a_slot_without_a_kernel_gives_way_to_the_other(image: Path, tmp_path: Path) -> None:
    """GRUB says so and tries on; with nothing in slot b it counts anew and never hangs."""
    disk = tmp_path / "disk.raw"
    convert(image / "disk.qcow2", disk)
    overwrite(disk, "kernel-a")
    with Machine("no-kernel", Bios(), [Drive(disk)]) as machine:
        machine.expect(r"edgeway: slot a has no kernel", WITHIN)
        machine.expect(r"edgeway: no slot has a try left, counting anew", WITHIN)
        machine.expect(r"edgeway: slot b has no kernel", WITHIN)


@more
def test_a_root_that_cannot_be_read_starts_the_machine_again(image: Path, tmp_path: Path) -> None:
    """So that GRUB counts a try: a box must not wait in the initrd for somebody."""
    disk = tmp_path / "disk.raw"
    convert(image / "disk.qcow2", disk)
    overwrite(disk, "root-a")
    with Machine("no-root", Bios(), [Drive(disk)]) as machine:
        machine.expect(r"tries 1 0, proven A", WITHIN)
        machine.expect(r"edgeway: no root: .* starting again", WITHIN)
        machine.expect(r"tries 2 0, proven A", WITHIN)


@more
def test_data_that_cannot_be_read_are_replaced_by_memory(image: Path, tmp_path: Path) -> None:
    """A box that answers is worth more than its journal, and it says what it does."""
    disk = tmp_path / "disk.raw"
    convert(image / "disk.qcow2", disk)
    overwrite(disk, "data")
    with Machine("no-data", Bios(), [Drive(disk)]) as machine:
        machine.expect(r"edgeway: no data on PARTLABEL=data", WITHIN)
        assert machine.expect(READY, WITHIN)["slot"] == "a"
