"""A router in RED between a client and a server, with real packets: what tests of flow records look at.

A datagram goes through all three namespaces while it is sent, or soon after; what must not arrive is known from a datagram
of another flow that was sent after it and has arrived.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from appliance.kernel.conntrack import KernelConntrack
from appliance.model.facts import FlowKey, Instruction, Namespace
from appliance.model.marks import Action, Mark

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED, LEFT, RIGHT = Namespace("red"), Namespace("left"), Namespace("right")
ZONE = 1007
CLIENT = {4: ip_address("10.1.0.2"), 6: ip_address("fd00:1::2")}
SERVER = {4: ip_address("10.2.0.2"), 6: ip_address("fd00:2::2")}
#: Destination port of the flow that is sent after others to know that they have arrived, or will not.
FENCE = 7000
PATIENCE = 10.0
_FLOOD = """
import socket, sys
ends = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
while True:
    for end in ends:
        try:
            end.send(b"flood")
        except OSError:
            pass
"""


def build(world: World) -> None:
    """Make the three namespaces and the wires between them."""
    world.make(RED, LEFT, RIGHT)
    for ns, net in ((LEFT, 1), (RIGHT, 2)):
        world.run(
            RED, "ip", "link", "add", f"to{net}", "type", "veth", "peer", "name", "eth0", "netns", str(world.path(ns))
        )
        for where, device, host in ((RED, f"to{net}", 1), (ns, "eth0", 2)):
            world.run(where, "ip", "link", "set", device, "up")
            world.run(where, "ip", "address", "add", f"10.{net}.0.{host}/24", "dev", device)
            world.run(where, "ip", "address", "add", f"fd00:{net}::{host}/64", "dev", device, "nodad")
        world.run(ns, "ip", "route", "add", "default", "via", f"10.{net}.0.1")
        world.run(ns, "ip", "route", "add", "default", "via", f"fd00:{net}::1")
    world.run(RED, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


@dataclass
class Talk:
    """One UDP flow between the client and the server; both ends are connected sockets."""

    client: socket.socket
    server: socket.socket
    key: FlowKey

    def says(self, action: Action, object_: int = 0) -> Instruction:
        """Write an instruction for this flow."""
        return Instruction(RED, self.key, action, object_)


@dataclass
class Road:
    """The built world, its talks, and its records."""

    world: World
    talks: list[Talk] = field(default_factory=list)
    tracker: KernelConntrack = field(init=False)
    fences: dict[int, Talk] = field(init=False)

    def __post_init__(self) -> None:
        """Build, and open the fences."""
        build(self.world)
        self.tracker = KernelConntrack(self.world.namespaces)
        self.fences = {version: self.talk(9000, FENCE, version) for version in (4, 6)}

    def talk(self, source: int, destination: int, version: int = 4) -> Talk:
        """Open both ends of a flow."""
        one, other = (str(CLIENT[version]), source), (str(SERVER[version]), destination)
        client, server = self._end(LEFT, version, one, other), self._end(RIGHT, version, other, one)
        talk = Talk(client, server, FlowKey(CLIENT[version], source, SERVER[version], destination, 17, ZONE))
        self.talks.append(talk)
        return talk

    def _end(self, ns: Namespace, version: int, own: tuple[str, int], far: tuple[str, int]) -> socket.socket:
        """Open one end."""
        with self.world.namespaces.in_namespace(ns):
            end = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        end.bind(own)
        end.connect(far)
        return end

    def ask(self, talk: Talk) -> bool:
        """Send a datagram from the client; tell whether it arrives."""
        talk.client.send(b"ask")
        return self._arrives(talk.server)

    def answer(self, talk: Talk) -> bool:
        """Send a datagram from the server; tell whether it arrives."""
        talk.server.send(b"answer")
        return self._arrives(talk.client)

    def _arrives(self, end: socket.socket) -> bool:
        """Tell whether a datagram waits here, once all that was sent is through."""
        if not _waits(end, 0):
            self.pass_through(4 if end.family == socket.AF_INET else 6)
        if not _waits(end, 0):
            return False
        end.recv(64)
        return True

    def pass_through(self, version: int = 4) -> None:
        """Return when a datagram that is sent now has arrived, and with it all that was sent before."""
        fence = self.fences[version]
        fence.client.send(b"fence")
        assert _waits(fence.server, PATIENCE), "the fence lets through"
        fence.server.recv(64)

    @contextmanager
    def flood(self, *talks: Talk) -> Iterator[None]:
        """Have a process send from the clients of these talks as fast as it can; some of it arrives nowhere."""
        fds = [talk.client.fileno() for talk in talks]
        sender = subprocess.Popen([sys.executable, "-c", _FLOOD, *map(str, fds)], pass_fds=fds)
        try:
            yield
            assert sender.poll() is None, "the sender lives"
        finally:
            sender.kill()
            sender.wait()

    def mark(self, talk: Talk) -> Mark | None:
        """Return the mark of a flow's record."""
        entry = self.tracker.get(RED, talk.key)
        return None if entry is None else Mark.of(entry.mark)

    def close(self) -> None:
        """Close every end."""
        for talk in self.talks:
            talk.client.close()
            talk.server.close()


def _waits(end: socket.socket, seconds: float) -> bool:
    """Tell whether a datagram waits, or comes in time."""
    return bool(select.select([end], [], [], seconds)[0])
