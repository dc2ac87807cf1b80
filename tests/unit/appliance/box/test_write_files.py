"""Files of a seed: what is in them, where they may be."""

from __future__ import annotations

import base64
import gzip

import pytest

from appliance.box.write_files import LONGEST, File
from tests.support.seeds import errors, said, seed


def file(text: str) -> File:
    """Return the only file of user-data."""
    (made,) = seed(f"write_files: [{text}]").config.files
    return made


@pytest.mark.parametrize("encoding", ["gz+base64", "gzip+b64", "gz+b64"])
def test_content_is_unwrapped(encoding: str) -> None:
    """As it was wrapped."""
    packed = base64.b64encode(gzip.compress(b"hi\n")).decode()
    assert file(f"{{path: /etc/a, content: '{packed}', encoding: {encoding}}}").content == b"hi\n"
    assert file("{path: /etc/a, content: 'aGk=', encoding: b64}").content == b"hi"
    assert file("{path: /etc/a, content: hi}").content == b"hi"
    assert file("{path: /etc/a}").content == b""


@pytest.mark.parametrize(
    ("written", "mode"), [("'0640'", 0o640), ("'0o755'", 0o755), ("640", 0o640), ("'1777'", 0o1777)]
)
def test_permissions_are_octal_however_they_are_written(written: str, mode: int) -> None:
    """`0640` without quotes too."""
    assert file(f"{{path: /etc/a, permissions: {written}}}").mode == mode


def test_owner_and_append() -> None:
    """A user alone has its own group."""
    made = file("{path: /etc/a, owner: alice, append: true}")
    assert (made.owner, made.append) == ("alice:alice", True)
    assert file("{path: /etc/a}").owner == "root:root"


@pytest.mark.parametrize(
    "path",
    [
        "etc/a",
        "/etc/../a",
        "//etc/a",
        "/etc/a/",
        "/proc/x",
        "/data/x",
        "/dev/sda",
        "/etc/passwd",
        "/etc/edgeway/intent.yaml",
    ],
)
def test_places_that_are_not_the_seed_s_are_refused(path: str) -> None:
    """Some have a key of their own."""
    assert "write_files.0.path" in said(errors(f"write_files: [{{path: {path}}}]"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("content: '***', encoding: b64", "content"),
        ("content: 'aGk=', encoding: gz+b64", "content"),
        ("content: 7", "content"),
        ("encoding: rot13", "encoding"),
        ("permissions: rw", "permissions"),
        ("owner: 'a b'", "owner"),
        ("append: perhaps", "append"),
    ],
)
def test_what_cannot_be_read_is_an_error(text: str, key: str) -> None:
    """At its key."""
    assert f"write_files.0.{key}" in said(errors(f"write_files: [{{path: /etc/a, {text}}}]"))


def test_a_small_file_cannot_become_a_huge_one() -> None:
    """Compressed zeros would fill the memory."""
    packed = base64.b64encode(gzip.compress(bytes(LONGEST + 1))).decode()
    found = errors(f"write_files: [{{path: /etc/a, content: '{packed}', encoding: gz+b64}}]")
    assert "longer than" in found[0].message
