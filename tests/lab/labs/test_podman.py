"""Nodes of our image as containers, with links that arrive later and nothing that is left.

The image is a stand-in of one file; with EDGEWAY_IMAGE=all the built one runs a whole lab.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.panel.lab import podman, runner, state
from appliance.panel.lab_cli import ARCHIVE
from images.oci import make_oci
from tests.lab.driving import ROOT, Lab, alone
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(1800)]

NAME = "edgeway-test-podman"
TOPOLOGY = f"""\
name: {NAME}
topology:
  defaults: {{kind: linux}}
  nodes:
    a:
      image: edgeway:stand-in
      entrypoint: /bin/sh -c 'echo $EDGEWAY_NODE; cat /etc/said; exec sleep 1000'
      binds: ["said:/etc/said:ro"]
      exec: [ip address add 10.0.0.1/24 dev eth1]
    b: {{exec: [ip address add 10.0.0.2/24 dev eth1]}}
  links: [{{endpoints: ["a:eth1", "b:eth1"]}}]
"""


def podman_works() -> bool:
    """Tell whether this machine has what containers need."""
    return all(shutil.which(program) for program in ("podman", "runc", "conmon", "busybox"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make an image of busybox, whose archive is written by the same code as that of our own."""
    tree = tmp_path / "tree"
    for directory in ("bin", "etc", "proc", "sys", "dev", "run", "tmp", "var"):
        (tree / directory).mkdir(parents=True)
    shutil.copy2("/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "sleep", "cat", "ip", "ping"):
        (tree / "bin" / name).symlink_to("busybox")
    file = tmp_path / "oci.tar"
    make_oci(file, tree, "0", 1_700_000_000)
    return file


def left_behind() -> list[str]:
    """Return what of podman is on the machine because of the lab."""
    groups = [
        *Path("/sys/fs/cgroup").glob(f"edgeway-lab/{NAME}"),
        *Path("/sys/fs/cgroup").glob(f"*/edgeway-lab/{NAME}"),
    ]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if NAME in line]
    conmon = subprocess.run(["pgrep", "-f", f"conmon.*{NAME}"], capture_output=True, text=True, check=False).stdout
    return [*map(str, groups), *mounts, *conmon.split(), *map(str, podman.ROOT.glob(NAME))]


@pytest.mark.skipif(not podman_works(), reason="podman, runc, conmon or busybox is not installed")
def test_a_container_has_its_links_its_files_and_leaves_nothing(tmp_path: Path, archive: Path) -> None:
    """Beside a node that is namespaces; `up` once more begins anew."""
    (tmp_path / "said").write_text("bound\n")
    file = tmp_path / "x.clab.yml"
    file.write_text(TOPOLOGY)
    with alone(NAME):
        try:
            for _ in range(2):
                assert runner.up(file, containers=archive).failures == ()
                assert runner.run_in(file, "b", ["ping", "-c1", "-W5", "10.0.0.1"], timeout=30).returncode == 0
                assert runner.run_in(file, "a", ["cat", "/proc/sys/kernel/hostname"], timeout=30).stdout == "a\n"
                log = state.State(NAME).log("a")
                eventually(lambda log=log: log.read_text().count(" F ") == 2, what="the container's log")  # type: ignore[misc]
                assert [line.rpartition(" F ")[2] for line in log.read_text().splitlines()] == ["a", "bound"]
            assert Path(f"/proc/{runner.node_pid(file, 'a')}/root/bin/busybox").exists()
            assert not Path(f"/proc/{runner.node_pid(file, 'a')}/root/usr").exists()
        finally:
            runner.down(file)
        eventually(lambda: not left_behind(), what="nothing is left", within=60)


@pytest.mark.image
@pytest.mark.skipif(os.environ.get("EDGEWAY_IMAGE") != "all", reason="takes longer than a minute: EDGEWAY_IMAGE=all")
@pytest.mark.parametrize("name", ["vpc-edge", "az"])
def test_a_lab_does_the_same_with_containers_of_the_built_image(name: str) -> None:
    """With the capabilities that we say it needs, and no others: every check of the lab is good."""
    topology = ROOT / "labs" / name / f"{name}.clab.yml"
    with alone("zone" if name == "az" else f"lab-{name}"):
        try:
            assert runner.up(topology, containers=ROOT / ARCHIVE).failures == ()
            lab = Lab(topology, ())
            lab.green(900)
            assert all(row.state == "converged" for row in lab.observe().nodes)
        finally:
            runner.down(topology)
