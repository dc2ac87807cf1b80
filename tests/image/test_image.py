"""What is in the image, looked at without starting it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from images.place import ROOT
from images.recipe import PARTITIONS
from images.steps import sha256

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def listing(image: Path) -> dict[str, str]:
    """Return what is in the root: name to mode, as `ls` writes it."""
    said = subprocess.run(
        ["unsquashfs", "-ll", image / "root.squashfs"], check=True, capture_output=True, text=True
    ).stdout
    entries = [line.split(maxsplit=5) for line in said.splitlines() if "squashfs-root" in line]
    return {
        each[5].removeprefix("squashfs-root").partition(" -> ")[0]: f"{each[0]} {each[1]}"
        for each in entries
        if len(each) > 5
    }


def test_every_artefact_has_the_digest_that_the_manifest_says(image: Path) -> None:
    """Who downloads them compares."""
    artefacts = json.loads((image / "manifest.json").read_text())["artefacts"]
    assert {name: sha256(image / name) for name in artefacts} == {
        name: each["sha256"] for name, each in artefacts.items()
    }
    assert {"root.squashfs", "vmlinuz", "initrd", "disk.qcow2", "edgeway-oci.tar", "sbom.json"} <= set(artefacts)


def test_no_secret_and_no_identity_is_in_the_root(listing: dict[str, str]) -> None:
    """They are made at the first start; two boxes of one image would be each other otherwise."""
    assert not [name for name in listing if name.startswith("/etc/ssh/ssh_host_")]
    assert not [name for name in listing if name.startswith("/root/.ssh/")]
    assert listing["/etc/machine-id"].startswith("-r--r--r-- root/root")


def test_nobody_but_root_may_write_what_root_runs(listing: dict[str, str]) -> None:
    """Programs, units, configuration: what others may write are only places for what is temporary."""
    # Of a link everybody may do everything, which says nothing.
    found = [name for name, mode in listing.items() if mode[8] == "w" and mode[0] in "-d"]
    assert sorted(found) == ["/tmp", "/var/tmp"], found


def test_the_password_of_root_opens_nothing(image: Path) -> None:
    """A seed says who may come in, and how."""
    shadow = subprocess.run(
        ["unsquashfs", "-cat", image / "root.squashfs", "etc/shadow"], check=True, capture_output=True, text=True
    )
    secrets = {line.split(":")[0]: line.split(":")[1] for line in shadow.stdout.splitlines()}
    assert secrets["root"] in {"*", "!", "!*"}
    assert not [name for name, secret in secrets.items() if secret not in {"*", "!", "!*"}]


def test_the_program_and_its_engines_are_there(listing: dict[str, str]) -> None:
    """And a place for what stays."""
    wanted = {
        "/usr/bin/edgeway",
        "/usr/lib/edgeway/appliance",
        "/usr/bin/gobgpd",
        "/usr/sbin/nft",
        "/data",
        "/etc/edgeway",
    }
    assert wanted <= set(listing)


def test_there_is_room_for_growth(image: Path) -> None:
    """An update that is half as large again must still fit in its slot."""
    assert (image / "root.squashfs").stat().st_size * 3 < (PARTITIONS["root-b"] << 20) * 2
    kernel = (image / "vmlinuz").stat().st_size + (image / "initrd").stat().st_size
    assert kernel * 3 < (PARTITIONS["kernel-b"] << 20) * 2


def test_initrd_is_small(image: Path) -> None:
    """A BIOS reads it sector by sector."""
    assert (image / "initrd").stat().st_size < 3_000_000


def test_the_list_of_contents_names_kernel_engine_and_dependencies(image: Path) -> None:
    """Debian's packages with the digest of the file they came from; ours is what the list is about."""
    whole = json.loads((image / "sbom.json").read_text())
    found = {each["name"]: each for each in whole["components"]}
    assert {"gobgpd", "libc6", "systemd", "pydantic", "grpcio", "busybox-static"} <= set(found)
    assert any(name.startswith("linux-image-6") for name in found)
    debian = [each for each in whole["components"] if each["purl"].startswith("pkg:deb") and "hashes" not in each]
    assert {each["name"] for each in debian} == {"busybox-static", "grub-pc-bin", "grub-efi-amd64-bin"}
    assert not [each for each in found.values() if each["purl"].startswith("pkg:pypi") and not each["properties"]]
    assert whole["metadata"]["component"]["name"] == "edgeway"


def test_the_container_is_one_layer_that_starts_our_init(image: Path) -> None:
    """As others read it."""
    archive = f"oci-archive:{image / 'edgeway-oci.tar'}"
    said = subprocess.run(["skopeo", "inspect", "--config", archive], check=True, capture_output=True).stdout
    configuration = json.loads(said)
    assert configuration["config"]["Entrypoint"][-1].endswith("appliance/control/init.py")
    assert len(configuration["rootfs"]["diff_ids"]) == 1
    raw = subprocess.run(["skopeo", "inspect", "--raw", archive], check=True, capture_output=True).stdout
    assert (
        hashlib.sha256(raw).hexdigest()
        in subprocess.run(["tar", "-tf", image / "edgeway-oci.tar"], check=True, capture_output=True, text=True).stdout
    )


@pytest.mark.skipif(
    "EDGEWAY_IMAGE_DIR" in os.environ, reason="another image is judged than the one that would be built"
)
def test_building_it_again_makes_nothing(image: Path) -> None:
    """Whoever asks for what is there gets it at once: no step says that it works."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "images", "image"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert " ..." not in done.stdout, f"{done.stdout} after {time.monotonic() - begun:.1f} s"
