"""The lab runner with real namespaces: labs come up, heal, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab import runner, state
from appliance.panel.lab.observe import observe
from tests.support import namespaces
from tests.support.waiting import eventually

pytestmark = pytest.mark.kernel

PREFIX = "edgeway-test-"
#: No other lab or test has an interface of this name, so one on the machine would be ours.
INTERFACE = "lrt-eth1"
TOPOLOGY = f"""\
topology:
  nodes:
    left:
      kind: linux
      exec: [ip address add 10.0.0.1/24 dev {INTERFACE}]
    right:
      kind: linux
      sysctls: {{net.ipv4.ip_forward: 0}}
      exec: [ip address add 10.0.0.2/24 dev {INTERFACE}]
    switch: {{kind: bridge}}
  links:
    - endpoints: ["left:{INTERFACE}", "switch:p1"]
    - endpoints: ["right:{INTERFACE}", "switch:p2"]
"""
#: Bring a lab up as the command line does, and stay at one line of its progress.
STAY_AT = """
import sys, time
from appliance.panel.lab import runner
def progress(line):
    if sys.argv[2] in line:
        print(line, flush=True)
        time.sleep(1000)
runner.up(sys.argv[1], progress)
"""

MakeFile = Callable[[str], Path]


def processes_of(lab: str) -> dict[int, str]:
    """Return the processes of a lab, by its mark in their environment, each with its network namespace."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"EDGEWAY_LAB={lab}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                found[int(directory.name)] = str((directory / "ns/net").readlink())
        except OSError:
            continue
    return found


def namespaces_in_use() -> set[str]:
    """Return every network namespace that a process is in, as `ls -l /proc/*/ns/net` shows them."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(str(link.readlink()))
        except OSError:
            continue
    return found


def mounts() -> list[str]:
    """Return what is mounted on the machine, but for the namespaces of tests that run beside this one."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if f"/{namespaces.PREFIX}" not in line]


def ping(lab: Path) -> bool:
    """Ask `left` whether it reaches `right`."""
    return runner.run_in(lab, "left", ["ping", "-c", "1", "-W", "1", "10.0.0.2"], timeout=10).returncode == 0


@pytest.fixture
def name() -> Iterator[str]:
    """Give the lab a name of this run; what earlier runs left is taken down, and so is this one after the test."""
    for lab in state.labs():
        owner = lab.removeprefix(PREFIX)
        if owner != lab and not Path(f"/proc/{owner}").exists():
            runner.down(lab)
    lab = f"{PREFIX}{os.getpid()}"
    runner.down(lab)
    yield lab
    runner.down(lab)


@pytest.fixture
def make_file(name: str, tmp_path: Path) -> MakeFile:
    """Write topology files of this lab."""

    def make(topology: str) -> Path:
        file = tmp_path / "test.clab.yml"
        file.write_text(f"name: {name}\n{topology}", encoding="utf-8")
        return file

    return make


@pytest.fixture
def lab(make_file: MakeFile) -> Path:
    """Bring the lab of this module up."""
    file = make_file(TOPOLOGY)
    assert runner.up(file).failures == ()
    return file


def test_nodes_reach_each_other_through_a_bridge(lab: Path) -> None:
    """As soon as `up` returns: nothing has to be waited for."""
    assert ping(lab)


def test_nothing_of_a_lab_is_seen_on_the_machine(
    name: str, make_file: MakeFile, netns_factory: namespaces.Namespaces
) -> None:
    """No mount, no device, no sysctl: only processes and the state, which is root's."""
    netns_factory("first")  # the very first one on a machine mounts /run/netns: not while we look
    before = (mounts(), Path("/proc/sys/net/ipv4/ip_forward").read_text())
    file = make_file(TOPOLOGY)
    runner.up(file)
    assert (mounts(), Path("/proc/sys/net/ipv4/ip_forward").read_text()) == before
    assert not Path(f"/sys/class/net/{INTERFACE}").exists()
    assert (state.ROOT / name).stat().st_mode & 0o077 == 0
    refused = runner.run_in(file, "left", ["sh", "-c", "echo 1 > /proc/sys/vm/swappiness"])
    assert "Read-only" in refused.stderr


