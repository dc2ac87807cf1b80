"""What is left of root: in processes of their own, for there is no way back."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from routing.engines.native import privileges
from tests.support.engines import enter
from tests.support.namespaces import Namespaces

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[5]
NOBODY = 65534

# Gives up what it has and says what is left; what root had opened stays open, and nothing is to be had again.
PROGRAM = """
import json, os, resource, socket, sys
from pathlib import Path
from routing.engines.native import privileges
listener = socket.socket()
listener.bind(("0.0.0.0", 179))
for step in sys.argv[2:]:
    exec(step)
privileges.give_up(privileges.account(tuple(sys.argv[1].split())))
listener.listen()
left = dict(line.split(":\\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
def tried(what, *arguments):
    try:
        what(*arguments)
    except OSError as error:
        return type(error).__name__
    return "done"
left["core"] = resource.getrlimit(resource.RLIMIT_CORE)
left["bind"] = tried(socket.socket().bind, ("0.0.0.0", 178))
left["back"] = tried(os.setuid, 0)
left["groups"] = tried(os.setgroups, [0])
left["shadow"] = tried(open, "/etc/shadow")
left["interfaces"] = [name for _, name in socket.if_nameindex()]
# Of a process that may not be looked into, root owns the memory.
left["owner"] = os.stat("/proc/self/mem").st_uid
print(json.dumps(left))
"""


def left(*steps: str, users: str = "edgeway-is-not-here nobody", before: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a process has left."""
    command = (*before, sys.executable, "-c", PROGRAM, users, *steps)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"log": done.stderr}


def check(found: dict[str, Any]) -> None:
    """Find nothing left."""
    assert found["Uid"].split() == [str(NOBODY)] * 4
    assert len(set(found["Gid"].split())) == 1
    assert found["Gid"].split()[0] != "0"
    assert found["Groups"].split() == []
    for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert int(found[f"Cap{kind}"], 16) == 0, kind
    assert found["NoNewPrivs"].strip() == "1"
    assert found["core"] == [0, 0]
    assert found["owner"] == 0
    assert (found["back"], found["groups"], found["shadow"]) == ("PermissionError",) * 3
    assert "privileges-given-up user='nobody'" in found["log"]


def test_nothing_is_left_of_root(netns_factory: Namespaces) -> None:
    """In a namespace of the network, which it stays in; the port that root had bound is served."""
    place = netns_factory("native")
    found = left(before=("ip", "netns", "exec", place))
    check(found)
    assert found["interfaces"] == ["lo"]


def test_nothing_is_left_of_root_in_a_thread_that_entered_a_namespace(netns_factory: Namespaces) -> None:
    """The daemon of a lab starts its engines from such a thread: children stand where the thread stands."""
    place = netns_factory("native")

    def inside() -> dict[str, Any]:
        enter(place)
        return left()

    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(inside).result()
    check(found)
    assert found["interfaces"] == ["lo"]


def test_capabilities_that_would_be_inherited_are_gone_too(netns_factory: Namespaces) -> None:
    """A service manager may have given some; groups as well."""
    place = netns_factory("native")
    given = ("setpriv", "--inh-caps", "+net_raw,+net_admin", "--ambient-caps", "+net_raw", "--groups", "0,4,27")
    check(left(before=("ip", "netns", "exec", place, *given)))


def test_who_may_not_empty_the_bounding_set_gives_up_the_rest(netns_factory: Namespaces) -> None:
    """A container may have taken CAP_SETPCAP away."""
    place = netns_factory("native")
    taken = ("setpriv", "--bounding-set", "-setpcap", "--inh-caps", "-setpcap")
    found = left(before=("ip", "netns", "exec", place, *taken))
    assert int(found["CapBnd"], 16) != 0
    check(found | {"CapBnd": "0"})


def test_who_is_not_root_stays_who_it_is(netns_factory: Namespaces) -> None:
    """There is nothing to give up but what could be gained; the log says so."""
    place = netns_factory("native")
    found = left("os.setuid(12345)", before=("ip", "netns", "exec", place))
    assert found["Uid"].split() == ["12345"] * 4
    assert (found["NoNewPrivs"].strip(), found["core"]) == ("1", [0, 0])
    assert "privileges-kept uid=12345" in found["log"]


def test_a_machine_without_unprivileged_users_is_refused() -> None:
    """What serves strangers must not run as root."""
    with pytest.raises(OSError, match="no unprivileged user"):
        privileges.account(("edgeway-is-not-here",))
    found = privileges.account()
    assert found is not None
    assert found.uid != 0
