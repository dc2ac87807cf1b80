"""What was decided is kept, and carried out below a root."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.box import record
from tests.support.intents import LAB
from tests.support.seeds import KEY, seed

TEXT = f"""\
hostname: h9
users: [{{name: alice, ssh_authorized_keys: ['{KEY}'], groups: [watchers]}}]
write_files:
- {{path: /etc/foo/bar, content: secret, permissions: '0600', owner: alice}}
- {{path: /etc/motd, content: more, append: true}}
- {{path: /etc/edgeway/extra, content: once}}
edgeway: {{node: h1, intent_file: i}}
timezone: Europe/Paris
bootcmd: ["true"]
"""


@pytest.fixture
def base(tmp_path: Path) -> str:
    """Return where records are kept."""
    return str(tmp_path / "seed")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root tree as the image has it."""
    etc = tmp_path / "root/etc"
    etc.mkdir(parents=True)
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    (etc / "group").write_text("root:x:0:\nshadow:x:42:\nsudo:x:27:\n")
    (etc / "motd").write_text("some\n")
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/bin/edgeway-shell").touch(0o755)
    return tmp_path / "root"


def kept(base: str, text: str = TEXT) -> record.Record:
    """Keep a seed."""
    return record.store(base, seed(text, i=LAB), lambda plain: f"<{plain}>")


def test_a_seed_becomes_files_and_people(base: str, root: Path) -> None:
    """With their modes and owners."""
    assert record.carry_out(kept(base), str(root)) == []
    etc = root / "etc"
    assert (etc / "hostname").read_text() == "h9\n"
    assert (etc / "edgeway/intent.yaml").read_text() == LAB
    assert (etc / "motd").read_text() == "some\nmore"
    assert str((etc / "localtime").readlink()) == "/usr/share/zoneinfo/Europe/Paris"
    status = (etc / "foo/bar").stat()
    assert (status.st_mode & 0o777, status.st_uid, (etc / "foo/bar").read_text()) == (0o600, 1001, "secret")
    assert (etc / "ssh/authorized_keys/alice").read_text() == f"{KEY}\n"
    assert "alice:x:1001:1001::/home/alice:/usr/bin/edgeway-shell" in (etc / "passwd").read_text()
    assert (etc / "shadow").stat().st_mode & 0o777 == 0o640
    assert (etc / "shadow").stat().st_gid == 42
    assert (root / "home/alice").stat().st_uid == 1001


def test_another_boot_writes_everything_again_but_what_stays(base: str, root: Path) -> None:
    """The root is new, /etc/edgeway is the operator's."""
    taken = kept(base)
    record.carry_out(taken, str(root))
    (root / "etc/edgeway/intent.yaml").write_text("mine")
    (root / "etc/hostname").unlink()
    record.carry_out(taken, str(root))
    assert (root / "etc/edgeway/intent.yaml").read_text() == "mine"
    assert (root / "etc/hostname").read_text() == "h9\n"


def test_a_new_seed_counts_from_a_rename_on(base: str, root: Path) -> None:
    """What a cut leaves half made is passed over; the one before stays, older ones go."""
    for text in ("hostname: a", "hostname: b", "hostname: c"):
        assert kept(base, text).text("instance") == "i-1"
    Path(base, "4").mkdir()
    taken = record.current(base)
    assert taken is not None
    assert taken.octets("2") != b""
    assert sorted(path.name for path in Path(base).iterdir()) == ["2", "3", "4", "current"]
    assert Path(base, "current").readlink() == Path("3")
    record.carry_out(taken, str(root))
    assert (root / "etc/hostname").read_text() == "c\n"
    assert kept(base, "hostname: d").has("instance")
    assert Path(base, "current").readlink() == Path("5")


def test_there_is_no_record_before_the_first_seed(base: str) -> None:
    """Nor in a directory that only looks like one."""
    assert record.current(base) is None


def test_one_file_that_cannot_be_written_stops_no_other(base: str, root: Path) -> None:
    """It is told."""
    taken = kept(base, "write_files: [{path: /etc/passwd/x}, {path: /etc/a, owner: nobody-here}, {path: /etc/b}]")
    problems = record.carry_out(taken, str(root))
    assert [problem.split(":")[0] for problem in problems] == ["/etc/passwd/x", "/etc/a"]
    assert (root / "etc/b").exists()


def test_a_user_of_the_image_is_told(base: str, root: Path) -> None:
    """Somebody of that name may have come with an update."""
    with (root / "etc/passwd").open("a") as file:
        file.write("alice:x:500:500::/:/bin/false\n")
    taken = kept(base, "users: [alice]")
    assert record.carry_out(taken, str(root)) == ["the image has a user alice of its own; the seed's was not made"]


def test_who_asks_for_a_shell_that_is_not_there_gets_another(base: str, root: Path) -> None:
    """Rather than none; and it is told."""
    taken = kept(base, "users: [{name: alice, shell: /bin/zsh}]")
    assert record.carry_out(taken, str(root)) == ["alice: there is no /bin/zsh; /bin/sh instead"]
    assert "alice:x:1001:1001::/home/alice:/bin/sh\n" in (root / "etc/passwd").read_text()


def test_nobody_but_root_reads_records(base: str) -> None:
    """There are hashes and intents in them."""
    kept(base)
    modes = {path.name: path.stat().st_mode & 0o077 for path in Path(base).rglob("*") if not path.is_symlink()}
    assert set(modes.values()) == {0}


def test_a_write_goes_through_no_link(tmp_path: Path) -> None:
    """The name beside it may be anybody's."""
    (tmp_path / "a.edgeway-new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        record.write(str(tmp_path / "a"), b"x", 0o600)
    assert not (tmp_path / "elsewhere").exists()
