"""Who holds the rights in what the package carries."""

from __future__ import annotations

from email.message import Message
from pathlib import Path

import pytest

from images.deb_copyright import copyright_file, licence


def metadata(*fields: tuple[str, str]) -> Message:
    """Return metadata of a distribution."""
    made = Message()
    for name, value in (("Name", "p"), *fields):
        made[name] = value
    return made


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ((("License-Expression", "BSD-3-Clause"),), "BSD-3-Clause"),
        ((("License", "ISC License"),), "ISC"),
        ((("Classifier", "Topic :: X"), ("Classifier", "License :: OSI Approved :: MIT License")), "MIT"),
        ((("License-Expression", "MIT OR Apache-2.0"), ("License", "x")), "MIT OR Apache-2.0"),
    ],
)
def test_a_licence_is_found_wherever_a_maker_wrote_it(fields: tuple[tuple[str, str], ...], found: str) -> None:
    """In the words of SPDX."""
    assert licence(metadata(*fields)) == found


def test_a_dependency_without_a_licence_is_refused() -> None:
    """Nobody may give it on."""
    with pytest.raises(SystemExit, match="p: its metadata names no licence"):
        licence(metadata())


def test_every_dependency_has_its_paragraph(tmp_path: Path) -> None:
    """With the files it is in; ours is the first, and the text of each licence can be found."""
    for name, text in (
        ("alpha-1.dist-info", "Name: alpha\nLicense-Expression: MIT\nAuthor: A\n"),
        ("beta-2.dist-info", "Name: beta\nLicense-Expression: Apache-2.0\n"),
        ("edgeway-0.dist-info", "Name: edgeway\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "METADATA").write_text(text)
    (tmp_path / "alpha").mkdir()
    (tmp_path / "beta.py").touch()
    text = copyright_file(tmp_path, 1_700_000_000)
    assert "Files: *\nCopyright: 2023 The Edgeway authors\nLicense: Apache-2.0\n" in text
    assert "Files: usr/lib/edgeway/alpha-1.dist-info/* usr/lib/edgeway/alpha/*\nCopyright: A\nLicense: MIT\n" in text
    assert "Files: usr/lib/edgeway/beta-2.dist-info/* usr/lib/edgeway/beta.py\nCopyright: The authors of beta\n" in text
    assert text.count("\nLicense: Apache-2.0\n The full text") == 1
    assert "\nLicense: MIT\n See the licence files in /usr/lib/edgeway/alpha-1.dist-info.\n" in text