def test_links_have_containerlabs_mtu_and_are_up(lab: Path) -> None:
    """9500, unless the file says otherwise."""
    shown = runner.run_in(lab, "left", ["ip", "-o", "link", "show", INTERFACE]).stdout
    assert "mtu 9500" in shown
    assert "state UP" in shown


def test_a_node_is_its_own_machine(lab: Path) -> None:
    """Host name, sysctls, processes, /run, the mounted /sys."""
    script = "hostname; cat /proc/sys/net/ipv4/ip_forward; ls /run /sys/class/net; ls -d /proc/[0-9]* | wc -l"
    said = runner.run_in(lab, "right", ["sh", "-c", script]).stdout
    assert said.split("\n")[:2] == ["right", "0"]
    assert INTERFACE in said
    assert "edgeway-lab" not in said
    assert int(said.split()[-1]) < 10


def test_a_killed_main_command_is_started_again(lab: Path) -> None:
    """As systemd does it in the VM; the status counts."""

    def main() -> tuple[int | None, int]:
        node = next(node for node in runner.status(lab).nodes if node.name == "left")
        assert node.main
        return node.main.pid, node.main.restarts

    pid, restarts = main()
    assert restarts == 0
    assert runner.run_in(lab, "left", ["kill", "-9", str(pid)]).returncode == 0
    eventually(lambda: main()[1] == 1 and main()[0] not in {None, pid})
    assert ping(lab)


def test_down_leaves_nothing(name: str, lab: Path) -> None:
    """No process, no mount, no namespace, no state; also of namespaces and children made inside."""
    inside = "ip netns add inner; ip netns exec inner sleep 1000 & mount -t tmpfs x /mnt; setsid sleep 1000 &"
    runner.run_in(lab, "left", ["sh", "-c", f"({inside}) >/dev/null 2>&1"])
    eventually(lambda: len(set(processes_of(name).values())) == 4, what="three nodes and the inner namespace")
    ours = set(processes_of(name).values())
    assert ours <= namespaces_in_use()
    assert runner.down(lab).nodes == 3
    eventually(lambda: not processes_of(name))
    eventually(lambda: not ours & namespaces_in_use())
    assert not [line for line in mounts() if name in line]
    assert name not in state.labs()


def test_down_twice_is_fine(lab: Path) -> None:
    """The second time there is nothing to do."""
    assert runner.down(lab).was_up
    assert not runner.down(lab).was_up


def test_up_twice_begins_anew(name: str, lab: Path) -> None:
    """The nodes are other ones, and there are no more of them."""
    before = {node.pid for node in runner.status(name).nodes}
    runner.up(lab)
    after = {node.pid for node in runner.status(name).nodes}
    assert len(after) == 3
    assert not before & after
    assert ping(lab)
    eventually(lambda: len(set(processes_of(name).values())) == 3)


@pytest.mark.parametrize("line", ["nodes started", "links made", "commands run"])
def test_an_up_that_was_killed_is_cleared_away_by_the_next(name: str, make_file: MakeFile, line: str) -> None:
    """At any of its steps; until then `status` says that the lab is not complete."""
    file = make_file(TOPOLOGY)
    command = [sys.executable, "-c", STAY_AT, str(file), line]
    root = str(Path(runner.__file__).parents[3])
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root}) as up:
        assert up.stdout
        assert up.stdout.readline()
        up.kill()
    left = set(processes_of(name))
    assert not runner.status(name).complete
    runner.up(file)
    assert ping(file)
    eventually(lambda: not left & set(processes_of(name)))
    assert runner.status(name).complete


def test_a_killed_up_does_not_outlive_the_making_of_nodes(name: str, make_file: MakeFile) -> None:
    """Killed while nodes are being made: those half made end by themselves, the others are cleared away."""
    file = make_file(TOPOLOGY)
    root = str(Path(runner.__file__).parents[3])
    command = [sys.executable, "-c", STAY_AT, str(file), "no such line"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root}) as up:
        eventually(lambda: state.State(name).records())
        up.kill()
    assert runner.down(name).was_up
    eventually(lambda: not processes_of(name))


