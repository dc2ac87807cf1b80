"""The console of a box: what a line does, how a word goes on, who becomes root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.panel import shell
from appliance.panel.shell import Shell, candidates, may_become_root, prompt


@pytest.fixture
def console() -> Shell:
    """Return a session of root on h1."""
    return Shell("h1", root=True)


def test_the_prompt_names_the_node_and_the_power() -> None:
    """`#` may change everything."""
    assert (prompt("h1", root=True), prompt("h1", root=False)) == ("h1# ", "h1> ")


@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        ([], "sh", ["show"]),
        ([], "ed", ["edit"]),
        ([], "run", []),
        (["show"], "nei", ["neighbors"]),
        (["show", "flows"], "--af", ["--affected-by"]),
        (["configure"], "--no", ["--node"]),
        (["box", "configure"], "--no", ["--node"]),
        (["nosuch"], "x", []),
    ],
)
def test_a_word_goes_on_as_commands_and_options_do(
    console: Shell, words: list[str], begun: str, found: list[str]
) -> None:
    """At every depth."""
    assert candidates(console.command, words, begun) == found


def test_where_a_file_is_meant_files_are_offered(
    console: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden ones only when that is typed."""
    for name in ("intent.yaml", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "into").mkdir()
    assert candidates(console.command, ["check"], f"{tmp_path}/in") == [f"{tmp_path}/intent.yaml", f"{tmp_path}/into/"]
    monkeypatch.chdir(tmp_path)
    assert candidates(console.command, ["configure"], "") == ["intent.yaml", "into/"]
    assert candidates(console.command, ["configure"], ".") == [".hidden"]
    assert candidates(console.command, ["configure"], "/nosuch/x") == []


def test_one_candidate_is_finished_with_a_space(console: Shell) -> None:
    """A directory is not: more may follow."""
    assert console._found("show ", "nei") == ["neighbors "]
    assert console._found("'open", "x") == []


@pytest.mark.parametrize("line", ["check {file}", "edgeway check {file}", "  check {file}  # a remark"])
def test_a_line_is_a_command_of_edgeway(
    console: Shell, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands in every manual."""
    file = tmp_path / "i.yaml"
    file.write_text("frob: 1\n")
    assert console.do(line.format(file=file)) == 3
    assert "frob" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "status"), [("", 0), ("help", 0), ("nosuch", 2), ("show nosuch", 2), ("'open", 2), ("bash -c 'exit 7'", 7)]
)
def test_nothing_that_is_typed_ends_the_session(console: Shell, line: str, status: int) -> None:
    """Each line has its status."""
    assert console.do(line) == status


def test_a_bug_of_a_command_ends_no_session(console: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """The next line is read."""

    def broken(**_: object) -> None:
        raise RuntimeError("broken")

    console.command.main = broken
    assert console.do("check x") == 1
    assert "RuntimeError: broken" in capsys.readouterr().err


def test_a_session_reads_lines_until_exit() -> None:
    """In one process."""
    program = "from appliance.panel.shell import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="help\nbash -c 'echo from $0' \nexit\nhelp\n",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": "/"},
    )
    assert done.returncode == 0
    assert done.stdout.count("configure FILE") == 1


def test_one_line_may_come_as_an_argument() -> None:
    """As ssh gives it; its status is the program's."""
    program = "from appliance.panel.shell import main; main()"
    command = [sys.executable, "-c", program, "-c", "bash -c 'echo $((6 * 7)); exit 4'"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("42\n", 4)


@pytest.mark.parametrize(
    ("groups", "operators", "user", "asks"),
    [([5, 27], 27, 1000, True), ([5], 27, 1000, False), ([27], 27, 0, False), ([5], None, 1, False)],
)
def test_only_operators_ask_for_root(groups: list[int], operators: int | None, user: int, asks: bool) -> None:
    """Others would be refused, and would have no shell at all."""
    assert may_become_root(groups, operators, user) is asks


def test_the_node_is_the_one_the_box_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the host's name."""
    monkeypatch.setattr(shell, "ETC", tmp_path)
    assert shell._node() == Path("/proc/sys/kernel/hostname").read_text().strip()
    (tmp_path / "node").write_text("h1\n")
    assert shell._node() == "h1"
