"""Containers of podman: what they are given, and that nothing of the machine's podman is touched."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab.podman import Store, arguments
from appliance.panel.lab.values import Node, Place

NODE = Node("h1", "linux", Place("topology.nodes.h1", 1, 1), image="edgeway:1")
SPEC: dict[str, Any] = {
    "hostname": "host-1",
    "log": "/run/lab/h1.log",
    "env": {"PATH": "/x", "HOME": "/root", "CLAB_INTFS": "2", "EDGEWAY_LAB": "l"},
    "sysctls": {"net.ipv4.ip_forward": "1"},
    "tmpfs": {"/scratch": "size=1m", "/other": ""},
    "binds": [
        {"source": "/a", "target": "/etc/a", "read_only": True},
        {"source": "/b", "target": "/etc/b", "read_only": False},
    ],
    "words": {"entrypoint": [], "cmd": []},
}


def words(spec: dict[str, Any] = SPEC, node: Node = NODE) -> list[str]:
    """Return the words after `podman`."""
    return arguments(node, spec, "localhost/edgeway:1", "l", Path("/s/h1.pid"))


def given(name: str) -> list[str]:
    """Return the values of an option."""
    said = words()
    return [value for option, value in pairwise(said) if option == name]


def test_a_container_has_no_network_and_no_more_rights_than_it_needs() -> None:
    """Links are plugged in later; --privileged is refused by machines that lack a capability themselves."""
    assert given("--network") == ["none"]
    assert given("--cap-add") == ["NET_ADMIN,NET_RAW,SYS_ADMIN,BPF,PERFMON"]
    assert "--privileged" not in words()


def test_a_container_is_given_what_its_node_has() -> None:
    """Names, files, places in memory, sysctls; of the environment what is not the image's own matter."""
    assert given("--hostname") == ["host-1"]
    assert given("--env") == ["EDGEWAY_NODE=host-1", "CLAB_INTFS=2", "EDGEWAY_LAB=l"]
    assert given("--volume") == ["/a:/etc/a:ro", "/b:/etc/b:rw"]
    assert given("--tmpfs") == ["/scratch:size=1m", "/other"]
    assert given("--sysctl") == ["net.ipv4.ip_forward=1"]
    assert words()[-1] == "localhost/edgeway:1"


def test_a_node_may_say_which_it_is_in_the_intent() -> None:
    """EDGEWAY_NODE of the topology goes before the host name."""
    spec = SPEC | {"env": {"EDGEWAY_NODE": "gw7"}}
    assert "EDGEWAY_NODE=gw7" in words(spec)
    assert "EDGEWAY_NODE=host-1" not in words(spec)


def test_a_command_of_its_own_replaces_the_images() -> None:
    """The entry point as a list: podman would split it in its own way."""
    node = Node("h1", "linux", NODE.place, image="edgeway:1", entrypoint="sleep 'a b'", cmd="5")
    said = words(SPEC | {"words": {"entrypoint": ["sleep", "a b"], "cmd": ["5"]}}, node)
    assert said[-4:] == ["--entrypoint", '["sleep", "a b"]', "localhost/edgeway:1", "5"]


def test_podman_knows_of_nothing_but_the_labs_store(tmp_path: Path) -> None:
    """Its storage, its locks, its configuration."""
    store = Store("l", tmp_path)
    line = " ".join(store.command("ps"))
    for option in ("--root", "--runroot", "--tmpdir"):
        assert f"{option} {tmp_path}/l/" in line
    assert store.environment["CONTAINERS_CONF"] == f"{tmp_path}/l/containers.conf"
    assert set(store.environment) == {"PATH", "CONTAINERS_CONF", "HOME"}


def test_an_archive_that_is_not_there_is_the_operators_error(tmp_path: Path) -> None:
    """Before anything is made."""
    with pytest.raises(OperatorError, match="make image"):
        Store("l", tmp_path).load(tmp_path / "none.tar")
    assert not (tmp_path / "l").exists()


def test_a_lab_without_containers_has_nothing_to_remove(tmp_path: Path) -> None:
    """`down` asks of every lab."""
    Store("l", tmp_path / "labs").remove()
    assert not (tmp_path / "labs").exists()