def test_a_node_that_died_is_seen_and_cleared_away(name: str, lab: Path) -> None:
    """Its pid 1 was killed by somebody: its status says so, and a new `up` is not hindered."""
    os.kill(runner.node_pid(lab, "left"), signal.SIGKILL)
    eventually(lambda: [node.pid is None for node in runner.status(name).nodes] == [True, False, False])
    with pytest.raises(OperatorError, match="no running node 'left'"):
        runner.node_pid(lab, "left")
    runner.up(lab)
    assert ping(lab)


def test_a_lab_that_cannot_come_up_leaves_nothing(name: str, make_file: MakeFile) -> None:
    """The error names the node, its place, and what the node's log said."""
    file = make_file("topology:\n  nodes:\n    good: {kind: linux}\n    bad: {kind: linux, cmd: no-such-program}\n")
    with pytest.raises(OperatorError) as caught:
        runner.up(file)
    assert f"{file}:5:" in str(caught.value)
    assert "no-such-program" in str(caught.value)
    eventually(lambda: not processes_of(name))
    assert name not in state.labs()


def test_unsupported_kinds_are_refused_with_line_and_column(name: str, make_file: MakeFile) -> None:
    """All of them at once, before anything is made."""
    nodes = "    a: {kind: linux}\n    b: {kind: nokia_srlinux}\n    c:\n      kind: arista_ceos\n"
    with pytest.raises(OperatorError) as caught:
        runner.up(make_file(f"topology:\n  nodes:\n{nodes}"))
    assert [(found.line, found.column) for found in caught.value.findings] == [(5, 9), (7, 7)]
    assert name not in state.labs()


def test_a_failing_exec_is_reported_and_the_lab_is_up(make_file: MakeFile) -> None:
    """As with containerlab; the caller decides what it thinks of that."""
    said: list[str] = []
    file = make_file("topology: {nodes: {a: {kind: linux, exec: ['false', 'touch /tmp/after']}}}\n")
    lab = runner.up(file, said.append)
    assert [(failure.node, failure.command, failure.status) for failure in lab.failures] == [("a", "false", 1)]
    assert "warning: a: `false` ended with 1: " in said
    assert runner.run_in(file, "a", ["test", "-e", "/tmp/after"]).returncode == 0


def test_a_main_command_that_keeps_ending_is_said(make_file: MakeFile) -> None:
    """With the last line of the node's log: a daemon that dislikes its configuration, most of the time."""
    said: list[str] = []
    mark = "until [ -e /tmp/restarted ]; do sleep 0.05; done"
    command = "sh -c 'test -e /run/again && touch /tmp/restarted; touch /run/again; echo bad line 7; exit 1'"
    node = f'{{kind: linux, cmd: "{command}", exec: ["sh -c \'{mark}\'"]}}'
    runner.up(make_file(f"topology: {{nodes: {{a: {node}}}}}\n"), said.append)
    assert [line for line in said if line.startswith("warning: a: its main command keeps ending: ")]


def test_exec_passes_the_exit_status_through(lab: Path) -> None:
    """And runs in the node."""
    assert runner.exec_in(lab, "left", ["sh", "-c", '[ "$(hostname)" = left ] && exit 42']) == 42


