from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.model.errors import OperatorError
from routing.interop.cases import chosen, world
from routing.interop.device import Device
from routing.interop.dialects.dialect import Dialect, Written
from routing.interop.place import Place
from tests.support.waiting import eventually

pytestmark = pytest.mark.kernel
WORLD = world(chosen(["sessions/open"]))
DIALECT = Dialect("mine", lambda _, run: Written({"conf": f"here is {run}\n"}, "conf"))
#: It starts a child, as routers do, and hears SIGTERM.
ROUTER = (
    "sh -c 'trap \"echo asked to end; exit 3\" TERM; sleep 1000 & cat {config}; echo child $!; ip -brief link; wait'"
)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Make a LAN."""
    with Place(WORLD) as made:
        yield made


@pytest.fixture
def device(place: Place, tmp_path: Path) -> Iterator[Device]:
    """Start a router."""
    made = Device(DIALECT, ROUTER, tmp_path)
    try:
        made.start(WORLD, place)
        eventually(lambda: "eth0" in made.last_words, what="the router has started")
        yield made
    finally:
        made.close()


def sleepers(directory: Path) -> list[int]:
    """Return the processes that work in a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == directory:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_it_finds_its_configuration_and_the_lan(device: Device, tmp_path: Path) -> None:
    """{config} is a file in {run}, for its owner alone; it runs in the namespace."""
    assert f"here is {tmp_path}" in device.last_words
    assert (tmp_path / "conf").stat().st_mode & 0o777 == 0o600
    assert device.status is None


def test_it_is_asked_to_end_and_its_status_is_known(device: Device) -> None:
    """SIGTERM is for the router, not for what stands around it."""
    device.terminate()
    eventually(lambda: device.status is not None, what="it has ended")
    assert (device.status, device.last_words.splitlines()[-1]) == (3, "asked to end")


def test_nothing_that_it_started_is_left(device: Device, tmp_path: Path) -> None:
    """Children in the background neither."""
    assert len(sleepers(tmp_path)) > 2
    device.close()
    eventually(lambda: not sleepers(tmp_path), what="all have ended")


@pytest.mark.parametrize("become", ["", "setpriv --reuid nobody --clear-groups "])
def test_it_ends_with_us_however_we_end(tmp_path: Path, become: str) -> None:
    """SIGKILL leaves no time to clean up: the kernel does it, also if the router has become another user."""
    tmp_path.chmod(0o777)
    router = ROUTER.replace("cat {config}", "true").replace("sh -c", f"{become}sh -c")
    code = f"""
import sys, time
from pathlib import Path
from tests.unit.routing.interop.test_device import *
with Place(WORLD) as place:
    device = Device(DIALECT, {router!r}, Path({str(tmp_path)!r}))
    device.start(WORLD, place)
    eventually(lambda: "eth0" in device.last_words, what="the router has started")
    print("started", flush=True)
    time.sleep(1000)
"""
    root = Path(__file__).parents[4]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"started\n"
        assert sleepers(tmp_path)
        harness.send_signal(signal.SIGKILL)
    eventually(lambda: not sleepers(tmp_path), what="all have ended")


@pytest.mark.parametrize(
    ("dialect", "command", "message"),
    [
        (DIALECT, "no-such-router -c {config}", "no-such-router is not there"),
        (Dialect("x", DIALECT.write, user="no-such-user"), "true", "no user no-such-user"),
    ],
)
def test_what_cannot_be_started_is_told(
    place: Place, tmp_path: Path, dialect: Dialect, command: str, message: str
) -> None:
    """With what to do."""
    with pytest.raises(OperatorError, match=message):
        Device(dialect, command, tmp_path).start(WORLD, place)


def test_closing_what_never_started_is_nothing(tmp_path: Path) -> None:
    """And nothing was said."""
    device = Device(DIALECT, "true", tmp_path)
    device.close()
    assert (device.status, device.last_words) == (None, "")
