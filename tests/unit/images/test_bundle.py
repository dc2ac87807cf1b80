"""A bundle as RAUC reads it: signed by our key, refused for another."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from images.bundle import COMPATIBLE, make_bundle
from images.image import FILES
from images.keys import keys


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """Give the two parts of a slot."""
    kernel, root = tmp_path / "kernel.ext2", tmp_path / "root.squashfs"
    dice = random.Random(1)
    kernel.write_bytes(dice.randbytes(1 << 16))
    root.write_bytes(dice.randbytes(1 << 18))
    return kernel, root


def test_rauc_finds_both_parts_and_trusts_the_certificate(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    """By slot class, for machines of our kind."""
    pair, made = keys(tmp_path / "keys"), tmp_path / "update.raucb"
    make_bundle(made, *parts, "1.2.3", pair)
    words = ["rauc", "--keyring", str(pair[0]), "info", "--output-format=json", str(made)]
    said = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert (said["compatible"], said["version"]) == (COMPATIBLE, "1.2.3")
    assert sorted(name for image in said["images"] for name in image) == ["kernel", "rootfs"]
    assert f"compatible={COMPATIBLE}\n" in (FILES / "etc/rauc/system.conf").read_text()


def test_another_key_is_not_trusted(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    """Nothing of the bundle is believed then."""
    made = tmp_path / "update.raucb"
    make_bundle(made, *parts, "1.2.3", keys(tmp_path / "keys"))
    stranger, _ = keys(tmp_path / "others")
    words = ["rauc", "--keyring", str(stranger), "info", str(made)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "verification failed" in done.stderr.lower()
