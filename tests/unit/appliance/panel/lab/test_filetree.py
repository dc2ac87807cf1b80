from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.panel.lab.filetree import StepError, make_place, mount
from appliance.panel.lab.spec import hidden, interpreter_paths, package_root

pytestmark = pytest.mark.kernel

INSIDE = """
import json, os, sys
from pathlib import Path
from appliance.panel.lab.filetree import build_root, enter_root, show, write_files
plan = json.load(sys.stdin)
enter_root(build_root(plan["place"]))
write_files(plan["files"])
show(plan["keep"], plan["binds"])
exec(plan["look"])
"""


def look(tmp_path: Path, script: str, binds: list[dict[str, object]] | None = None, files: object = None) -> str:
    """Build a tree in mount and pid namespaces of its own, run `script` in it, return what it printed."""
    place = tmp_path / "place"
    place.mkdir()
    plan = {
        "place": str(place),
        "files": files or {},
        "keep": hidden(interpreter_paths()),
        "binds": binds or [],
        "look": script,
    }
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", sys.executable, "-c", INSIDE],
        input=json.dumps(plan),
        env={"PYTHONPATH": package_root()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_machines_files_are_seen_and_not_changed(tmp_path: Path) -> None:
    """What a node writes stays in the node."""
    script = "Path('/usr/edgeway-test').write_text('x'); print(Path('/usr/edgeway-test').read_text())"
    assert look(tmp_path, script) == "x\n"
    assert not Path("/usr/edgeway-test").exists()


def test_run_tmp_and_dev_are_its_own(tmp_path: Path) -> None:
    """No disk, no terminal and no socket of the machine is in sight."""
    script = "print(sorted(os.listdir('/run')), os.path.exists('/dev/null'), [p for p in os.listdir('/dev') if 'd' in p[:3] and p != 'fd'], os.path.exists('/.machine'))"
    seen = look(tmp_path, script)
    assert seen.startswith("['edgeway', 'lock', 'netns'] True")
    assert "vda" not in seen
    assert seen.endswith("False\n")


def test_binds_are_shown_as_asked_for(tmp_path: Path) -> None:
    """A file, a directory, each for reading or for writing; a write reaches the machine's file."""
    directory = tmp_path / "d"
    directory.mkdir()
    (directory / "f").write_text("from outside\n")
    binds = [
        {"source": str(directory), "target": "/var/lib/edgeway-test", "read_only": False},
        {"source": str(directory / "f"), "target": "/etc/edgeway-test.conf", "read_only": True},
    ]
    script = (
        "print(Path('/etc/edgeway-test.conf').read_text(), end='')\n"
        "Path('/var/lib/edgeway-test/new').write_text('from inside')\n"
        "try: Path('/etc/edgeway-test.conf').write_text('x')\n"
        "except OSError as error: print(error.strerror)\n"
    )
    assert look(tmp_path, script, binds) == "from outside\nRead-only file system\n"
    assert (directory / "new").read_text() == "from inside"
    assert not Path("/etc/edgeway-test.conf").exists()


def test_a_target_behind_a_link_stays_in_the_node(tmp_path: Path) -> None:
    """/var/run leads to /run: the node's, not the machine's."""
    (tmp_path / "f").write_text("here\n")
    binds: list[dict[str, object]] = [
        {"source": str(tmp_path / "f"), "target": "/var/run/edgeway-test/f", "read_only": True}
    ]
    assert look(tmp_path, "print(Path('/run/edgeway-test/f').read_text(), end='')", binds) == "here\n"
    assert not Path("/run/edgeway-test").exists()


def test_scripts_of_ours_can_be_run(tmp_path: Path) -> None:
    """A file that begins like a script is one."""
    files = {"/usr/local/bin/edgeway-test": "#!/bin/sh\necho ran\n", "/etc/hostname": "n\n"}
    script = "print(Path('/etc/hostname').read_text(), end='', flush=True); os.system('/usr/local/bin/edgeway-test')"
    assert look(tmp_path, script, files=files) == "n\nran\n"
    assert not Path("/usr/local/bin/edgeway-test").exists()


def test_a_step_that_fails_says_which_and_why(tmp_path: Path) -> None:
    """The kernel's number travels with it."""
    with pytest.raises(StepError) as caught:
        mount("x", str(tmp_path / "missing"), "tmpfs")
    assert caught.value.problem() == {
        "step": f"mount tmpfs on {tmp_path}/missing",
        "errno": 2,
        "message": "No such file or directory",
    }


def test_a_place_to_mount_on_is_made_once(tmp_path: Path) -> None:
    """What is there already stays as it is."""
    file = tmp_path / "a" / "b"
    make_place(str(file), directory=False)
    file.write_text("kept")
    make_place(str(file), directory=False)
    make_place(str(tmp_path / "d"), directory=True)
    assert file.read_text() == "kept"
    assert (tmp_path / "d").is_dir()
