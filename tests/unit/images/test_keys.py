"""The pair with which updates are signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.keys import keys


def test_a_pair_for_development_is_made_once(tmp_path: Path) -> None:
    """The key is for its owner alone."""
    certificate, key = keys(tmp_path / "keys")
    assert key.stat().st_mode & 0o077 == 0
    assert "BEGIN CERTIFICATE" in certificate.read_text()
    before = certificate.read_bytes(), key.read_bytes()
    assert keys(tmp_path / "keys") == (certificate, key)
    assert (certificate.read_bytes(), key.read_bytes()) == before


def test_half_a_pair_is_no_reason_to_make_another(tmp_path: Path) -> None:
    """The other half may be somewhere else."""
    (tmp_path / "cert.pem").write_text("a release's")
    with pytest.raises(SystemExit, match="not both"):
        keys(tmp_path)
