"""The image built a second time, elsewhere and from nothing but the same packages and sources, is the same in every octet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from images.place import ROOT
from images.steps import sha256

ARTEFACTS = ("root.squashfs", "vmlinuz", "initrd", "disk.qcow2", "edgeway-oci.tar", "sbom.json", "manifest.json")


@pytest.mark.image
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.environ.get("EDGEWAY_IMAGE") != "all", reason="builds everything anew: make image-test")
def test_two_builds_are_the_same(image: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Packages come from the cache of the first build, our own package is built anew as well."""
    build = tmp_path / "build"
    fetched, kept = image.parent / "cache/apt/cache/archives", build / "cache/apt/cache/archives"
    kept.parent.mkdir(parents=True)
    shutil.copytree(fetched, kept, copy_function=os.link)
    begun = time.monotonic()
    words = [sys.executable, "-m", "images", "image", "--build", str(build)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    record_property("measured", f"a build from nothing but packages took {time.monotonic() - begun:.0f} s")
    first = {name: sha256(image / name) for name in ARTEFACTS}
    assert {name: sha256(build / "image" / name) for name in ARTEFACTS} == first
    shutil.rmtree(build)  # pytest would keep it for three runs; what differs is kept
