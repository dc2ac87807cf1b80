"""Updates of a booted box: the other slot takes over, a bad one gives way, and power cuts at any moment do no harm.

With EDGEWAY_IMAGE=all. EDGEWAY_CUTS says how many power cuts (20), EDGEWAY_SEED at which moments.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.bundle import make_bundle
from images.keys import DEVELOPMENT, keys
from images.place import BUILD
from tests.support.lane import keep
from tests.support.vm import Bios, Drive, Machine

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(os.environ.get("EDGEWAY_IMAGE") != "all", reason="takes a quarter of an hour: make image-test"),
]

ROOT = BUILD / "cache/root"
BOOT, SHELL = 300.0, 120.0
CUTS, SEED = int(os.environ.get("EDGEWAY_CUTS", "20")), int(os.environ.get("EDGEWAY_SEED", "1"))
NIC = ("-nic", "user,model=virtio-net-pci,restrict=on")
MOMENT = "waiting"
PASSWORD = "for this test"
INTENT = """
zone: {name: az1, as: 64512, composed: "fd00:ed9e::/48"}
nodes:
  r1:
    id: 1
    roles: [route-server]
    engine: native
    loopback: {ipv4: 10.255.0.1, ipv6: "fd00:ff::1"}
    fabric: {interface: eth0, ipv4: 10.0.0.1/24, ipv6: "fd00:fab::1/64"}
"""


@dataclass(frozen=True)
class Box:
    """A disk that was booted once with a seed, and a disk with bundles."""

    disk: Path
    bundles: Path

    def copy(self, name: str) -> Box:
        """Return a box of its own with the same contents."""
        disk = self.bundles.with_name(name)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", self.disk, disk], check=True)
        return Box(disk, self.bundles)

    @contextmanager
    def boot(self, *more: Drive, words: Sequence[str] = ()) -> Iterator[Machine]:
        """Start it from its disk; `words` are more for QEMU."""
        drives = [Drive(self.disk, form="qcow2"), Drive(self.bundles, readonly=True), *more]
        with Machine(self.disk.stem, Bios(), drives, extra=(*NIC, *words)) as machine:
            yield machine


def ready(machine: Machine) -> tuple[str, str]:
    """Wait until the box is ready; return its node and slot."""
    found = machine.expect(r"edgeway: READY node=(\S+) slot=(\S+) version", within=BOOT)
    return found[1], found[2]


def log_in(machine: Machine) -> None:
    """Become root on the console."""
    # It may have asked before the box was ready.
    machine.send("\n")
    machine.expect(r"login: ", SHELL)
    machine.send("tester\n")
    machine.expect(r"Password: ", SHELL)
    machine.send(f"{PASSWORD}\n")
    machine.expect(r"tester@r1:\S*\$ ", SHELL)
    machine.send("sudo -s\n")
    machine.expect(r"root@r1:\S*# ", SHELL)
    run(machine, "mkdir -p /run/bundles && mount -o ro /dev/vdb /run/bundles")


def run(machine: Machine, command: str, within: float = SHELL) -> str:
    """Run a command that must succeed on the console; return what it prints."""
    machine.send(f"{command}; echo status=$?\n")
    machine.expect(re.escape("echo status=$?"), within)
    found = machine.expect(r"(?s)(.*?)status=(\d+)", within)
    assert found[2] == "0", found[1]
    return found[1]


def slots(machine: Machine) -> dict[str, dict[str, object]]:
    """Return what the box knows of its slots."""
    said = run(machine, "edgeway box slots --json")
    rows = json.loads(said[said.index("[") : said.rindex("]") + 1])
    return {row["letter"]: row for row in rows}


def eventually(machine: Machine, holds: Callable[[], bool], within: float, what: str) -> None:
    """Wait for something of the box."""
    deadline = time.monotonic() + within
    while not holds():
        assert machine.running, what
        assert time.monotonic() < deadline, what
        time.sleep(1)


def seed_volume(file: Path) -> None:
    """Write a FAT volume that makes the box node r1, with a person who may become root on the console."""
    made = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True)
    person = {"name": "tester", "shell": "/bin/bash", "lock_passwd": False, "passwd": made.stdout.strip()}
    user = {"users": [person | {"sudo": "ALL=(ALL) NOPASSWD:ALL"}], "edgeway": {"node": "r1", "intent": INTENT}}
    subprocess.run(["mkfs.vfat", "-C", "-n", "CIDATA", file, "1024"], check=True, capture_output=True)
    texts = {"meta-data": "instance-id: i-1\nlocal-hostname: r1\n", "user-data": f"#cloud-config\n{json.dumps(user)}\n"}
    for name, text in texts.items():
        subprocess.run(["mcopy", "-i", file, "-", f"::{name}"], check=True, input=text.encode())


def bundles_volume(file: Path, image: Path) -> None:
    """Write a file system with a good bundle, one whose root is empty, and one whose daemon does not start."""
    directory = file.with_suffix(".d")
    directory.mkdir()
    pair, kernel = keys(DEVELOPMENT), BUILD / "cache/kernel.ext2"
    (directory / "nothing").mkdir()
    squash = ("-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3")
    for name, source, words in (("empty", directory / "nothing", ()), ("broken", ROOT, ("-e", "usr/lib/edgeway"))):
        subprocess.run(["mksquashfs", source, directory / f"{name}.img", *squash, *words], check=True)
    contents = file.with_suffix(".c")
    contents.mkdir()
    make_bundle(contents / "good.raucb", kernel, image / "root.squashfs", "9.0.0", pair)
    for name in ("empty", "broken"):
        make_bundle(contents / f"{name}.raucb", kernel, directory / f"{name}.img", f"9.0.0-{name}", pair)
    size = sum(path.stat().st_size for path in contents.iterdir()) // (1 << 20) * 5 // 4 + 32
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", contents, file, f"{size}M"], check=True)


@pytest.fixture(scope="module")
def box(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Give a box that was set up and shut down in order."""
    # Hundreds of megabytes: not kept for three runs as pytest does.
    directory = tmp_path_factory.mktemp("update")
    made = Box(image / "disk.qcow2", directory / "bundles").copy("first.qcow2")
    try:
        bundles_volume(made.bundles, image)
        seed_volume(directory / "seed")
        with made.boot(Drive(directory / "seed", readonly=True)) as machine:
            assert ready(machine) == ("r1", "a")
            log_in(machine)
            eventually(machine, lambda: slots(machine)["a"]["tries"] == 0, BOOT, "the first slot is proven")
            machine.send("poweroff\n")
            machine.wait(SHELL)
        yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_an_update_takes_over_and_a_bad_one_gives_way(box: Box, record_property: Callable[[str, object], None]) -> None:
    """To slot b; then two bad ones into slot a, each left for b again; the intent is there throughout."""
    with box.copy("taken.qcow2").boot() as machine:
        assert ready(machine) == ("r1", "a")
        log_in(machine)
        begun = time.monotonic()
        machine.send("edgeway box update /run/bundles/good.raucb --wait 1\n")
        machine.expect("starting the new slot", BOOT)
        written = time.monotonic() - begun
        assert ready(machine) == ("r1", "b")
        record_property("measured", f"update: written in {written:.0f} s, ready {time.monotonic() - begun:.0f} s after")
        log_in(machine)
        eventually(machine, lambda: bool(slots(machine)["b"]["proven"]), BOOT, "the new slot is proven")
        assert slots(machine)["b"]["version"] == "9.0.0"
        for name, seen in (("empty", "has no .sbin.init"), ("broken", "back to the one that did")):
            machine.send(f"edgeway box update /run/bundles/{name}.raucb --wait 1\n")
            machine.expect("starting the new slot", BOOT)
            machine.expect(r"edgeway: slot a, order A B", BOOT)
            machine.expect(f"(?i){seen}", BOOT)
            assert ready(machine) == ("r1", "b")
            log_in(machine)
            found = slots(machine)
            assert (found["a"]["proven"], found["b"]["next"]) == (False, True)


