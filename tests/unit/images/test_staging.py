"""What the tree of the package is made of, short of building it (tests/image/test_deb.py does)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from images import staging


def test_what_the_interpreter_does_not_read_is_left_out(tmp_path: Path) -> None:
    """Modules, data and licences stay."""
    for name in (
        "bin/tool",
        "etc/x/y.conf",
        "p/__init__.py",
        "p/data.json",
        "p/_c.so",
        "p/a.pyi",
        "p/b.c",
        "p/tests/test_a.py",
        "p-1.dist-info/METADATA",
        "p-1.dist-info/RECORD",
        "p-1.dist-info/licenses/LICENSE",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    staging._thin(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    kept = {"p/__init__.py", "p/data.json", "p/_c.so", "p-1.dist-info/METADATA", "p-1.dist-info/licenses/LICENSE"}
    assert left == kept


def test_modules_are_compiled_for_the_place_where_they_will_be(tmp_path: Path) -> None:
    """Without a date, never compared with their source, and the same every time."""
    octets = []
    for name in ("one", "two"):
        tree = tmp_path / name
        tree.mkdir()
        (tree / "a.py").write_text("X = {'b', 'c', 'd'}\ndef f():\n    return 'e' in {'b', 'c', 'd'}\n")
        staging._compile(tree)
        (compiled,) = tree.rglob("*.pyc")
        octets.append(compiled.read_bytes())
    assert octets[0] == octets[1]
    assert octets[0][4:8] == b"\1\0\0\0", "checked by nobody (PEP 552)"
    assert b"/usr/lib/edgeway/a.py" in octets[0]
    assert str(tmp_path).encode() not in octets[0]


def test_a_wheel_without_what_is_built_is_refused(tmp_path: Path) -> None:
    """It would work, but slowly, or only in part."""
    (tmp_path / "a.so").touch()
    staging.demand(tmp_path, "*.so")
    with pytest.raises(SystemExit, match=r"holds no \*\.o: `make setup`"):
        staging.demand(tmp_path, "*.so", "*.o")


def test_everything_gets_one_date_and_modes_that_nobody_chose(tmp_path: Path) -> None:
    """Whatever the umask and the clock of who builds; links keep what they name."""
    (tmp_path / "d").mkdir(mode=0o700)
    for name, mode in (("d/program", 0o700), ("d/data", 0o777)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "d/link").symlink_to("nowhere")
    staging.settle(tmp_path, 1_000_000_000, [tmp_path / "d/program"])
    modes = {p.name: stat.S_IMODE(p.lstat().st_mode) for p in tmp_path.rglob("*") if not p.is_symlink()}
    assert modes == {"d": 0o755, "program": 0o755, "data": 0o644}
    assert {p.lstat().st_mtime for p in tmp_path.rglob("*")} == {1_000_000_000}


def test_a_tool_that_fails_ends_the_build_with_its_words(capfd: pytest.CaptureFixture[str]) -> None:
    """One that succeeds says nothing."""
    staging.run("sh", "-c", 'echo "$WORD"', WORD="quiet")
    assert capfd.readouterr().out == ""
    with pytest.raises(SystemExit, match=r"exit status 3\nwhy"):
        staging.run("sh", "-c", "echo why >&2; exit 3")
    assert os.environ.get("WORD") is None
