"""A lab as tests drive it: nodes, daemons, and sockets inside nodes.

A socket belongs to the namespace in which it was made, so tests make theirs inside a node and use them from here.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from appliance.model.errors import EdgewayError
from appliance.model.load import load
from appliance.panel.client import SOCKET, Client
from appliance.panel.lab import runner
from appliance.panel.lab.observe import Report, observe
from tests.support.namespaces import LOCKS
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(pid: int) -> Iterator[None]:
    """Make this thread act in the network namespace of a process."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if _libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace of {pid}")
        yield
    finally:
        _libc.setns(home, CLONE_NEWNET)
        os.close(there)
        os.close(home)


class Echo:
    """A TCP server in a node that sends back what it gets, and who it thinks it talks to as the first line."""

    def __init__(self, listener: socket.socket) -> None:
        """Serve on a listening socket until closed."""
        self._listener = listener
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, peer = self._listener.accept()
                self._open.append(connection)
                connection.sendall(f"{peer[0]}:{peer[1]}\n".encode())
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self) -> None:
        """Stop serving and end every connection."""
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Flow:
    """A TCP connection to an echo server; `seen` is how the server sees us."""

    def __init__(self, connection: socket.socket) -> None:
        """Read the server's first line."""
        self._connection = connection
        self.seen = self.line()

    def line(self) -> str:
        """Return the next line from the server."""
        data = b""
        while not data.endswith(b"\n"):
            part = self._connection.recv(1)
            if not part:
                raise ConnectionResetError("the flow ended")
            data += part
        return data.decode().strip()

    @property
    def port(self) -> int:
        """The translated source port."""
        return int(self.seen.rpartition(":")[2])

    def echo(self, text: str = "still here") -> str:
        """Send a line and return what comes back."""
        self._connection.sendall(f"{text}\n".encode())
        return self.line()

    def patience(self, seconds: float) -> None:
        """Set how long an answer may take."""
        self._connection.settimeout(seconds)

    def close(self) -> None:
        """End it."""
        self._connection.close()


class Lab:
    """A running lab; `ours` are the nodes that our daemon runs in."""

    def __init__(self, topology: Path, ours: tuple[str, ...]) -> None:
        """Drive the lab of a topology file."""
        self.topology, self.ours = topology, ours

    def pid(self, node: str) -> int:
        """Return pid 1 of a node."""
        return runner.node_pid(self.topology, node)

    def run(self, node: str, *command: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command in a node."""
        return runner.run_in(self.topology, node, command, timeout=timeout)

    def out(self, node: str, *command: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(node, *command)
        assert done.returncode == 0, f"{node}: {' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    def client(self, node: str) -> Client:
        """Return a client of a node's daemon, more patient than a person at a terminal: the machine may be busy."""
        return Client(Path(f"/proc/{self.pid(node)}/root{SOCKET}"), timeout=60)

    def show(self, node: str, name: str, **options: str) -> Any:
        """Ask a node's daemon."""
        return self.client(node).show(name, **options)

    def reload(self, node: str, text: str) -> Any:
        """Give a node's daemon another intent."""
        return self.client(node).post("reload", {"text": text, "file": "intent.yaml"})

    def observe(self) -> Report:
        """Ask everybody and try every check."""
        return observe(self.topology)

    def content(self, node: str) -> bool:
        """Tell whether a node's daemon answers and says that it has converged."""
        try:
            return bool(self.show(node, "status")["converged"])
        except EdgewayError:
            return False

    def green(self, within: float = 120.0) -> None:
        """Wait until everything is as it should be."""

        def probe() -> bool:
            # Packets only once every daemon is content: looking must not cost the zone what it converges with.
            asleep = [name for name in self.ours if not self.content(name)]
            assert not asleep, asleep
            report = self.observe()
            bad = [row for row in report.nodes if row.state != "converged"]
            assert not bad, bad
            failed = [row.how for row in report.checks if not row.good]
            assert not failed, failed
            return True

        eventually(probe, within=within, what="the lab converges", pause=1.0)

    def serve(self, node: str, port: int) -> Echo:
        """Start an echo server in a node."""
        with inside(self.pid(node)):
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.listen(512)
        return Echo(listener)

    def connect(self, node: str, address: str, port: int, timeout: float = 20) -> Flow:
        """Open a connection from a node to an echo server."""
        with inside(self.pid(node)):
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect((address, port))
        return Flow(connection)


@contextmanager
def alone(thing: str) -> Iterator[None]:
    """Be the only run of tests on this machine that has a thing; the kernel ends that when the run dies."""
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    with (LOCKS / thing).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def brought_up(name: str, within: float = 120.0) -> Iterator[Lab]:
    """Bring a lab of labs/ up, wait until all that its checks say is true, and leave nothing of it."""
    topology = ROOT / "labs" / name / f"{name}.clab.yml"
    intent = topology.parent / "intent.yaml"
    with alone(f"lab-{name}"):
        try:
            assert runner.up(topology).failures == ()
            lab = Lab(topology, tuple(load(intent).nodes) if intent.exists() else ())
            lab.green(within)
            yield lab
        finally:
            runner.down(topology)
