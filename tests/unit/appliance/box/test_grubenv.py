"""GRUB's environment block: as grub-editenv has it, and whole whenever the power goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.box import grubenv
from appliance.model.errors import InternalError, OperatorError

VARIABLES = {"ORDER": "A B", "A_OK": "1", "A_TRY": "0"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a block that GRUB's own tool made."""
    path = tmp_path / "grubenv"
    subprocess.run(["grub-editenv", path, "create"], check=True)
    subprocess.run(["grub-editenv", path, "set", *(f"{k}={v}" for k, v in VARIABLES.items())], check=True)
    return path


def test_both_tools_read_what_the_other_wrote(file: Path) -> None:
    """Ours reads GRUB's block, GRUB's tool reads ours."""
    assert grubenv.read(file) == VARIABLES
    grubenv.change(file, {"PROVEN": "B", "A_TRY": None})
    listed = subprocess.run(["grub-editenv", file, "list"], check=True, capture_output=True, text=True).stdout
    assert listed == "ORDER=A B\nA_OK=1\nPROVEN=B\n"
    assert file.stat().st_size == grubenv.SIZE


def test_the_block_is_written_in_place_and_fits_a_sector(file: Path) -> None:
    """Neither another file nor a shorter one: what a cut leaves is the old block or the new one."""
    before = file.stat().st_ino
    with file.open("rb") as held:
        grubenv.change(file, {"A_TRY": "3"})
        assert grubenv.parse(held.read())["A_TRY"] == "3"
    assert file.stat().st_ino == before
    assert set(file.read_bytes()[grubenv.SECTOR :]) == {ord("#")}


def test_more_than_a_sector_is_refused_and_changes_nothing(file: Path) -> None:
    """It would not be written whole."""
    with pytest.raises(InternalError, match="more than a sector"):
        grubenv.change(file, {"LONG": "x" * 600})
    assert grubenv.read(file) == VARIABLES


@pytest.mark.parametrize("octets", [b"", b"rubbish", bytes(1024)])
def test_what_is_no_block_is_said_to_be_none_and_made_one_by_the_first_change(tmp_path: Path, octets: bytes) -> None:
    """A box must get its block back."""
    path = tmp_path / "grubenv"
    path.write_bytes(octets)
    with pytest.raises(OperatorError):
        grubenv.read(path)
    assert grubenv.change(path, {"A_OK": "1"}) == {"A_OK": "1"}
    assert grubenv.read(path) == {"A_OK": "1"}


def test_the_program_stands_in_for_grubs(file: Path) -> None:
    """As RAUC calls it."""
    words = [sys.executable, "-m", "appliance.box.grubenv", str(file)]
    subprocess.run([*words, "set", "ORDER=B A", "B_OK=1"], check=True)
    done = subprocess.run([*words, "list"], check=True, capture_output=True, text=True)
    assert done.stdout == "ORDER=B A\nA_OK=1\nA_TRY=0\nB_OK=1\n"
    subprocess.run([*words, "unset", "B_OK"], check=True)
    assert "B_OK" not in grubenv.read(file)
    wrong = subprocess.run([*words, "frobnicate"], check=False, capture_output=True, text=True)
    assert (wrong.returncode, "not understood" in wrong.stderr) == (1, True)