def test_exec_works_at_a_terminal(lab: Path) -> None:
    """An interactive shell sees one."""
    program = "import sys; from appliance.panel.lab import runner; sys.exit(runner.exec_in(sys.argv[1], 'left', ['sh', '-c', 'test -t 0 && exit 5']))"
    root = str(Path(runner.__file__).parents[3])
    done = subprocess.run(
        ["script", "-qec", f'{sys.executable} -c "{program}" {lab}', "/dev/null"],
        env=os.environ | {"PYTHONPATH": root},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 5


def test_binds_and_environment_reach_the_main_command(make_file: MakeFile, tmp_path: Path) -> None:
    """A relative file, read only, and a variable."""
    (tmp_path / "conf").write_text("from the file\n")
    command = "sh -c 'echo $GREETING; cat /etc/test.conf; echo x > /etc/test.conf; exec sleep 1000'"
    node = f'{{kind: linux, binds: ["conf:/etc/test.conf:ro"], env: {{GREETING: hello}}, cmd: "{command}"}}'
    runner.up(make_file(f"topology: {{nodes: {{a: {node}}}}}\n"))
    log = Path(runner.status(f"{PREFIX}{os.getpid()}").nodes[0].log)
    eventually(lambda: "Read-only" in log.read_text())
    assert log.read_text().startswith("hello\nfrom the file\n")
    assert (tmp_path / "conf").read_text() == "from the file\n"


def test_what_a_topology_may_say_besides_comes_up(make_file: MakeFile) -> None:
    """Empty file systems, a link to nowhere, commands of stages before those of `exec`, a health check."""
    keys = "tmpfs: {/scratch: size=1m}, healthcheck: {test: [CMD-SHELL, test -e /run/done]}"
    stages = "stages: {configure: {exec: {on-exit: [sh -c 'echo stage > /scratch/said']}}}"
    node = f"{{kind: linux, {keys}, {stages}, exec: [grep -q stage /scratch/said]}}"
    link = f"{{type: dummy, endpoint: {{node: a, interface: {INTERFACE}}}}}"
    file = make_file(f"topology: {{nodes: {{a: {node}}}, links: [{link}]}}\n")
    assert runner.up(file).failures == ()
    assert "tmpfs /scratch tmpfs" in runner.run_in(file, "a", ["cat", "/proc/mounts"]).stdout
    assert "state UP" in runner.run_in(file, "a", ["ip", "-o", "link", "show", INTERFACE]).stdout
    assert [row.good for row in observe(file).checks] == [False]
    runner.run_in(file, "a", ["touch", "/run/done"])
    assert [(row.what, row.good) for row in observe(file).checks] == [("a is well", True)]


PEERS = {
    "frr.conf": """\
hostname frr
interface eth1
 ip address 10.9.0.1/24
!
ip route 10.99.0.0/16 blackhole
router bgp 65001
 no bgp ebgp-requires-policy
 neighbor 10.9.0.2 remote-as 65002
 neighbor 10.9.0.2 timers connect 1
 neighbor 10.9.0.3 remote-as 65003
 neighbor 10.9.0.3 timers connect 1
 address-family ipv4 unicast
  network 10.99.0.0/16
""",
    "bird.conf": """\
router id 10.9.0.2;
protocol device { scan time 1; }
protocol bgp frr { local 10.9.0.2 as 65002; neighbor 10.9.0.1 as 65001; connect delay time 1;
  ipv4 { import all; export all; }; }
""",
    "bgpd.conf": """\
AS 65003
router-id 10.9.0.3
neighbor 10.9.0.1 { remote-as 65001 }
allow from any
""",
}
PEERS_TOPOLOGY = """\
topology:
  defaults: {kind: linux}
  nodes:
    frr: {image: "registry.example/frrouting/frr:10.5.1", binds: ["frr.conf:/etc/frr/frr.conf:ro"]}
    bird:
      image: registry.example/srl-labs/bird:2.13
      binds: ["bird.conf:/etc/bird/bird.conf:ro"]
      exec: [ip address add 10.9.0.2/24 dev eth1]
    obgpd:
      image: registry.example/openbgpd/openbgpd:7.9
      binds: ["bgpd.conf:/etc/bgpd/bgpd.conf:ro"]
      exec: [ip address add 10.9.0.3/24 dev eth1]
    lan: {kind: bridge}
  links:
    - endpoints: ["frr:eth1", "lan:p1"]
    - endpoints: ["bird:eth1", "lan:p2"]
    - endpoints: ["obgpd:eth1", "lan:p3"]
"""


@pytest.mark.engine
def test_the_routers_of_the_image_table_speak_to_each_other(make_file: MakeFile, tmp_path: Path) -> None:
    """FRR, BIRD and OpenBGPD, each with the file that its image would read, exchange a route."""
    for file, content in PEERS.items():
        (tmp_path / file).write_text(content)
    lab = make_file(PEERS_TOPOLOGY)
    runner.up(lab)
    for node, command in (("bird", "birdc show route"), ("obgpd", "bgpctl show rib")):
        show = partial(runner.run_in, lab, node, command.split())
        eventually(lambda show=show: "10.99.0.0/16" in show().stdout, what=f"{node} has FRR's route")  # type: ignore[misc]
    assert all(node.main is None or node.main.restarts == 0 for node in runner.status(lab).nodes)
