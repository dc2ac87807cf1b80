"""An engine as a unit: a stand-in does what systemd does, root's files stay root's, and the daemon's view is the same."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.model.errors import EngineError
from routing.engines import files, units
from routing.engines.process import Process
from routing.engines.units import Unit
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.kernel
NOBODY = pwd.getpwnam("nobody")
#: What systemd makes of the unit file, as far as it concerns us; `%i` and KIND are filled in by who calls.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>{told}
[ ! -e {broken} ] || {{ echo "Job for $3 failed." >&2; echo "See the log." >&2; exit 1; }}
directory={run}/$(expr "$3" : 'edgeway-\\(.*\\)@')/$(expr "$3" : '.*@\\(.*\\)\\.service')
[ ! -e {last} ] || kill -9 $(cat {last}) 2>/dev/null
setsid setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs --inh-caps -all --bounding-set -all \\
    /bin/sh "$directory/run" </dev/null >{log} 2>&1 &
echo $! >{last}
MAINPID=$! exec /bin/sh "$directory/started"
"""
SLEEP = ("sleep", "600")


class Systemd:
    """The stand-in and what it leaves behind."""

    def __init__(self, place: Path) -> None:
        self.place, self.run = place, place / "run"
        self.told, self.broken, self.log, self.last = (place / name for name in ("told", "broken", "log", "last"))
        words = {name: shlex.quote(str(value)) for name, value in vars(self).items()}
        self.program = place / "bin" / "systemctl"
        self.program.parent.mkdir()
        self.program.write_text(SYSTEMCTL.format(**words))
        self.program.chmod(0o755)

    def process(self, *command: str, **env: str) -> Process:
        """Return the process of a speaker `zone`."""
        return Process("native", command or SLEEP, env, self.run / "native" / "zone")


@pytest.fixture
async def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Systemd]:
    """Let `systemctl` be the stand-in, and `nobody` the engines' user; end what it has started."""
    made = Systemd(tmp_path)
    for directory in (tmp_path, *list(tmp_path.parents)[:-2]):
        directory.chmod(0o711)  # the engine's user passes through, as it does in /run
    monkeypatch.setenv("PATH", f"{made.program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("EDGEWAY_UNITS", "systemd")
    monkeypatch.setattr(units, "USER", "nobody")
    (made.run / "native").mkdir(parents=True)
    yield made
    await made.process().stop(0.5)


async def test_the_unit_runs_what_a_child_would_run(systemd: Systemd) -> None:
    """With this environment and no other, as the engines' user; systemd is asked once."""
    process = systemd.process(LANG="it's C", EDGEWAY_X="a b")
    assert await process.ensure()
    assert process.alive()
    assert systemd.told.read_text() == "restart -- edgeway-native@zone.service\n"
    found = Path(f"/proc/{process.pid}")
    await eventually_async(lambda: (found / "cmdline").read_bytes() == b"sleep\x00600\x00", what="it is executed")
    words = set((found / "environ").read_bytes().decode().split("\0"))
    assert words == {"LANG=it's C", "EDGEWAY_X=a b", f"PATH={process.env['PATH']}", ""}
    assert os.stat(found).st_uid == NOBODY.pw_uid  # noqa: PTH116 - procfs does not block


async def test_the_next_daemon_adopts_it(systemd: Systemd) -> None:
    """By the note that root wrote; another command means another process."""
    process = systemd.process()
    await process.ensure()
    heir = systemd.process()
    assert not await heir.ensure()
    assert heir.pid == process.pid
    other = systemd.process("sleep", "601")
    assert await other.ensure()
    assert not heir.alive()
    assert other.alive()


async def test_it_ends_by_a_signal_of_the_daemon(systemd: Systemd) -> None:
    """As a child would; nothing of it is known afterwards, and it can be started again."""
    process = systemd.process()
    await process.ensure()
    pid = process.pid
    await process.stop()
    assert not (process.directory / "native.pid").exists()
    assert await process.ensure()
    assert process.pid != pid


async def test_the_engine_owns_one_directory_and_reads_what_it_is_told(systemd: Systemd) -> None:
    """What root goes by (the note, the scripts) it can neither write nor replace; what is written later it reads too."""
    directory = systemd.run / "native" / "zone"
    files.write(directory / "speaker.json", b"before")
    process = systemd.process()
    await process.ensure()
    files.write(directory / "later.json", b"after")
    modes = {path.name: (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) for path in directory.iterdir()}
    assert modes == {
        "run": (0o640, 0),
        "started": (0o600, 0),
        "native.pid": (0o600, 0),
        "speaker.json": (0o640, 0),
        "later.json": (0o640, 0),
        "state": (0o700, NOBODY.pw_uid),
    }
    assert (stat.S_IMODE(directory.stat().st_mode), directory.stat().st_uid) == (0o750, 0)
    assert as_engine(directory, "cat", "later.json").stdout == b"after"
    for attempt in (("touch", "new"), ("rm", "-f", "native.pid"), ("cat", "native.pid"), ("sh", "-c", ">run")):
        assert as_engine(directory, *attempt).returncode, attempt
    assert as_engine(directory, "touch", "state/new").returncode == 0


def as_engine(directory: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command as the engines' user."""
    who = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--")
    return subprocess.run([*who, *command], cwd=directory, capture_output=True, check=False)


async def test_a_unit_that_does_not_start_is_told_with_the_way_to_its_log(systemd: Systemd) -> None:
    """The operator's next step is in the message; once it can start it does."""
    systemd.broken.touch()
    process = systemd.process()
    with pytest.raises(EngineError, match=r"Job for .* failed.*journalctl -u edgeway-native@zone\.service"):
        await process.ensure()
    systemd.broken.unlink()
    assert await process.ensure()


async def test_a_program_that_ends_at_once_is_told(systemd: Systemd) -> None:
    """Instead of being waited for: systemd has seen it start."""
    process = systemd.process("true")
    try:
        started = await process.ensure()
    except EngineError as error:
        assert "journalctl" in str(error)  # noqa: PT017 - or it was seen alive for a moment
        return
    assert started
    assert await process.wait() is None


async def test_what_runs_unnoted_is_replaced(systemd: Systemd) -> None:
    """A daemon that loses the note asks for a restart, not for a start that would do nothing."""
    process = systemd.process()
    await process.ensure()
    (process.directory / "native.pid").unlink()
    heir = systemd.process()
    assert await heir.ensure()
    await eventually_async(lambda: not process.alive(), what="the old one has ended")
    assert heir.alive()


async def test_a_program_that_is_missing_is_told_before_systemd_is_asked(systemd: Systemd) -> None:
    """As for a child."""
    with pytest.raises(EngineError, match="no-such-engine is not installed"):
        await systemd.process("no-such-engine").ensure()
    assert not systemd.told.exists()


def test_the_name_of_a_unit_is_kind_and_speaker() -> None:
    """A speaker that systemd would read otherwise is refused."""
    assert Unit(Path("/run/edgeway/gobgp/zone")).name == "edgeway-gobgp@zone.service"
    for speaker in ("a b", "a%i", "ü"):
        with pytest.raises(EngineError, match="cannot be part"):
            _ = Unit(Path("/run/edgeway/gobgp") / speaker).name


def test_children_are_the_way_unless_the_environment_says_otherwise() -> None:
    """A container and a lab have no systemd."""
    assert not units.wanted({})
    assert not units.wanted({"EDGEWAY_UNITS": "no"})
    assert units.wanted({"EDGEWAY_UNITS": "systemd"})
