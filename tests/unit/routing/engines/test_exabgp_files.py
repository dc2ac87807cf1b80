from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from routing.bgp.values import Mode, Speaker
from routing.engines.exabgp_files import Files

SPEAKER = Speaker("rs", Mode.ROUTER, 65000, IPv4Address(1), ())


def test_the_configuration_stands_beside_the_desired_state(tmp_path: Path) -> None:
    """Written only if it says something else: times of files tell when something changed."""
    files = Files(tmp_path / "rs")
    files.write_speaker(SPEAKER)
    assert files.write_configuration("a")
    before = files.configuration.stat().st_mtime_ns
    assert not files.write_configuration("a")
    assert files.configuration.stat().st_mtime_ns == before
    assert files.write_configuration("b")
    assert files.configuration.read_text() == "b"
    assert files.speaker() == SPEAKER
    assert {path.stat().st_mode & 0o777 for path in files.directory.iterdir()} == {0o600}
