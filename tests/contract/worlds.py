"""The namespaces of one test and the hand of a foreigner in them; `conftest` makes and removes them."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.kernel import syscalls
from appliance.model.facts import HOST, Namespace

if TYPE_CHECKING:
    from appliance.kernel.namespaces import Namespaces

PREFIX = "ewt-"


@dataclass(frozen=True, slots=True)
class World:
    """The namespaces of one test: `namespaces` is what a port is given; `run` is the hand of a foreigner."""

    namespaces: Namespaces
    host: Path

    def path(self, name: Namespace = HOST) -> Path:
        """Return the file of a namespace, for `nsenter --net=`."""
        return self.host if name == HOST else self.namespaces.path(name)

    def make(self, *names: str) -> None:
        """Make namespaces that are ours."""
        for name in names:
            self.namespaces.create(Namespace(name))

    def run(self, name: str, *command: str) -> str:
        """Run a command in a namespace and return what it says; the test fails if the command does."""
        enter = ("nsenter", f"--net={self.path(Namespace(name))}")
        done = subprocess.run((*enter, *command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout


def remove(top: Path) -> None:
    """Take every mount below `top` away, then the files."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place == str(top) or place.startswith(f"{top}/"):
            with suppress(OSError):
                syscalls.umount(place)
    shutil.rmtree(top, ignore_errors=True)
