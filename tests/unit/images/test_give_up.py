"""The script that leaves a slot: only one that was never good, when another one was."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from images.image import FILES

SCRIPT = FILES / "usr/lib/edgeway-box/give-up"


@pytest.mark.parametrize(
    ("slot", "proven", "left"), [("a", "A", False), ("b", "A", True), ("a", "B", True), ("b", "B", False)]
)
def test_a_slot_is_left_unless_it_was_proven(tmp_path: Path, slot: str, proven: str, left: bool) -> None:
    """It starts the machine anew, and GRUB does the rest."""
    (tmp_path / "cmdline").write_text(f"console=ttyS0 edgeway.slot={slot} edgeway.root=PARTLABEL=root-{slot}\n")
    (tmp_path / "grubenv").write_text(f"# GRUB Environment Block\nORDER=B A\nPROVEN={proven}\n####")
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/called\n')
    (tmp_path / "systemctl").chmod(0o755)
    text = SCRIPT.read_text()
    for real, here in (
        ("/proc/cmdline", "cmdline"),
        ("/boot/efi/grub/grubenv", "grubenv"),
        ("/dev/console", "console"),
    ):
        assert real in text
        text = text.replace(real, str(tmp_path / here))
    subprocess.run(["sh", "-c", text], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (tmp_path / "called").exists() == left
    assert (tmp_path / "console").read_text()
