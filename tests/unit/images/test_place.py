"""One build at a time, and whether what is there would be built again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from images.place import ROOT, alone, fingerprint, is_made, made, sources
from tests.support.waiting import eventually


def test_a_second_build_waits_for_the_first(tmp_path: Path) -> None:
    """One inside another does not; the lock is free again afterwards."""
    build, second = tmp_path / "build", tmp_path / "second"
    program = (
        "import sys; from pathlib import Path; from images.place import alone\n"
        "with alone(Path(sys.argv[1])): Path(sys.argv[2]).touch()"
    )
    command = [sys.executable, "-c", program, str(build), str(second)]
    with alone(build):
        with alone(build):
            assert not second.exists()
        other = subprocess.Popen(command, cwd=ROOT)
        wchan = Path(f"/proc/{other.pid}/wchan")
        eventually(lambda: "lock" in wchan.read_text(), what="the second one waits")
        assert not second.exists()
    assert other.wait(60) == 0
    assert second.exists()


def test_what_is_left_beside_sources_makes_no_difference(tmp_path: Path) -> None:
    """A test run must not make the next build start anew."""
    (tmp_path / "a" / "__pycache__").mkdir(parents=True)
    (tmp_path / "a" / "b.py").write_text("1")
    before = fingerprint([tmp_path], root=tmp_path)
    for name in ("a/__pycache__/b.pyc", "a/_hot.so", "a/__pycache__/x.py"):
        (tmp_path / name).write_text("2")
    assert [file.name for file in sources([tmp_path])] == ["b.py"]
    assert fingerprint([tmp_path], root=tmp_path) == before


def test_everything_else_makes_one(tmp_path: Path) -> None:
    """Contents, names, whether it can be executed, and values."""
    file = tmp_path / "a.sh"
    file.write_text("1")
    marks = [fingerprint([tmp_path], root=tmp_path), fingerprint([tmp_path], 7, root=tmp_path)]
    file.chmod(0o755)
    marks.append(fingerprint([tmp_path], root=tmp_path))
    file.write_text("2")
    marks.append(fingerprint([tmp_path], root=tmp_path))
    file.rename(tmp_path / "b.sh")
    marks.append(fingerprint([tmp_path], root=tmp_path))
    assert len(set(marks)) == len(marks)


def test_what_was_made_from_the_same_is_not_made_again(tmp_path: Path) -> None:
    """Unless it is gone."""
    product = tmp_path / "x.deb"
    assert not is_made(product, "m")
    product.touch()
    assert not is_made(product, "m")
    made(product, "m")
    assert is_made(product, "m")
    assert not is_made(product, "other")
    product.unlink()
    assert not is_made(product, "m")
