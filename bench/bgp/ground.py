"""Where a server meets its clients: two namespaces and a wire, a directory, processes that end with it.

Every client has an address of its own at one end of the wire. The server's neighbour table holds them from the start:
who would have to ask a thousand clients for their address measures the kernel's limits instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.kernel import syscalls
from appliance.kernel.namespaces import Namespaces
from appliance.model.facts import Namespace
from bench.bgp import usage
from bench.bgp.exchange import PORT, PREFIX_LENGTH, Exchange
from bench.bgp.tester import Failed
from routing.bgp.values import Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SERVER, CLIENTS = Namespace("server"), Namespace("clients")
_WIRE, _END, _MAC = "w0", "w1", "02:00:00:00:00:01"
#: FRR reads the configuration of a hundred clients for a minute.
_WITHIN, _LOOK, _FILES = 180.0, 0.02, 65536
_GRACE: Final = 5.0


@dataclass
class Ground:
    """The place, and what runs in it."""

    namespaces: Namespaces
    directory: Path
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def inside(self, *command: str, ns: Namespace = SERVER) -> list[str]:
        """Return the words that run a command in a namespace."""
        return ["nsenter", f"--net={self.namespaces.path(ns)}", *command]

    def run(self, *command: str, ns: Namespace = SERVER, text: str | None = None) -> str:
        """Run a command to its end."""
        done = subprocess.run(self.inside(*command, ns=ns), input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stdout}{done.stderr}".strip())
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a process of the server; it ends with the place."""
        with (self.directory / "log").open("ab") as log:
            child = subprocess.Popen(
                self.inside(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.children.append(child)
        return child

    def words(self) -> str:
        """Return the last that the processes said."""
        with contextlib.suppress(OSError):
            return (self.directory / "log").read_text(errors="replace")[-400:].strip()
        return ""

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Wait until something is so, as long as what was started runs."""
        end = time.monotonic() + _WITHIN
        while not done():
            if any(child.poll() is not None for child in self.children):
                raise Failed(f"{what}: a process ended: {self.words()}")
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {_WITHIN:g} s: {self.words()}")
            time.sleep(_LOOK)

    def listens(self, at: Exchange) -> bool:
        """Tell whether the server accepts connections; who asks is no client."""
        with self.namespaces.in_namespace(CLIENTS):
            asking = socket.socket(socket.AF_INET if at.family is Family.IPV4 else socket.AF_INET6)
        with asking:
            asking.settimeout(1)
            asking.bind((str(at.stranger), 0))
            return not asking.connect_ex((str(at.server), PORT))

    def stop(self) -> None:
        """End what was started, last first, and what that has started."""
        while self.children:
            child = self.children.pop()
            with _held(usage.tree(child.pid)[1:]) as descendants:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_GRACE)
                child.kill()
                child.wait()
                for descriptor in descendants:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)


@contextlib.contextmanager
def _held(pids: Sequence[int]) -> Iterator[list[int]]:
    """Hold on to processes: a number alone may name another one later."""
    with contextlib.ExitStack() as stack:
        held = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                held.append(os.pidfd_open(pid))
                stack.callback(os.close, held[-1])
        yield held


@contextlib.contextmanager
def ground(at: Exchange) -> Iterator[Ground]:
    """Make it for an exchange, and take everything away again."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_FILES, most) if most < 0 else min(_FILES, most), most))
    directory = Path(tempfile.mkdtemp(prefix="edgeway-bgp-"))
    directory.chmod(0o755)
    spaces = Namespaces(directory / "netns")
    made = Ground(spaces, directory)
    try:
        _wire(made, at)
        yield made
    finally:
        made.stop()
        for name in spaces.names():
            spaces.delete(name)
        spaces.close()
        with contextlib.suppress(OSError):
            syscalls.umount(directory / "netns")
        shutil.rmtree(directory, ignore_errors=True)


def _wire(made: Ground, at: Exchange) -> None:
    """Join the server and its clients, and give everybody an address."""
    for ns in (SERVER, CLIENTS):
        made.namespaces.create(ns)
    end = ("peer", "name", _END, "netns", str(made.namespaces.path(CLIENTS)), "address", _MAC)
    made.run("ip", "link", "add", _WIRE, "type", "veth", *end)
    made.run("ip", "link", "set", _WIRE, "up")
    made.run("ip", "link", "set", _END, "up", ns=CLIENTS)
    others = [at.stranger, *(one.address for one in at.clients)]
    _addresses(made, SERVER, _WIRE, at, [at.server])
    _addresses(made, CLIENTS, _END, at, others)
    lines = "".join(f"neigh replace {address} lladdr {_MAC} dev {_WIRE} nud permanent\n" for address in others)
    made.run("ip", "-batch", "-", text=lines)
    # Addresses of IPv6 are of use when the link is.
    made.wait(lambda: _up(made, SERVER, _WIRE) and _up(made, CLIENTS, _END), "the wire")


def _addresses(made: Ground, ns: Namespace, device: str, at: Exchange, addresses: Sequence[object]) -> None:
    length, options = PREFIX_LENGTH[at.family], " nodad" if at.family is Family.IPV6 else ""
    lines = "".join(f"address add {address}/{length} dev {device}{options}\n" for address in addresses)
    made.run("ip", "-batch", "-", ns=ns, text=lines)


def _up(made: Ground, ns: Namespace, device: str) -> bool:
    (link,) = json.loads(made.run("ip", "-json", "link", "show", device, ns=ns))
    return bool(link["operstate"] == "UP")