def test_a_bundle_of_strangers_is_refused(box: Box, tmp_path: Path) -> None:
    """And nothing of the box is touched."""
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    part = tmp_path / "part"
    part.write_bytes(random.Random(1).randbytes(1 << 16))
    make_bundle(stranger / "bad.raucb", part, part, "6.6.6", keys(tmp_path / "keys"))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", stranger, tmp_path / "disk", "8M"], check=True)
    with Box(box.copy("stranger.qcow2").disk, tmp_path / "disk").boot() as machine:
        assert ready(machine) == ("r1", "a")
        log_in(machine)
        machine.send("edgeway box update /run/bundles/bad.raucb\n")
        machine.expect("bad.raucb is refused: .*signature", SHELL)
        assert not slots(machine)["b"]["good"]


@pytest.fixture(scope="module")
def waiting(box: Box) -> Box:
    """Give the box as it is when somebody is about to update it: its disk holds that moment."""
    made = box.copy("waiting.qcow2")
    with made.boot() as machine:
        assert ready(machine) == ("r1", "a")
        log_in(machine)
        keep(machine, MOMENT)
    return made


@contextmanager
def updating(waiting: Box, name: str) -> Iterator[tuple[Box, Machine]]:
    """Have a box of its own, a moment before it is updated; its disk is removed after."""
    box = Box(waiting.disk.with_name(name), waiting.bundles)
    shutil.copyfile(waiting.disk, box.disk)
    try:
        with box.boot(words=("-loadvm", MOMENT)) as machine:
            machine.send("edgeway box update /run/bundles/good.raucb --wait 1\n")
            yield box, machine
    finally:
        box.disk.unlink()


def cut_once(waiting: Box, name: str, moment: float) -> tuple[str, str]:
    """Take the power away `moment` seconds after an update was asked for; return node and slot of the next start."""
    with updating(waiting, name) as (box, machine):
        time.sleep(moment)  # the moment is what is tested
        machine.power_cut()
        with box.boot() as again:
            return ready(again)


def test_the_power_may_go_at_any_moment_of_an_update(
    waiting: Box, record_property: Callable[[str, object], None]
) -> None:
    """While it is written, while the new slot starts, while it is proven: the box starts, with its intent."""
    dice, lanes = random.Random(SEED), os.cpu_count() or 1
    with updating(waiting, "timed.qcow2") as (_, machine):
        ready(machine)
        whole = machine.seconds
    moments = [dice.uniform(0, whole * 1.2) for _ in range(CUTS)]
    with ThreadPoolExecutor(lanes) as pool:
        starts = [pool.submit(cut_once, waiting, f"cut{number}.qcow2", at) for number, at in enumerate(moments)]
    came = [start.result() for start in starts]
    told = [f"{at:.1f} s of {whole:.0f}: {node}, slot {slot}" for at, (node, slot) in zip(moments, came, strict=True)]
    assert {node for node, _ in came} == {"r1"}, told
    again = Counter(slot for _, slot in came)
    record_property("measured", f"power cuts: {CUTS}, started again from a {again['a']} times, b {again['b']}")
