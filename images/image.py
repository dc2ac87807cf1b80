"""`python -m images image`: build/image/ with everything people boot or name in a topology (design 0009).

    root.squashfs vmlinuz initrd   what tests start at once, and what an update carries
    disk.qcow2                     a machine: BIOS and UEFI, IDE and virtio
    edgeway-oci.tar                a container
    sbom.json manifest.json        what is in them, and their digests

Needs root (packages run scripts), no loop device, no mount, no container engine. `--refresh` asks the archives anew;
without it the packages of the last time are taken, and nothing is fetched.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from images import deb, disk, grub, initrd, oci, packages, place, recipe, rootfs, sbom, steps
from images.clock import epoch
from images.keys import DEVELOPMENT, keys
from images.steps import Built, run, say, step

HERE = Path(__file__).parent
FILES = HERE / "files"
_TOOLS = (
    "squashfs-tools",
    "busybox-static",
    "grub-pc-bin",
    "grub-efi-amd64-bin",
    "e2fsprogs",
    "dosfstools",
    "mtools",
    "qemu-utils",
    "mmdebstrap",
    "zstd",
)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where things are built, whose updates they take, and the only date that they know."""

    build: Path
    cache: Path
    keys: Path
    date: int

    def at(self, name: str) -> Path:
        """Return where an artefact is."""
        return self.build / "image" / name


def build_all(shop: Workshop, *, refresh: bool = False) -> list[Path]:
    """Make what is not up to date; return all artefacts."""
    package = deb.build_package(shop.build)
    archive, names = debian(shop, package, refresh=refresh)
    tools = run("dpkg-query", "--show", *_TOOLS)
    base = step(
        "Debian's packages into a tree (a minute)",
        shop.cache / "base",
        [HERE / "rootfs.py"],
        [archive, recipe.SUITE, recipe.INSTALLED, recipe.EXCLUDED, recipe.INCLUDED, recipe.MODULES],
        lambda part: rootfs.make_base(part, archive.output.parent, names),
    )
    trusted, _ = keys(shop.keys)
    root = step(
        "the root tree",
        shop.cache / "root",
        [HERE / "rootfs.py", HERE / "recipe.py", FILES, package],
        [base, trusted.read_text(), shop.date],
        lambda part: rootfs.make_root(part, base.output, package, FILES, trusted, shop.date),
    )
    made = [*machine(shop, base, root, tools), container(shop, root), contents(shop, package, archive, root, tools)]
    return [one.output for one in (*made, summary(shop, made, tools))]


def debian(shop: Workshop, package: Path, *, refresh: bool) -> tuple[Built, list[str]]:
    """Return the local archive of the Debian packages, and their names."""
    apt = packages.Apt(shop.cache / "apt", found := packages.sources())
    depends = run("dpkg-deb", "--field", package, "Depends", "Pre-Depends")
    index = apt.archives / "Packages"
    if refresh:
        steps.remove(index)

    def make(part: Path) -> None:
        apt.update()
        chosen = apt.choose([*recipe.PACKAGES, package])
        files = [apt.archives / each.file for each in chosen if each.name != "edgeway"]
        part.write_text(packages.publish(files, apt.archives))

    paths = [HERE / "packages.py"]
    built = step("Debian's packages from the archives", index, paths, [recipe.PACKAGES, found, depends], make)
    text = built.output.read_text()
    # What was chosen is another thing than what it was chosen from: the same choice gives the same tree.
    return Built(index, text), [each["Package"] for each in packages.stanzas(text)]


def machine(shop: Workshop, base: Built, root: Built, tools: str) -> list[Built]:
    """Make root, kernel, initrd and the disk of them."""
    date = shop.date
    kernel = step(
        "vmlinuz", shop.at("vmlinuz"), [], [base], lambda part: shutil.copyfile(the_kernel(base.output), part)
    )
    early = step(
        "initrd",
        shop.at("initrd"),
        [HERE / "initrd.py", initrd.INIT, HERE / "recipe.py"],
        [base, tools, date],
        lambda part: initrd.make_initrd(part, base.output, date),
    )
    squashfs = step(
        "root.squashfs",
        shop.at("root.squashfs"),
        [],
        [root, tools, date],
        lambda part: rootfs.make_squashfs(part, root.output, date),
    )
    parts = disk.Parts(kernel.output, early.output, squashfs.output)
    slot = step(
        "the kernel's partition",
        shop.cache / "kernel.ext2",
        [HERE / "disk.py", HERE / "recipe.py"],
        [kernel, early, tools, date],
        lambda part: disk.make_kernel(part, parts, date),
    )
    whole = step(
        "disk.qcow2",
        shop.at("disk.qcow2"),
        [HERE / "disk.py", HERE / "grub.py", grub.CONFIGURATION, HERE / "recipe.py"],
        [slot, squashfs, tools, date],
        lambda part: disk.make_disk(part, parts, slot.output, date),
    )
    return [squashfs, kernel, early, whole]


def container(shop: Workshop, root: Built) -> Built:
    """Make the container of the root tree."""
    return step(
        "edgeway-oci.tar",
        shop.at("edgeway-oci.tar"),
        [HERE / "oci.py", HERE / "recipe.py"],
        [root, deb.version(), shop.date],
        lambda part: oci.make_oci(part, root.output, deb.version(), shop.date),
    )


def contents(shop: Workshop, package: Path, archive: Built, root: Built, tools: str) -> Built:
    """Write down what is in them."""
    pins = place.ROOT / "requirements.txt"

    def make(part: Path) -> None:
        status = (root.output / "var/lib/dpkg/status").read_text()
        found = [*sbom.debian(status, archive.output.read_text()), *sbom.built_in(sbom.tools(tools))]
        found += sbom.python(root.output / "usr/lib/edgeway", pins.read_text())
        part.write_text(sbom.bill(deb.version(), package, found, shop.date))

    return step("sbom.json", shop.at("sbom.json"), [HERE / "sbom.py", package, pins], [root, tools], make)


def summary(shop: Workshop, made: Sequence[Built], tools: str) -> Built:
    """Write down what was made."""
    files = [one.output for one in made]
    return step(
        "manifest.json",
        shop.at("manifest.json"),
        [HERE / "sbom.py"],
        [*made, tools],
        lambda part: part.write_text(sbom.manifest(deb.version(), files, sbom.tools(tools), shop.date)),
    )


def the_kernel(tree: Path) -> Path:
    """Return the kernel in a tree."""
    (found,) = (tree / "boot").glob("vmlinuz-*")
    return found


def main(arguments: Sequence[str]) -> int:
    """Build everything and say what it is."""
    parser = argparse.ArgumentParser(
        prog="python -m images image", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--refresh", action="store_true", help="take the newest packages of the archives")
    parser.add_argument("--keys", type=Path, default=DEVELOPMENT, help="whose updates are taken: cert.pem, key.pem")
    parser.add_argument("--build", type=Path, default=place.BUILD, help="where, instead of build/")
    chosen = parser.parse_args(arguments)
    if os.geteuid() != 0:
        raise SystemExit("packages run scripts as root while they are installed into the tree: build as root")
    begun, build = time.monotonic(), chosen.build.resolve()
    shop = Workshop(build, build / "cache", chosen.keys, epoch(*deb.INPUTS))
    with place.alone(build):
        for path in build_all(shop, refresh=chosen.refresh):
            print(f"{os.path.relpath(path)}  {path.stat().st_size / 1e6:.1f} MB")
    say(f"up to date after {time.monotonic() - begun:.1f} s")
    return 0
