"""bootcmd and runcmd become one shell script."""

from __future__ import annotations

import subprocess

from tests.support.seeds import errors, said, seed


def test_texts_are_the_shell_s_and_lists_are_words() -> None:
    """What runs is what was written, with every odd character; a failure is told and the rest runs."""
    script = seed(
        """runcmd: ["echo 'a b' | tr a-z A-Z", [echo, "$HOME", 'it''s'], "exit 3", [echo, 7, true]]"""
    ).config.run_script
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["A B", "$HOME it's", "runcmd: command 3 failed: 3", "7 true"]


def test_no_command_is_no_script() -> None:
    """Nothing is started for it."""
    assert (seed("runcmd: []").config.run_script, seed("bootcmd: ~").config.boot_script) == ("", "")


def test_what_is_no_command_is_an_error() -> None:
    """At its item."""
    found = said(errors("runcmd: [{a: 1}, 7]\nbootcmd: true\n"))
    assert set(found) == {"runcmd.0", "runcmd.1", "bootcmd"}
