import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from images import oci


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make an archive of a small tree."""
    tree = tmp_path / "tree"
    for name in ("usr/bin/edgeway", "usr/lib/modules/6.1/vrf.ko", "usr/lib/edgeway/x.py", "boot/vmlinuz"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/bin/again").hardlink_to(tree / "usr/bin/edgeway")
    oci.make_oci(tmp_path / "oci.tar", tree, "1.2", 1_700_000_000)
    return tmp_path / "oci.tar"


def read(archive: Path, digest: str) -> bytes:
    """Return a blob."""
    with tarfile.open(archive) as opened:
        found = opened.extractfile(f"blobs/{digest.replace(':', '/')}")
        assert found is not None
        return found.read()


def test_every_blob_has_the_digest_that_it_is_named_by(archive: Path) -> None:
    """Engines refuse it otherwise."""
    with tarfile.open(archive) as opened:
        names = [name for name in opened.getnames() if name.startswith("blobs/")]
    assert len(names) == 3
    assert all(
        hashlib.sha256(read(archive, name.removeprefix("blobs/"))).hexdigest() == Path(name).name for name in names
    )


def test_a_tool_of_others_understands_it(archive: Path) -> None:
    """Its name, and what is started in it."""
    words = ["skopeo", "inspect", "--config", f"oci-archive:{archive}"]
    said = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    assert said["config"]["Entrypoint"][0] == "/usr/bin/python3"
    assert said["config"]["Labels"]["org.opencontainers.image.version"] == "1.2"
    assert said["created"] == "2023-11-14T22:13:20Z"


def test_the_layer_is_the_tree_without_what_only_a_machine_needs(archive: Path, tmp_path: Path) -> None:
    """No kernel, no modules; links of both kinds are links."""
    with tarfile.open(archive) as opened:
        index = json.loads(opened.extractfile("index.json").read())  # type: ignore[union-attr]
    manifest = json.loads(read(archive, index["manifests"][0]["digest"]))
    (tmp_path / "layer").write_bytes(read(archive, manifest["layers"][0]["digest"]))
    with tarfile.open(tmp_path / "layer", "r:gz") as layer:
        found = {member.name: member for member in layer.getmembers()}
    assert list(found) == [
        "bin", "usr", "usr/bin", "usr/bin/again", "usr/bin/edgeway", "usr/lib", "usr/lib/edgeway", "usr/lib/edgeway/x.py"
    ]  # fmt: skip
    assert found["bin"].linkname == "usr/bin"
    assert found["usr/bin/edgeway"].islnk()
    assert all(member.mtime <= 1_700_000_000 for member in found.values())


def test_an_archive_made_twice_is_the_same(archive: Path, tmp_path: Path) -> None:
    """Whenever it is made."""
    os.utime(tmp_path / "tree/usr/bin/edgeway")
    oci.make_oci(tmp_path / "again.tar", tmp_path / "tree", "1.2", 1_700_000_000)
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
