"""Two boxes as virtual machines in labs/vm: they boot, exchange routes, and carry packets of a guest."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from appliance.panel.lab import runner
from appliance.panel.lab_cli import MACHINES
from tests.lab.driving import ROOT, Lab, alone

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.environ.get("EDGEWAY_IMAGE") != "all", reason="boots two machines: EDGEWAY_IMAGE=all"),
]

TOPOLOGY = ROOT / "labs/vm/vm.clab.yml"


@pytest.fixture(scope="module")
def machines() -> Iterator[Lab]:
    """The lab, with every check of its checks.yaml true."""
    image = os.environ.get("EDGEWAY_IMAGE_DIR") or ROOT / MACHINES
    with alone("lab-vm"):
        try:
            assert runner.up(TOPOLOGY, machines=ROOT / image).failures == ()
            lab = Lab(TOPOLOGY, ("rs1", "edge"))
            lab.green(1200)
            yield lab
        finally:
            runner.down(TOPOLOGY)


def test_commands_run_in_the_machine_and_not_around_it(machines: Lab) -> None:
    """With their words and their exit status; as root."""
    assert machines.out("edge", "sh", "-c", 'echo "$(id -u)" "$0"', "two  blanks") == "0 two  blanks\n"
    assert machines.run("edge", "sh", "-c", "exit 7").returncode == 7
    # Made by the daemon in there; eth3 is in the namespace of its VPC by now.
    assert {"eth2", "ew-v101"} <= set(machines.out("edge", "ls", "/sys/class/net").split())


def test_the_daemon_of_a_machine_answers_as_any_other(machines: Lab) -> None:
    """Through the node's own socket."""
    assert machines.show("rs1", "status")["converged"]
    assert {row["state"] for row in machines.show("rs1", "neighbors")} == {"established"}
