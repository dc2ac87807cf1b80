"""The maker of nodes that are containers: those whose image is ours, with `edgeway lab up --runtime podman`.

Called by `appliance.panel.lab.build` and `appliance.panel.lab.runner`. A container has what the image needs and no more
(never --privileged), no network of podman's (links are plugged in by pid, after the start), and a storage of the lab's
own, so that `down` leaves neither container nor image, and nothing of the machine's podman is read or touched.

runc and cgroupfs: crun refuses machines that mount both kinds of control groups. Limits are written down because podman's
own defaults are above what a container on a small machine may have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.model.errors import OperatorError
from appliance.panel.lab.process import start_time

if TYPE_CHECKING:
    from appliance.panel.lab.values import Node

ROOT: Final = Path("/var/lib/edgeway-lab")
#: Where containers/image remembers what it has seen, for all of the machine; not of our images.
_CACHE: Final = Path("/var/lib/containers")
_CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
_PARENT: Final = "edgeway-lab"
CONFIGURATION: Final = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
"""
MOST_FILES: Final = 20000
#: Beyond what podman gives: interfaces and tables; namespaces and what is mounted in them; programs in the kernel.
CAPABILITIES: Final = ("NET_ADMIN", "NET_RAW", "SYS_ADMIN", "BPF", "PERFMON")
#: What belongs to a node that sees the machine's files, and is the image's own matter here.
_IMAGES_OWN: Final = frozenset({"PATH", "HOME", "LANG", "HOSTNAME"})
LOAD_WITHIN, RUN_WITHIN, REMOVE_WITHIN, TIDY_WITHIN = 300.0, 120.0, 60.0, 20.0


