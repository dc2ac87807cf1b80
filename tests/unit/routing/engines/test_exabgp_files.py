from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from routing.bgp.values import Mode, Neighbor, Speaker
from routing.engines.exabgp_files import Files

SPEAKER = Speaker("rs", Mode.ROUTER, 65000, IPv4Address(1), (), neighbors=(Neighbor("n", 1, IPv4Address(2)),))


def test_the_desired_state_is_kept(tmp_path: Path) -> None:
    """For the process that comes after the next crash, and for nobody else's eyes."""
    files = Files(tmp_path / "deep" / "rs")
    files.write_speaker(SPEAKER)
    assert Files(tmp_path / "deep" / "rs").speaker() == SPEAKER
    assert {path.stat().st_mode & 0o777 for path in files.directory.iterdir()} == {0o600}
    assert files.directory.stat().st_mode & 0o777 == 0o700


def test_a_file_that_says_the_same_is_left_alone(tmp_path: Path) -> None:
    """Times of files tell when something changed."""
    files = Files(tmp_path)
    assert files.write_configuration("a")
    before = files.configuration.stat().st_mtime_ns
    assert not files.write_configuration("a")
    assert files.configuration.stat().st_mtime_ns == before
    assert files.write_configuration("b")
    assert files.configuration.read_text() == "b"


def test_who_was_up_is_remembered_until_the_engine_is_stopped(tmp_path: Path) -> None:
    """After a stop nobody waits for our return."""
    files = Files(tmp_path)
    assert files.established() == ()
    up = (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))
    files.write_established(up)
    assert files.established() == up
    files.forget_established()
    files.forget_established()
    assert files.established() == ()
