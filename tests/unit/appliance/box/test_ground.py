"""Host key, name, consoles."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from appliance.box import ground


def test_a_box_makes_its_own_host_key_once(tmp_path: Path) -> None:
    """Another boot finds it; half a key is made anew."""
    directory = tmp_path / "ssh"
    directory.mkdir()
    (directory / "ssh_host_ed25519_key.new").write_text("half")
    assert ground.host_key(str(directory)) == []
    key = directory / "ssh_host_ed25519_key"
    first = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    subprocess.run(["ssh-keygen", "-l", "-f", directory / "ssh_host_ed25519_key.pub"], check=True, capture_output=True)
    assert ground.host_key(str(directory)) == []
    assert key.read_bytes() == first


def test_no_key_is_told_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console is still there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no SSH host key" in ground.host_key(str(tmp_path / "ssh"))[0]


@pytest.mark.parametrize(("given", "name"), [("h9\n", "h9"), ("\n", "edgeway"), (None, "edgeway")])
def test_the_kernel_gets_the_name(tmp_path: Path, given: str | None, name: str) -> None:
    """A box that nobody named says what it is."""
    (tmp_path / "etc").mkdir()
    if given is not None:
        (tmp_path / "etc/hostname").write_text(given)
    ground.name_host(str(tmp_path), str(tmp_path / "kernel"))
    assert (tmp_path / "kernel").read_text() == name
    assert (tmp_path / "etc/hostname").read_text() == f"{name}\n"


@pytest.mark.parametrize(
    ("line", "opened"),
    [("quiet edgeway.console=open", True), ("edgeway.console=opened", False), ("edgeway.console=closed", False)],
)
def test_the_console_is_open_only_by_the_whole_word(line: str, opened: bool) -> None:
    """Anything else keeps it closed."""
    assert ground.console_is_open(line) is opened


def test_lines_go_to_every_console_and_to_the_journal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One that nobody has is passed over."""
    master, slave = pty.openpty()
    (tmp_path / "ttyS0").symlink_to(os.ttyname(slave))
    (tmp_path / "active").write_text("tty0 ttyS0\n")
    ground.tell(["one", "two"], str(tmp_path / "active"), str(tmp_path))
    assert os.read(master, 100).replace(b"\r\r", b"\r") == b"edgeway: one\r\nedgeway: two\r\n"
    assert capfd.readouterr().out == "edgeway: one\nedgeway: two\n"
    os.close(master)
    os.close(slave)
