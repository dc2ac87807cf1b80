from __future__ import annotations

import os

import pytest

from appliance.panel.lab.images import IMAGES, Image, Start, image_of, start_of
from appliance.panel.lab.values import Kind, Node, Place


def node(image: str = "", kind: Kind = "linux", **others: str) -> Node:
    """Make a node."""
    return Node("n", kind, Place("topology.nodes.n", 1, 1), image=image, hostname="host-n", **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "runs"),
    [
        ("edgeway:dev", "edgeway run"),
        ("registry.example/x/edgeway@sha256:00", "edgeway run"),
        ("registry.example/frrouting/frr:10.5.1", "/usr/lib/frr/bgpd"),
        ("frrouting/frr", "/usr/lib/frr/bgpd"),
        ("registry.example/srl-labs/bird:2.13", "/usr/sbin/bird"),
        ("bird2", "/usr/sbin/bird"),
        ("registry.example/openbgpd/openbgpd:7.9", "/usr/sbin/bgpd"),
        ("jauderho/gobgp:v3.37.0", "/usr/bin/gobgpd"),
        ("registry.example/x/exabgp:4.2", "exabgp server /etc/exabgp/exabgp.conf"),
        ("debian:12", "sleep infinity"),
        ("", "sleep infinity"),
        ("bird/debian:12", "sleep infinity"),
        ("my-edgeway-tools:1", "sleep infinity"),
    ],
)
def test_an_image_stands_for_a_program_of_the_machine(image: str, runs: str) -> None:
    """Registry, tag and digest make no difference; an unknown image does nothing."""
    assert runs in " ".join(start_of(node(image)).main)


def test_our_own_daemon_is_told_which_node_it_is() -> None:
    """By the node's host name."""
    assert start_of(node("edgeway:dev")).main[-2:] == ("--node", "host-n")


def test_a_command_of_its_own_goes_before_the_images() -> None:
    """Entry point and command make one command line, split as a shell would; the image still prepares its place."""
    started = start_of(node("frrouting/frr:1", entrypoint="env -i", cmd="sh -c 'echo a b'"))
    assert started.main == ("env", "-i", "sh", "-c", "echo a b")
    assert started.setup == image_of("frrouting/frr:1").setup
    assert started.beside == ()


def test_nothing_runs_in_a_bridge() -> None:
    """Whatever its image is called."""
    assert start_of(node("edgeway:dev", kind="bridge")) == Start()


@pytest.mark.parametrize("image", IMAGES[1:-1], ids=lambda image: image.pattern)
def test_the_programs_are_where_debian_puts_them(image: Image) -> None:
    """A path that is wrong would only show when a lab starts."""
    words = " ".join((*image.main, *image.beside)).split()
    programs = [word for word in words if word.startswith("/usr/")]
    assert programs
    assert [program for program in programs if not os.access(program, os.X_OK)] == []
