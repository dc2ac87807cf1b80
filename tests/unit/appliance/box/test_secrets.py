"""Passwords in plain become hashes."""

from __future__ import annotations

import subprocess

from appliance.box.secrets import hashed


def test_a_hash_has_salt_and_is_what_openssl_makes() -> None:
    """Another program agrees."""
    made = hashed("geheim")
    salt = made.split("$")[2]
    other = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", salt, "geheim"], check=True, capture_output=True, text=True
    )
    assert made == other.stdout.strip()
    assert hashed("geheim") != made
