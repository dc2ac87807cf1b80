"""Our disk beside a bare Debian cloud image: from power on to ready, under the same emulator, in alternating rounds.

Both get a seed with the same words, one interface and the same kernel. Ready is, for us, the line READY: seed applied,
daemon's decision made; for Debian with cloud-init the line with which cloud-init ends. Two kinder measures of Debian stand
beside it, so that nobody is misled: its login prompt, and its login prompt with cloud-init switched off, when nothing
reads a seed. Processor seconds vary less than wall seconds on a machine that does other things too.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench import debian
from bench.compare import Row, Rows, held_to, said
from images import deb, place
from images.clock import epoch
from images.image import Workshop, build_all
from images.keys import DEVELOPMENT
from tests.support.vm import Bios, Drive, Machine

WITHIN = 1200.0
EDGEWAY, DEBIAN, BARE = "Edgeway", "Debian, cloud-init", "Debian, cloud-init off"
#: How many times as long as a bare Debian we may take.
MOST = 1.5
#: Wall and processor seconds of each round, by system and mark.
Seen = dict[tuple[str, str], list[tuple[float, float]]]
_MAC = "52:54:00:00:be:01"
_SEED = {
    "meta-data": "instance-id: bench-1\nlocal-hostname: h1\n",
    "user-data": "#cloud-config\nhostname: h1\n",
    "network-config": (
        f'version: 2\nethernets:\n  mgmt:\n    match: {{macaddress: "{_MAC}"}}\n    set-name: mgmt0\n    addresses: [192.0.2.2/24]\n'
    ),
}
#: A network without anybody.
_NETWORK = ("-netdev", "user,id=mgmt,restrict=on", "-device", f"virtio-net-pci,netdev=mgmt,mac={_MAC},romfile=")


@dataclass(frozen=True, slots=True)
class Measure:
    """What is started, and what the console says when it is there: marks in their order."""

    system: str
    disk: Path
    marks: dict[str, str]


def seed(directory: Path) -> Path:
    """Write the volume that both read."""
    contents, volume = directory / "seed", directory / "seed.iso"
    contents.mkdir()
    for name, text in _SEED.items():
        (contents / name).write_text(text)
    words: list[str | Path] = [
        "xorriso",
        "-as",
        "genisoimage",
        "-quiet",
        "-V",
        "cidata",
        "-J",
        "-R",
        "-o",
        volume,
        contents,
    ]
    subprocess.run(words, check=True, capture_output=True)
    return volume


def once(measure: Measure, volume: Path) -> dict[str, tuple[float, float]]:
    """Start one; return wall and processor seconds at each mark, whatever comes first."""
    drives = [Drive(measure.disk, "virtio", "qcow2", temporary=True), Drive(volume, readonly=True)]
    found = {}
    with Machine("bench-boot", Bios(), drives, extra=_NETWORK) as machine:
        left = dict(measure.marks)
        while left:
            match = machine.expect("|".join(f"(?P<{name}>{pattern})" for name, pattern in left.items()), WITHIN)
            name = str(match.lastgroup)
            found[name] = (machine.seconds, machine.cpu_seconds)
            del left[name]
    return found


def measures() -> list[Measure]:
    """Build what is not up to date; return what is started."""
    date = epoch(*deb.INPUTS)
    shop = Workshop(place.BUILD, place.BUILD / "cache", DEVELOPMENT, date)
    with place.alone():
        build_all(shop)
    full, plain = debian.make(date)
    login = r"login: "
    return [
        Measure(EDGEWAY, shop.at("disk.qcow2"), {"ready": r"edgeway: READY ", "login": r"nobody logs in here"}),
        Measure(DEBIAN, full, {"ready": r"Cloud-init v\. \S+ finished at", "login": login}),
        Measure(BARE, plain, {"login": login}),
    ]


def run(rounds: int = 3) -> Rows:
    """Return a row for each system and mark, and one for each Debian beside which ours is promised not to be slow."""
    chosen = measures()
    seen: Seen = {}
    with tempfile.TemporaryDirectory() as name:
        volume = seed(Path(name))
        for number in range(rounds):
            for measure in chosen:
                said(f"boot: round {number + 1} of {rounds}, {measure.system}")
                for mark, times in once(measure, volume).items():
                    seen.setdefault((measure.system, mark), []).append(times)
    sizes = {measure.system: measure.disk.stat().st_size for measure in chosen}
    return [*(row(system, mark, seen, sizes[system]) for system, mark in sorted(seen)), *promises(seen)]


def row(system: str, mark: str, seen: Seen, size: int) -> Row:
    """Return medians over the rounds, and how large the disk is."""
    times = seen[system, mark]
    return {
        "system": system,
        "until": mark,
        "wall s": round(statistics.median(wall for wall, _ in times), 1),
        "processor s": round(processor(times), 1),
        "least wall s": round(min(wall for wall, _ in times), 1),
        "disk MB": round(size / 1e6),
    }


def promises(seen: Seen) -> Rows:
    """Compare processor seconds until we are ready with those of each Debian, even if it reads no seed."""
    ours = processor(seen[EDGEWAY, "ready"])
    beside = ((DEBIAN, "ready"), (BARE, "login"))
    return [
        {"system": EDGEWAY, "until": f"ready, beside {system}, {mark}"}
        | held_to(ours / processor(seen[system, mark]), MOST)
        for system, mark in beside
    ]


def processor(times: list[tuple[float, float]]) -> float:
    """Return the median of the processor's seconds."""
    return statistics.median(cpu for _, cpu in times)