class Store:
    """Where the containers of one lab are, and podman that knows of nothing else."""

    def __init__(self, lab: str, root: Path = ROOT) -> None:
        """Nothing is made yet."""
        self.lab, self.directory = lab, root / lab

    def command(self, *words: str) -> list[str]:
        """Return a command line of podman."""
        places = {"root": "root", "runroot": "run", "tmpdir": "tmp"}
        options = [word for name, place in places.items() for word in (f"--{name}", str(self.directory / place))]
        runtime = ["--runtime-flag", f"root={self.directory / 'runc'}"]
        return ["podman", *options, "--storage-driver", "overlay", *runtime, *words]

    @property
    def environment(self) -> dict[str, str]:
        """Return podman's environment: no configuration but ours."""
        path = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        return {"PATH": path, "CONTAINERS_CONF": str(self.directory / "containers.conf"), "HOME": str(self.directory)}

    def run(self, *words: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run podman and keep what it says."""
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def load(self, archive: Path) -> str:
        """Make the store, load the image into it, and return the image's name."""
        if not archive.is_file():
            raise OperatorError.of(f"{archive} does not exist", "`make image` makes it; --oci names another one")
        for program in ("podman", "runc", "conmon"):
            if shutil.which(program) is None:
                raise OperatorError.of(f"--runtime podman needs {program}", "install the packages podman and runc")
        self.directory.mkdir(mode=0o700, parents=True)
        configuration = CONFIGURATION.format(files=min(MOST_FILES, os.sysconf("SC_OPEN_MAX")))
        (self.directory / "containers.conf").write_text(configuration, encoding="ascii")
        done = self._loaded(archive)
        if done.returncode:
            raise OperatorError.of(
                f"{archive} cannot be loaded: {done.stderr.strip()}", "is it an archive of our image?"
            )
        return done.stdout.strip().rpartition("Loaded image: ")[2]

    def _loaded(self, archive: Path) -> subprocess.CompletedProcess[str]:
        """Load with the machine's cache out of sight: podman has no other way to say that."""
        with suppress(FileExistsError):
            _CACHE.mkdir(mode=0o700)
        hidden = 'mount -t tmpfs edgeway-lab "$1" && shift && exec "$@"'
        try:
            return subprocess.run(
                [
                    "unshare",
                    "--mount",
                    "sh",
                    "-c",
                    hidden,
                    "sh",
                    str(_CACHE),
                    *self.command("load", "-q", "-i", str(archive)),
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=LOAD_WITHIN,
            )
        finally:
            with suppress(OSError):
                _CACHE.rmdir()  # only when it is empty, and so ours

    def start(self, node: Node, spec: dict[str, Any], image: str) -> dict[str, Any] | None:
        """Start one node and write down who its pid 1 is; return what went wrong."""
        pid_file = self.directory / f"{node.name}.pid"
        done = self.run(*arguments(node, spec, image, self.lab, pid_file), timeout=RUN_WITHIN)
        if done.returncode:
            return {"step": "podman run", "errno": 0, "message": done.stderr.strip()}
        pid = int(pid_file.read_text(encoding="ascii"))
        record = {"name": node.name, "pid": pid, "start": start_time(pid)}
        Path(spec["record"]).write_text(json.dumps(record), encoding="utf-8")
        return None

    def remove(self) -> None:
        """Remove every container, and then the store; a lab without one is fine."""
        if not self.directory.exists():
            return
        if (self.directory / "containers.conf").exists():
            self.run("rm", "--all", "--force", "--time", "1", timeout=REMOVE_WITHIN)
        # Who watched over a container tidies up when it has ended, and would make anew what we remove.
        deadline = time.monotonic() + TIDY_WITHIN
        while _at_work(self.directory) and time.monotonic() < deadline:
            time.sleep(0.05)
        for place in _mounted_below(self.directory):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        with suppress(OSError):
            self.directory.parent.rmdir()
        _remove_groups(self.lab)


def arguments(node: Node, spec: dict[str, Any], image: str, lab: str, pid_file: Path) -> list[str]:
    """Return the words after `podman` that start a node. Pure."""
    words = ["run", "--detach", "--name", node.name, "--hostname", spec["hostname"], "--network", "none"]
    words += ["--pidfile", str(pid_file), "--cgroup-parent", f"/{_PARENT}/{lab}"]
    words += ["--log-driver", "k8s-file", "--log-opt", f"path={spec['log']}"]
    words += ["--cap-add", ",".join(CAPABILITIES), "--security-opt", "unmask=/proc/sys"]
    environment = {"EDGEWAY_NODE": spec["hostname"]} | spec["env"]
    words += [w for name, value in environment.items() if name not in _IMAGES_OWN for w in ("--env", f"{name}={value}")]
    words += [w for name, value in spec["sysctls"].items() for w in ("--sysctl", f"{name}={value}")]
    words += [w for place, options in spec["tmpfs"].items() for w in ("--tmpfs", f"{place}:{options}".rstrip(":"))]
    for bind in spec["binds"]:
        words += ["--volume", f"{bind['source']}:{bind['target']}:{'ro' if bind['read_only'] else 'rw'}"]
    if node.entrypoint:
        words += ["--entrypoint", json.dumps(spec["words"]["entrypoint"])]
    return [*words, image, *spec["words"]["cmd"]]


def _at_work(directory: Path) -> bool:
    """Tell whether a process has been told of a directory."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) != os.getpid() and f"{directory}/".encode() in (process / "cmdline").read_bytes():
                return True
    return False


def _mounted_below(directory: Path) -> list[str]:
    """Return what is mounted in a directory, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    places = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return sorted((place for place in places if place.startswith(f"{directory}/")), reverse=True)


def _remove_groups(lab: str) -> None:
    """Remove the control groups of a lab; runc leaves the parents of those it made."""
    for parent in (*_CONTROL_GROUPS.glob(_PARENT), *_CONTROL_GROUPS.glob(f"*/{_PARENT}")):
        mine = sorted((path for path in (parent / lab).rglob("*") if path.is_dir()), reverse=True)
        for path in (*mine, parent / lab, parent):
            with suppress(OSError):
                path.rmdir()
