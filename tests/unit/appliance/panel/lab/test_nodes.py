"""The keys of one node: kinds, configurations at the start, what is mounted; the rest is told by test_topology."""

from __future__ import annotations

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab.images import start_of
from appliance.panel.lab.topology import parse
from appliance.panel.lab.values import Topology


def lab(keys: str) -> Topology:
    """Parse a lab of one node with these keys."""
    return parse(f"name: x\ntopology: {{nodes: {{a: {{{keys}}}}}}}\n", "x.clab.yml")


@pytest.mark.parametrize(
    ("keys", "target"),
    [
        ("kind: linux, image: edgeway:1", "/etc/edgeway/intent.yaml"),
        ("kind: generic_vm, image: edgeway-vm:1", "/config/startup-config.cfg"),
    ],
)
def test_a_configuration_goes_to_where_the_program_reads_it(keys: str, target: str) -> None:
    """Read only: a lab is described by its files."""
    topology = lab(f"{keys}, startup-config: intent.yaml")
    config = topology.nodes[0].startup_config
    assert config
    assert (config.source, config.target, config.read_only) == ("intent.yaml", target, True)
    assert topology.warnings == ()


def test_a_configuration_that_nobody_reads_is_told() -> None:
    """As in containerlab, kind linux reads none; only of our own image we know where it does."""
    topology = lab("kind: linux, image: bird:2, startup-config: bird.conf")
    assert [warning.message for warning in topology.warnings] == ["`startup-config` makes no difference"]
    assert topology.nodes[0].startup_config is None


def test_a_delay_is_that_of_the_main_command() -> None:
    """And of a machine that does nothing too."""
    assert start_of(lab("kind: linux, cmd: serve 80, startup-delay: 7").nodes[0]).main == (
        "sh", "-c", 'sleep 7; exec "$@"', "sh", "serve", "80",
    )  # fmt: skip
    with pytest.raises(OperatorError, match="no number of seconds"):
        lab("kind: linux, startup-delay: soon")


def test_file_systems_in_memory_have_a_place_and_options() -> None:
    """A place that leads out of the node, or is its root, is refused."""
    assert lab("kind: linux, tmpfs: {/scratch: size=1m}").nodes[0].tmpfs == (("/scratch", "size=1m"),)
    for place in ("scratch", "/", "/a/../.."):
        with pytest.raises(OperatorError, match="no place in a node"):
            lab(f"kind: linux, tmpfs: {{{place}: size=1m}}")


def test_another_switch_is_a_bridge() -> None:
    """Frames pass alike; that it is another is said."""
    topology = lab("kind: ovs-bridge")
    assert topology.nodes[0].kind == "bridge"
    assert len(topology.warnings) == 1


def test_memory_is_that_of_a_virtual_machine() -> None:
    """No limit is set for others, and that is said."""
    assert lab("kind: generic_vm, memory: 512MiB").nodes[0].memory == "512MiB"
    assert lab("kind: generic_vm, memory: 512MiB").warnings == ()
    assert [warning.message for warning in lab("kind: linux, memory: 1GB").warnings] == ["`memory` makes no difference"]
