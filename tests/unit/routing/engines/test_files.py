from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from routing.bgp.values import Mode, Neighbor, Speaker
from routing.engines.files import Files, write
from routing.engines.speaker_text import Draft, lines

SPEAKER = Speaker("rs", Mode.ROUTER, 65000, IPv4Address(1), (), neighbors=(Neighbor("n", 1, IPv4Address(2)),))
UP = (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))


def test_the_desired_state_is_kept(tmp_path: Path) -> None:
    """For the process that comes after the next crash, and for nobody else's eyes."""
    files = Files(tmp_path / "deep" / "rs")
    files.write_speaker(SPEAKER)
    draft = Draft()
    read = Files(tmp_path / "deep" / "rs").speaker(draft)
    assert read == SPEAKER
    assert Draft(draft).read(lines(SPEAKER)).neighbors[0] is read.neighbors[0]
    assert {path.stat().st_mode & 0o777 for path in files.directory.iterdir()} == {0o600}
    assert files.directory.stat().st_mode & 0o777 == 0o700


def test_a_file_that_says_the_same_is_left_alone(tmp_path: Path) -> None:
    """Times of files tell when something changed; the remains of a crash are in nobody's way."""
    path = tmp_path / "file"
    assert write(path, b"a")
    before = path.stat().st_mtime_ns
    assert not write(path, b"a")
    assert path.stat().st_mtime_ns == before
    (tmp_path / "file.new").write_bytes(b"half")
    assert write(path, b"b")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("file", b"b")]


@pytest.mark.parametrize("apart", [False, True])
def test_who_was_up_is_remembered_until_the_engine_is_stopped(tmp_path: Path, apart: bool) -> None:
    """After a stop nobody waits for our return."""
    files = Files.apart(tmp_path / "e") if apart else Files(tmp_path / "e")
    files.forget_established()
    assert files.established() == ()
    files.write_established(UP)
    assert files.established() == UP
    files.forget_established()
    files.forget_established()
    assert files.established() == ()


@pytest.mark.kernel
def test_the_process_writes_where_it_can_no_longer_go(tmp_path: Path) -> None:
    """Another user, to whom the engine's directory is closed, replaces the file in the directory that was held for it."""
    daemon = Files.apart(tmp_path / "e")
    daemon.write_speaker(SPEAKER)
    process = Files.apart(tmp_path / "e")
    process.hold((65534, 65534))
    process.write_established(UP[:1])
    child = os.fork()
    if not child:  # it must not come back into pytest
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            readable = os.access(tmp_path / "e" / "state", os.R_OK)
            # What root wrote there before it cannot read.
            done = process.established() == ()
            process.write_established(UP)
            os._exit(0 if done and process.established() == UP and not readable else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert daemon.established() == UP
    assert (tmp_path / "e" / "state").stat().st_uid == 65534
    daemon.forget_established()
    assert process.established() == ()


@pytest.mark.parametrize("text", ["", "{", "5", '["no address"]', "[null]"])
def test_nonsense_about_who_was_up_is_no_reason_not_to_start(tmp_path: Path, text: str) -> None:
    """A process of less rights wrote it."""
    (tmp_path / "established.json").write_text(text)
    assert Files(tmp_path).established() == ()
