from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab.spec import Compiler, hidden, launchers, magic, mounts_to_keep
from appliance.panel.lab.state import State
from appliance.panel.lab.topology import parse

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:20 / /proc rw,relatime - proc proc rw
24 22 254:1 / /home rw,relatime - ext4 /dev/vdb rw
25 22 0:30 / /run/user/0 rw - ext4 /dev/vdc rw
26 22 0:31 / /mnt/cache rw - tmpfs tmpfs rw
27 22 254:2 / /srv/with\\040blank rw shared:1 - xfs /dev/vdd rw
29 22 0:41 / /var/lib/edgeway-lab/x/root/overlay/y/merged rw - overlay overlay rw
28 22 0:40 / /mnt/remote rw - fuse.sshfs host rw
"""


def compile_lab(text: str, directory: Path) -> dict[str, dict[str, Any]]:
    """Compile a lab whose file stands in `directory`; return the specs by node."""
    topology = parse(text, "x.clab.yml")
    return {spec["name"]: spec for spec in Compiler(topology, directory, State("x", directory / "labs")).specs()}


def test_a_bind_begins_where_the_topology_file_stands(tmp_path: Path) -> None:
    """Links are followed here, where the machine's names hold; the shorter target is mounted first."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("")
    (tmp_path / "clab-x" / "a").mkdir(parents=True)
    binds = "[file:/etc/x/y:ro, link:/etc/x, '__clabNodeDir__:/data']"
    specs = compile_lab(f"name: x\ntopology: {{nodes: {{a: {{kind: linux, binds: {binds}}}}}}}\n", tmp_path)
    assert specs["a"]["binds"] == [
        {"source": f"{tmp_path}/clab-x/a", "target": "/data", "read_only": False},
        {"source": f"{tmp_path}/real", "target": "/etc/x", "read_only": False},
        {"source": f"{tmp_path}/file", "target": "/etc/x/y", "read_only": True},
    ]


def test_all_missing_files_are_found_at_once_with_their_places(tmp_path: Path) -> None:
    """Before anything is started."""
    text = "name: x\ntopology:\n  nodes:\n    a:\n      kind: linux\n      binds: [one:/one]\n      env-files: [two]\n"
    with pytest.raises(OperatorError) as caught:
        compile_lab(text, tmp_path)
    assert [(f.line, f.path, f.file) for f in caught.value.findings] == [
        (6, "topology.nodes.a.binds.0", "x.clab.yml"),
        (7, "topology.nodes.a.env-files.0", "x.clab.yml"),
    ]


def test_the_environment_is_made_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own holds secrets; `env` goes before the files, which go before ours."""
    monkeypatch.setenv("SECRET", "x")
    (tmp_path / "env").write_text("# comment\nA=file\nB='in quotes'\n\nHOME=/elsewhere\n")
    node = "{kind: linux, env-files: [env], env: {A: node}}"
    environment = compile_lab(f"name: x\ntopology: {{nodes: {{a: {node}}}}}\n", tmp_path)["a"]["env"]
    assert "SECRET" not in environment
    assert {name: environment[name] for name in ("A", "B", "HOME", "HOSTNAME", "EDGEWAY_LAB", "CLAB_INTFS")} == {
        "A": "node",
        "B": "in quotes",
        "HOME": "/elsewhere",
        "HOSTNAME": "a",
        "EDGEWAY_LAB": "x",
        "CLAB_INTFS": "0",
    }
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))


def test_a_node_forwards_and_a_bridge_only_switches(tmp_path: Path) -> None:
    """A node's own sysctls go before ours."""
    nodes = "{a: {kind: linux, sysctls: {net.ipv4.ip_forward: 0}}, b: {kind: linux}, sw: {kind: bridge}}"
    specs = compile_lab(f"name: x\ntopology: {{nodes: {nodes}}}\n", tmp_path)
    assert specs["a"]["sysctls"]["net.ipv4.ip_forward"] == "0"
    assert specs["b"]["sysctls"]["net.ipv4.ip_forward"] == "1"
    assert specs["sw"]["sysctls"]["net.ipv6.conf.all.disable_ipv6"] == "1"


def test_init_is_told_what_to_run(tmp_path: Path) -> None:
    """The command comes last, behind two dashes."""
    argv = compile_lab("name: x\ntopology: {nodes: {a: {kind: linux, cmd: sleep 5}}}\n", tmp_path)["a"]["init"]
    assert argv[0] == sys.executable
    assert argv[-3:] == ["--", "sleep", "5"]


def test_magic_variables_are_containerlabs() -> None:
    """All four that a topology file may use for binds and commands."""
    topology = parse("name: x\ntopology: {nodes: {a: {kind: linux}}}\n")
    text = "__clabNodeDir__ __clabNodeName__ __clabLabName__ __clabDir__"
    assert magic(text, topology, Path("/d"), topology.nodes[0]) == "/d/clab-x/a a clab-x /d/clab-x"


def test_file_systems_with_files_of_the_operators_are_kept() -> None:
    """An overlay of the root shows only the root's own file system."""
    assert mounts_to_keep(MOUNTINFO) == ["/home", "/srv/with blank"]


def test_what_a_node_would_not_see_is_found() -> None:
    """A Python or a checkout below /tmp, and what lies inside is not named twice."""
    assert hidden(["/usr", "/tmp/x/venv", "/tmp/x", "/tmp/xy", "/opt"]) == ["/tmp/x", "/tmp/xy"]


def test_the_command_edgeway_exists_also_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout that runs from sources gets a launcher; an installation has its own."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    scripts = launchers()
    assert scripts["/usr/local/bin/edgeway"].startswith("#!/bin/sh\n")
    assert f'exec {tmp_path}/python -m appliance "$@"' in scripts["/usr/local/bin/edgeway"]
    assert f'exec {tmp_path}/python -m exabgp "$@"' in scripts["/usr/local/bin/exabgp"]
    for name in ("edgeway", "exabgp"):
        (tmp_path / name).write_text("")
    assert list(launchers()) == ["/usr/local/bin/edgeway-lab-machine"]
