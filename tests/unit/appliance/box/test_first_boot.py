"""A whole boot below directories of the test: what is taken, what is kept, what is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.box import first_boot, ground, record, volume
from tests.support.intents import LAB
from tests.support.seeds import files

NOTHING_SAID: list[str] = []


@dataclass
class Box:
    """A root in memory, data that stay, and what was said at the last boot."""

    directory: Path
    said: list[str]

    @property
    def data(self) -> Path:
        """Return the data partition."""
        return self.directory / "data"

    def lay(self, seed: dict[str, bytes]) -> None:
        """Lay a seed ready as `edgeway box seed` does."""
        place = self.data / "seed/new"
        place.mkdir(parents=True)
        for name, octets in seed.items():
            (place / name).write_bytes(octets)

    def boot(self, number: int = 1) -> Path:
        """Boot with a new root; return it."""
        root = self.directory / f"root{number}"
        (root / "etc").mkdir(parents=True)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
        (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
        (root / "etc/group").write_text("root:x:0:\n")
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/edgeway-shell").touch(0o755)
        first_boot.main(str(root), str(self.data), str(self.directory / f"run{number}"))
        return root


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Return a box whose kernel is not this machine's."""
    made = Box(tmp_path, [])
    monkeypatch.setattr(ground, "tell", lambda lines, *_: made.said.extend(lines))
    monkeypatch.setattr(volume, "find", lambda *_: ("", ""))
    monkeypatch.setattr(volume, "drives_without_driver", lambda *_: False)
    monkeypatch.setattr(first_boot, "_command_line", lambda: "quiet")
    name: Callable[..., None] = ground.name_host
    monkeypatch.setattr(ground, "name_host", lambda root: name(root, str(tmp_path / "kernel-name")))
    return made


def test_without_a_seed_the_box_comes_up_and_says_so(box: Box) -> None:
    """With a key and a name of its own, and a closed console."""
    root = box.boot()
    assert box.said == ["no seed: no volume is labelled cidata"]
    assert (root / "etc/hostname").read_text() == "edgeway\n"
    assert (box.data / "ssh/ssh_host_ed25519_key").exists()
    assert not (box.directory / "run1/console").exists()


def test_a_seed_is_taken_once_and_carried_out_at_every_boot(box: Box) -> None:
    """The second boot reads no seed."""
    box.lay(files("hostname: h9\nedgeway: {node: h1, intent_file: i}\nruncmd: ['true']", i=LAB))
    box.boot()
    assert box.said[-1].endswith("taken, instance i-1")
    assert (box.directory / "run1/runcmd").exists()
    (box.data / "seed/current/ran").touch()
    box.said.clear()
    root = box.boot(2)
    assert box.said == NOTHING_SAID
    assert (root / "etc/hostname").read_text() == "h9\n"
    assert not (root / "etc/edgeway/intent.yaml").exists(), "it is on the data partition, and was written once"
    assert not (box.directory / "run2/runcmd").exists()


def test_a_wrong_seed_changes_nothing_and_lists_every_finding(box: Box) -> None:
    """The one before stays; the box comes up."""
    box.lay(files("hostname: h9"))
    box.boot()
    box.said.clear()
    box.lay(files("hostname: '-'\nusers: 7", "version: 1\n", "instance-id: i-2\n"))
    root = box.boot(2)
    places = [line.split(": ")[1] for line in box.said[:-1]]
    assert places == ["network-config:1:1", "user-data:2:1", "user-data:3:1"]
    assert box.said[-1].endswith("3 errors; nothing was changed")
    assert (root / "etc/hostname").read_text() == "h9\n"
    taken = record.current(str(box.data / "seed"))
    assert taken is not None
    assert taken.text("instance") == "i-1"


def test_the_same_instance_is_not_taken_again(box: Box) -> None:
    """Whatever else is in it: only another instance-id is another seed."""
    for number, name in enumerate(("a", "b"), 1):
        box.lay(files(f"hostname: {name}"))
        assert (box.boot(number) / "etc/hostname").read_text() == "a\n"
    box.lay(files("hostname: c", meta="instance-id: i-2\n"))
    assert (box.boot(3) / "etc/hostname").read_text() == "c\n"


def test_bootcmd_runs_at_every_boot_and_its_failure_is_told(box: Box, tmp_path: Path) -> None:
    """Before the network."""
    box.lay(files(f"bootcmd: ['echo again >>{tmp_path}/log', 'false']"))
    box.boot()
    box.boot(2)
    assert (tmp_path / "log").read_text() == "again\nagain\n"


def test_the_console_is_opened_by_the_kernel_s_word(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by nothing in a seed."""
    monkeypatch.setattr(first_boot, "_command_line", lambda: "quiet edgeway.console=open")
    box.boot()
    assert "--login-program /usr/bin/edgeway-shell" in (box.directory / "run1/console").read_text()


def test_a_damaged_record_ends_no_boot(box: Box) -> None:
    """What can be said of it is said."""
    box.lay(files("hostname: h9"))
    box.boot()
    (box.data / "seed/current/files").write_text("nonsense\n")
    box.boot(2)
    assert "cannot be carried out" in box.said[-1]
    assert (box.data / "ssh/ssh_host_ed25519_key").exists()


def test_a_volume_that_cannot_be_mounted_is_told(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is taken."""
    monkeypatch.setattr(volume, "find", lambda *_: ("iso9660", "/dev/nosuch"))
    box.boot()
    assert box.said[0].startswith("seed: ")
    assert record.current(str(box.data / "seed")) is None
