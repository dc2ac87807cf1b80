"""`python -m images bundle [--keys DIR]`: a signed update of both parts of a slot, build/image/update.raucb (design 0009).

RAUC makes and checks it: kernel and root with their digests, the digests signed, everything read through dm-verity.
`images/keys.py` says with which keys.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images import deb, place
from images.clock import epoch
from images.image import Workshop, build_all
from images.keys import DEVELOPMENT, keys
from images.steps import run, step

#: Of `compatible` in images/files/etc/rauc/system.conf: another machine refuses the bundle.
COMPATIBLE = "edgeway"


def manifest(version: str) -> str:
    """Return what RAUC reads first."""
    return (
        f"[update]\ncompatible={COMPATIBLE}\nversion={version}\n\n[bundle]\nformat=verity\n\n"
        "[image.kernel]\nfilename=kernel.img\n\n[image.rootfs]\nfilename=root.img\n"
    )


def make_bundle(file: Path, kernel: Path, root: Path, version: str, pair: tuple[Path, Path]) -> None:
    """Write the bundle of a kernel's file system and a root."""
    certificate, key = pair
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        contents = Path(name) / "contents"
        contents.mkdir()
        (contents / "kernel.img").hardlink_to(kernel)
        (contents / "root.img").hardlink_to(root)
        (contents / "manifest.raucm").write_text(manifest(version))
        made = Path(name) / "made.raucb"
        run("rauc", "--cert", certificate, "--key", key, "bundle", contents, made)
        made.rename(file)


def main(arguments: Sequence[str]) -> int:
    """Build the image if it is not up to date, and a bundle of it."""
    parser = argparse.ArgumentParser(prog="images bundle", description=__doc__)
    parser.add_argument("--keys", type=Path, default=DEVELOPMENT, help="directory with cert.pem and key.pem")
    parser.add_argument("--version", default="", help="what the bundle calls itself; the package's by default")
    given = parser.parse_args(arguments)
    with place.alone():
        shop = Workshop(place.BUILD, place.BUILD / "cache", given.keys, epoch(*deb.INPUTS))
        build_all(shop)
        print(bundle(shop, given.version))
    return 0


def bundle(shop: Workshop, version: str = "") -> Path:
    """Make the bundle of an image that is built."""
    pair, kernel, root = keys(shop.keys), shop.cache / "kernel.ext2", shop.at("root.squashfs")
    name = version or package_version(shop)
    return step(
        "update.raucb",
        shop.at("update.raucb"),
        [kernel, root, *pair, Path(__file__)],
        [name],
        lambda part: make_bundle(part, kernel, root, name, pair),
    ).output


def package_version(shop: Workshop) -> str:
    """Return the version of the package that the image was built from."""
    (package,) = shop.build.glob("edgeway_*.deb")
    return run("dpkg-deb", "--field", package, "Version").strip()
