"""A bare Debian as it comes for clouds, to measure our image beside: the same kernel, the same GRUB, stock everything.

Debian's own cloud image is not fetched but made the same way, of Debian's packages: systemd with its stock units, cloud-init
with a NoCloud seed, netplan, an SSH server, Debian's initrd, an ext4 root that may be written. What starts is what Debian
enables; nothing is masked and nothing tuned.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from images import disk, place
from images.packages import Apt, publish, sources, stanzas
from images.recipe import ARCHITECTURE, SUITE
from images.rootfs import MERGED
from images.steps import Built, run, step

#: Of Debian's generic cloud image, what starts something or is read while it starts.
PACKAGES = (
    "?priority(required)",
    "?priority(important)",
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "systemd-timesyncd",
    "systemd-resolved",
    "udev",
    "dbus",
    "cloud-init",
    "cloud-guest-utils",
    "netplan.io",
    "openssh-server",
    "sudo",
    "unattended-upgrades",
    "python3",
    "apt",
    "locales",
    "fdisk",
    "e2fsprogs",
    "grub-common",
)
SIZES = {"bios": 1, "esp": 64, "root": 2048}
LINE = "root=PARTLABEL=root ro console=tty0 console=ttyS0,115200 quiet"
_GRUB = """\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
regexp --set=1:disk "^([^,]*)," "$root"
set root="$disk,gpt3"
linux /vmlinuz {line}
initrd /initrd.img
boot
"""


def make(date: int, build: Path = place.BUILD) -> tuple[Path, Path]:
    """Return the disk with cloud-init, and the one where the kernel's command line switches it off."""
    here = build / "cache" / "debian"
    with place.alone(build):
        index = _archive(build / "cache" / "apt", here)
        tree = step("bare Debian: packages", here / "tree", [Path(__file__)], [index], lambda part: _tree(part, index))
        root = step("bare Debian: root", here / "root.ext4", [], [tree], lambda part: _root(part, tree.output, date))
        return _disk(here, root, "cloud-init", "", date), _disk(
            here, root, "no-cloud-init", " cloud-init=disabled", date
        )


def _archive(cache: Path, here: Path) -> Built:
    apt, archive = Apt(cache, sources()), here / "archive"

    def choose(part: Path) -> None:
        archive.mkdir(parents=True, exist_ok=True)
        files = [apt.archives / each.file for each in apt.choose(PACKAGES)]
        part.write_text(publish(files, archive))

    return step("bare Debian: choosing", here / "Packages", [Path(__file__)], [], choose)


def _tree(tree: Path, index: Built) -> None:
    names = ",".join(each["Package"] for each in stanzas(index.output.read_text()))
    words = ["--quiet", "--mode=root", "--variant=essential", "--format=directory", f"--architectures={ARCHITECTURE}"]
    words += [f"--include={names}", f"--setup-hook={MERGED}", "--dpkgopt=force-unsafe-io"]
    archive = index.output.parent / "archive"
    run("mmdebstrap", *words, SUITE, tree, f"deb [trusted=yes] copy:{archive.resolve()} ./")
    (tree / "etc/fstab").write_text(
        "PARTLABEL=root / ext4 rw,discard,errors=remount-ro 0 1\nPARTLABEL=esp /boot/efi vfat defaults 0 0\n"
    )
    (tree / "boot/efi").mkdir(exist_ok=True)
    (tree / "etc/machine-id").write_text("")


def _root(file: Path, tree: Path, date: int) -> None:
    disk.make_ext(file, "ext4", "root", SIZES["root"], date, "-d", tree)


def _disk(here: Path, root: Built, name: str, words: str, date: int) -> Path:
    def build(part: Path) -> None:
        with tempfile.TemporaryDirectory(dir=here) as scratch:
            esp = Path(scratch, "esp")
            disk.make_esp(esp, _GRUB.format(line=LINE + words), date)
            disk.assemble(part, {"esp": esp, "root": root.output}, SIZES)

    return step(f"bare Debian: {name}.qcow2", here / f"{name}.qcow2", [Path(__file__)], [root], build).output
