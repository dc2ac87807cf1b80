import json
from pathlib import Path

from images import sbom

STATUS = """\
Package: less
Status: install ok installed
Version: 590-2
Description: pager
 that is long

Package: gone
Status: deinstall ok config-files
Version: 1
"""
INDEX = "Package: less\nVersion: 590-2\nSHA256: abcd\n"
PINS = """\
ruamel.yaml==0.18 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via edgeway
grpcio[x]==1.0 \\
    --hash=sha256:{c}
""".format(a="a" * 64, b="b" * 64, c="c" * 64)


def test_what_is_installed_is_listed_with_the_digest_of_its_file() -> None:
    """What was removed is not."""
    (found,) = sbom.debian(STATUS, INDEX)
    assert (found["name"], found["version"]) == ("less", "590-2")
    assert found["hashes"] == [{"alg": "SHA-256", "content": "abcd"}]


def test_pins_are_found_by_the_name_that_every_index_knows() -> None:
    """Whatever the case, the dots and the extras."""
    assert sbom.pinned(PINS) == {"ruamel-yaml": ["a" * 64, "b" * 64], "grpcio": ["c" * 64]}


def test_distributions_are_listed_with_the_digests_that_are_allowed(tmp_path: Path) -> None:
    """Their names come from their metadata, not from the directories."""
    metadata = tmp_path / "ruamel.yaml-0.18.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ruamel.yaml\nVersion: 0.18\n\nVersion: text\n")
    (found,) = sbom.python(tmp_path, PINS)
    assert found["purl"] == "pkg:pypi/ruamel-yaml@0.18"
    assert [each["value"] for each in found["properties"]] == ["a" * 64, "b" * 64]


def test_the_bill_is_the_same_for_the_same_parts(tmp_path: Path) -> None:
    """In whatever order they come; our own package is what it is about and not a part."""
    package = tmp_path / "edgeway.deb"
    package.write_bytes(b"deb")
    parts = [
        *sbom.debian(STATUS, INDEX),
        {"type": "library", "bom-ref": "b", "name": "b"},
        {"bom-ref": "e", "name": "edgeway"},
    ]
    text = sbom.bill("1", package, parts, 0)
    assert text == sbom.bill("1", package, reversed(parts), 0)
    whole = json.loads(text)
    assert [each["name"] for each in whole["components"]] == ["b", "less"]
    assert whole["metadata"]["component"]["name"] == "edgeway"
    assert whole["metadata"]["timestamp"] == "1970-01-01T00:00:00Z"


def test_the_manifest_has_the_digests_of_what_was_made(tmp_path: Path) -> None:
    """And the tools that decide over octets."""
    (tmp_path / "initrd").touch()
    whole = json.loads(sbom.manifest("1", [tmp_path / "initrd"], sbom.tools("zstd\t1.5\n"), 0))
    assert whole["artefacts"]["initrd"]["sha256"].startswith("e3b0c442")
    assert whole["tools"] == {"zstd": "1.5"}


def test_what_the_tools_leave_behind_is_listed() -> None:
    """Busybox is in the initrd and GRUB on the disk, though no package of the tree says so."""
    found = sbom.built_in(dict.fromkeys(sbom.BUILT_IN, "1"))
    assert {each["name"] for each in found} == set(sbom.BUILT_IN)
