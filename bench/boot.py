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
from images import deb, place
from images.clock import epoch
from images.image import Workshop, build_all
from images.keys import DEVELOPMENT
from tests.support.vm import Bios, Drive, Machine

WITHIN = 1200.0
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
        Measure("Edgeway", shop.at("disk.qcow2"), {"ready": r"edgeway: READY ", "login": r"nobody logs in here"}),
        Measure("Debian, cloud-init", full, {"ready": r"Cloud-init v\. \S+ finished at", "login": login}),
        Measure("Debian, cloud-init off", plain, {"login": login}),
    ]


def run(rounds: int = 3) -> list[dict[str, object]]:
    """Return a row for each system and mark: medians over alternating rounds, and how large the disk is."""
    chosen = measures()
    seen: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        volume = seed(Path(name))
        for _ in range(rounds):
            for measure in chosen:
                for mark, times in once(measure, volume).items():
                    seen.setdefault((measure.system, mark), []).append(times)
    sizes = {measure.system: measure.disk.stat().st_size for measure in chosen}
    return [
        {
            "system": system,
            "until": mark,
            "wall s": round(statistics.median(wall for wall, _ in times), 1),
            "processor s": round(statistics.median(cpu for _, cpu in times), 1),
            "least wall s": round(min(wall for wall, _ in times), 1),
            "disk MB": round(sizes[system] / 1e6),
        }
        for (system, mark), times in sorted(seen.items())
    ]
