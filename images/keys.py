"""The pair with which updates are signed: DIRECTORY/cert.pem, which images trust, and DIRECTORY/key.pem.

The keys of a release stay outside of the repository (`--keys DIRECTORY`, for image and bundle alike). Where there are none a
pair for development is made: only images built from the same directory trust it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from images.place import BUILD
from images.steps import run, say

DEVELOPMENT: Final = BUILD / "keys"
_DAYS: Final = 30 * 365


def keys(directory: Path) -> tuple[Path, Path]:
    """Return certificate and key of a directory; a pair for development is made if there is neither."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    if certificate.is_file() and key.is_file():
        return certificate, key
    if certificate.exists() or key.exists():
        raise SystemExit(f"{directory} holds cert.pem or key.pem, but not both")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")  # CMS cannot sign with Ed25519 here
    words = ("-x509", *curve, "-noenc", "-days", str(_DAYS), "-subj", "/CN=Edgeway development")
    run("openssl", "req", *words, "-keyout", key, "-out", certificate)
    key.chmod(0o600)
    say(f"made keys for development in {directory}: no release is signed with them")
    return certificate, key
