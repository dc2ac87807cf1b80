"""A Node -> everything that `appliance.panel.lab.node` needs to make it, as JSON.

Called by the runner, before anything is started: a file that does not exist is found here, with line and column.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import appliance
from appliance.control import init
from appliance.model.errors import Finding, OperatorError
from appliance.panel.lab.images import VM, start_of
from appliance.panel.lab.podman import ROOT as CONTAINERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.panel.lab.state import State
    from appliance.panel.lab.values import Node, Place, Topology

#: Directories that every node has of its own, so that what the machine has there is not seen.
PRIVATE: Final = ("/dev", "/proc", "/run", "/sys", "/tmp")  # noqa: S108 - not a place to write to
SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: As a container has it: a node forwards.
NODE_SYSCTLS: Final = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.disable_ipv6": "0"}
#: A bridge only switches: it has no address, and its frames see no packet filter.
BRIDGE_SYSCTLS: Final = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}
BRIDGE_FILTERS: Final = ("arptables", "iptables", "ip6tables")
#: File systems that hold no files of the operator's.
NO_FILES: Final = frozenset({
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
    "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "sysfs", "tmpfs",
    "tracefs",
})  # fmt: skip


def magic(text: str, topology: Topology, directory: Path, node: Node) -> str:
    """Replace containerlab's magic variables."""
    lab = directory / f"clab-{topology.name}"
    names = {"NodeDir": str(lab / node.name), "NodeName": node.name, "LabName": lab.name, "Dir": str(lab)}
    for name, value in names.items():
        text = text.replace(f"__clab{name}__", value)
    return text


def mounts_to_keep(mountinfo: str) -> list[str]:
    """Pick the file systems, besides the root, in which files of the operator may stand: an overlay shows only one."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        path = before.split()[4].encode().decode("unicode_escape")
        kind = after.split()[0]
        if (
            path != "/"
            and not _is_private(path)
            and not path.startswith(f"{CONTAINERS}/")
            and kind not in NO_FILES
            and not kind.startswith("fuse.")
        ):
            found.append(path)
    return list(dict.fromkeys(found))


def interpreter_paths() -> list[str]:
    """Return what this program consists of: the Python it runs with, and its own packages."""
    return [sys.prefix, sys.base_prefix, package_root()]


def package_root() -> str:
    """Return the directory from which our packages are imported."""
    return str(Path(appliance.__file__ or "").parents[1])


def launchers() -> dict[str, str]:
    """Make `edgeway`, and ExaBGP, which comes with us, in a node be this very program's, also where it is not installed."""
    modules = {"edgeway": "appliance", "exabgp": "exabgp", VM[0]: "appliance.panel.lab.machine"}
    start = f"#!/bin/sh\nPYTHONPATH={shlex.quote(package_root())} exec {shlex.quote(sys.executable)} -m"
    return {
        f"/usr/local/bin/{name}": f'{start} {module} "$@"\n'
        for name, module in modules.items()
        if not Path(sys.executable).with_name(name).exists()
    }


def hidden(paths: Iterable[str]) -> list[str]:
    """Return those of `paths` that a node would not see, without what lies inside another."""
    wanted = sorted({os.path.realpath(path) for path in paths if _is_private(os.path.realpath(path))})
    return [path for path in wanted if not any(path.startswith(f"{other}/") for other in wanted)]


def _is_private(path: str) -> bool:
    return any(path == private or path.startswith(f"{private}/") for private in PRIVATE)


class Compiler:
    """Makes the specs of a topology's nodes; collects what is missing on the machine."""

    def __init__(
        self, topology: Topology, directory: Path, state: State, machines: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """`directory` is where the topology file stands: relative paths begin there; `machines` is what they are told."""
        self._topology, self._directory, self._state, self._machines = topology, directory, state, machines
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        image = [machines["EDGEWAY_VM"]] if "EDGEWAY_VM" in machines else []
        self._keep = mounts_to_keep(mountinfo) + hidden([*interpreter_paths(), *image])
        self._findings: list[Finding] = []

    def specs(self) -> list[dict[str, Any]]:
        """Return one spec a node; OperatorError says what is missing."""
        specs = [self._spec(node) for node in self._topology.nodes]
        if self._findings:
            raise OperatorError(tuple(self._findings))
        return specs

    def _spec(self, node: Node) -> dict[str, Any]:
        start = start_of(node)
        options = [word for command in start.setup for word in ("--setup", command)]
        options += [word for command in start.beside for word in ("--with", command)]
        return {
            "name": node.name,
            "hostname": node.hostname or node.name,
            "place": str(self._state.place(node.name)),
            "record": str(self._state.record(node.name)),
            "log": str(self._state.log(node.name)),
            "keep": self._keep,
            "binds": [] if node.kind == "bridge" else self._binds(node),
            "tmpfs": dict(node.tmpfs),
            "files": {"/etc/hostname": f"{node.hostname or node.name}\n"} | launchers(),
            "sysctls": self._sysctls(node),
            "env": self._environment(node),
            "words": {"entrypoint": shlex.split(node.entrypoint), "cmd": shlex.split(node.cmd)},
            "init": [sys.executable, init.__file__, *options, "--", *start.main],
        }

    def _binds(self, node: Node) -> list[dict[str, Any]]:
        """Resolve binds, the ones nearer to the root first, so that one may lie inside another."""
        own = (node.startup_config,) if node.startup_config else ()
        return [
            {"source": source, "target": bind.target, "read_only": bind.read_only}
            for bind in sorted((*own, *node.binds), key=lambda bind: bind.target)
            if (source := self._existing(bind.source, bind.place, node))
        ]

    def _existing(self, written: str, place: Place, node: Node) -> str:
        """Return the real path of a file that the topology names."""
        path = self._directory / Path(magic(written, self._topology, self._directory, node)).expanduser()
        if path.exists():
            return str(path.resolve())
        finding = Finding(
            place.line, place.column, place.path, f"{path} does not exist", "make it first", file=self._topology.file
        )
        self._findings.append(finding)
        return ""

    @staticmethod
    def _sysctls(node: Node) -> dict[str, str]:
        if node.kind != "bridge":
            return NODE_SYSCTLS | dict(node.sysctls)
        filters = Path("/proc/sys/net/bridge")
        off = {f"net.bridge.bridge-nf-call-{name}": "0" for name in BRIDGE_FILTERS} if filters.is_dir() else {}
        return BRIDGE_SYSCTLS | off

    def _environment(self, node: Node) -> dict[str, str]:
        """Make an environment from nothing: what the operator's shell holds is no node's business."""
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{SEARCH_PATH}",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "HOSTNAME": node.hostname or node.name,
            "EDGEWAY_LAB": self._topology.name,
        }
        for file in node.env_files:
            path = self._existing(file.source, file.place, node)
            environment |= _read_env_file(path) if path else {}
        ends = (end for link in self._topology.links for end in (link.a, link.b) if end.node == node.name)
        environment |= {"CLAB_INTFS": str(len(list(ends)))}
        if node.kind == "generic_vm":
            environment |= {**self._machines, **({"QEMU_MEMORY": node.memory} if node.memory else {})}
        return environment | dict(node.env)


def _read_env_file(path: str) -> dict[str, str]:
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
