import subprocess
from pathlib import Path

import pytest

from images.packages import Package, publish, sources, stanzas

DEBIAN = """\
Types: deb
URIs: http://archive.example/debian
Suites: bookworm bookworm-updates

Types: deb
URIs: http://archive.example/other
Suites: trixie
"""


def test_only_sources_of_the_suite_are_taken(tmp_path: Path) -> None:
    """In both forms; what is of another suite, backported, or switched off is not."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://archive.example/off bookworm main\n"
        "deb http://archive.example/debian bookworm main\n"
        "deb [signed-by=/k] http://archive.example/security bookworm-security main\n"
        "deb http://archive.example/debian bookworm-backports main\n"
        "deb-src http://archive.example/debian bookworm main\n"
        "deb http://vendor.example/x sdk-bookworm main\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(DEBIAN)
    (tmp_path / "sources.list.d/vendor.sources").write_text("Types: deb\nSuites: sdk-bookworm\n")
    (tmp_path / "sources.list.d/old.list.disabled").write_text("deb http://archive.example/debian bookworm main\n")
    found = sources(tmp_path)
    assert found["sources.list"] == (
        "deb http://archive.example/debian bookworm main\n"
        "deb [signed-by=/k] http://archive.example/security bookworm-security main\n"
    )
    assert found["debian.sources"] == DEBIAN.partition("\n\n")[0] + "\n"
    assert set(found) == {"sources.list", "debian.sources"}


def test_a_machine_without_the_suite_is_told(tmp_path: Path) -> None:
    """Before anything is fetched."""
    with pytest.raises(SystemExit, match="no source of bookworm"):
        sources(tmp_path)


def test_a_file_is_named_as_apt_names_it() -> None:
    """A colon of an epoch is written as an address has it."""
    assert Package("rauc", "1:1.8-2", "amd64").file == "rauc_1%3a1.8-2_amd64.deb"


def test_an_archive_is_what_apt_reads(tmp_path: Path) -> None:
    """Fields of the package, where it lies, and its digest; of a package from elsewhere a link lies beside the others."""
    tree, archive = tmp_path / "tree", tmp_path / "archive"
    (tree / "DEBIAN").mkdir(parents=True)
    archive.mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: probe\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: short\n long\n"
    )
    file = tmp_path / "probe_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, file], check=True, capture_output=True)
    (found,) = stanzas(publish([file], archive))
    assert (found["Package"], found["Filename"], found["Description"]) == ("probe", "./probe_1_all.deb", "short")
    assert (archive / "probe_1_all.deb").samefile(file)
    assert len(found["SHA256"]) == 64
    assert "Codename: bookworm" in (archive / "Release").read_text()
