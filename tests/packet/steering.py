"""The edge of a VPC with two guests and a service node, in namespaces, made through the real ports.

    r1 172.16.1.11 --- tap11 [ ew-lan   vpc-red ] tap13 --- r3 172.16.1.13
                                          tap7
                                            | 10.9.0.0/31
                                           ids

The rules are written by hand: flows whose record carries the mark REDIRECTED go through the node. Or they are those of
an intent (`judged`), and the program of flow records puts the same packets on the same way.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from threading import Thread
from typing import TYPE_CHECKING

from appliance.control.reconcile import Outcome, Reconciler
from appliance.kernel.kernel import Kernel
from appliance.model.facts import HOST, Engine, Fact, FlowKey, Namespace, Netns, NftSet, NftTable
from appliance.model.marks import STEER
from services.edge import compile_edge
from services.feature import Runtime
from services.steering import ServiceLink, service_links
from tests.support.intents import intent, one_vpc
from tests.support.service_node import ServiceNode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World

RED, NODE = Namespace("vpc-red"), Namespace("ids")
GUESTS = {Namespace("r1"): ("tap11", "172.16.1.11"), Namespace("r3"): ("tap13", "172.16.1.13")}
R1, R3 = GUESTS
PORT, NUMBER, REDIRECTED = 8080, 5, 0x77
ZONE = 1101
#: What BODY does, as an intent says it.
RULE = {"action": "redirect", "to": "ids", "source": ["r1"], "destination": ["r3"], "ports": [PORT]}
BODY = f"""
counter invalid {{}}
counter steered {{}}
chain tracked {{
  type filter hook prerouting priority raw; policy accept;
  ct zone set {ZONE}
}}
chain tracked_local {{
  type filter hook output priority raw; policy accept;
  ct zone set {ZONE}
}}
chain judge {{
  type filter hook prerouting priority -90; policy accept;
  ct state invalid counter name invalid drop
  iifname "tap7" accept
  ct state new th dport {PORT} ct mark set {REDIRECTED}
  ct mark {REDIRECTED} counter name steered meta mark set {STEER + NUMBER}
}}
"""


def flow(port: int, protocol: int = 6) -> FlowKey:
    """Return the flow from r1 to r3, as its first packet has it."""
    return FlowKey(IPv4Address(GUESTS[R1][1]), port, IPv4Address(GUESTS[R3][1]), PORT, protocol)


def back(there: FlowKey) -> FlowKey:
    """Return the other direction."""
    return FlowKey(there.destination, there.destination_port, there.source, there.source_port, there.protocol)


@dataclass
class Vpc:
    """The namespaces, and what tests do there."""

    world: World
    node: ServiceNode
    kernel: Kernel
    facts: frozenset[Fact] = frozenset()
    link: ServiceLink = field(init=False)

    @classmethod
    def build(cls, world: World, *, judged: bool = False) -> Vpc:
        """Plug guests and node in, and lead the kernel to the edge."""
        node = ServiceNode(world.path(NODE), "e0", IPv4Address("10.9.0.1"), IPv4Address("10.9.0.0"))
        with world.namespaces.in_namespace(HOST):
            made = cls(world, node, Kernel.real(world.namespaces.directory))
        made._plug()
        made.facts = frozenset(made._facts(judged=judged))
        made.lead()
        for guest, (_, address) in GUESTS.items():
            made.ip(guest, f"address add {address}/24 dev e0", "link set e0 up", "route add default via 172.16.1.1")
        node.start()
        return made

    def _plug(self) -> None:
        """Have devices in the host that others made."""
        self.world.make(NODE, *GUESTS)
        for ns, tap in ((NODE, "tap7"), *((guest, tap) for guest, (tap, _) in GUESTS.items())):
            self.ip(HOST, f"link add {tap} type veth peer name e0 netns {self.world.path(ns)}")

    def _facts(self, *, judged: bool) -> Iterator[Fact]:
        """Yield the facts of the edge, with its own table or the test's."""
        tree = one_vpc()
        tree["vpcs"]["red"]["service-nodes"] = {
            "ids": {"id": NUMBER, "host": "h1", "interface": "tap7", "link": "10.9.0.0/31"}
        }
        tree["vpcs"]["red"]["firewall"]["rules"] = [RULE | {"protocol": name} for name in ("tcp", "udp")]
        found = intent(tree)
        (self.link,) = service_links(found, "h1")
        for fact in compile_edge(found, "h1", "red", Runtime()).facts:
            if judged or not isinstance(fact, NftTable | NftSet | Engine):
                yield fact
        if not judged:
            yield NftTable(RED, BODY)
        yield from map(Netns, (NODE, *GUESTS))  # made by the test, but looking like ours

    def lead(self, *more: Fact) -> Outcome:
        """Lead the kernel to the facts, and more; nothing may be pending."""
        outcome = Reconciler(self.kernel.ports).apply((*self.facts, *more))
        assert not outcome.pending, outcome.pending
        return outcome

    def ip(self, ns: Namespace, *lines: str) -> None:
        """Run several `ip` commands in a namespace."""
        for line in lines:
            self.world.run(ns, "ip", *line.split())

    def counted(self, name: str) -> int:
        """Return what a counter of the edge has counted."""
        words = self.world.run(RED, "nft", "list", "counter", "inet", "edgeway", name).split()
        return int(words[words.index("packets") + 1])

    def records(self) -> list[str]:
        """Return the flow records between the guests."""
        lines = self.world.run(RED, "conntrack", "-L").splitlines()
        return [line for line in lines if f"src={GUESTS[R1][1]}" in line]

    def mark(self, mark: int, port: int) -> None:
        """Give the record of a flow another mark, as a judgement does."""
        found = self.kernel.conntrack.get(RED, replace(flow(port), zone=ZONE))
        assert found is not None
        assert self.kernel.conntrack.set_mark(RED, [found], mark) == 1

    def socket(self, ns: Namespace, kind: socket.SocketKind, port: int = 0) -> socket.socket:
        """Make a socket of a guest's."""
        with self.world.namespaces.in_namespace(ns):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(20)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((GUESTS[ns][1], port))
        return made

    def passed(self, there: FlowKey) -> tuple[int, int]:
        """Return how many packets of a flow the node has seen, in each direction."""
        seen = self.node.packets()
        return seen.get(there, 0), seen.get(back(there), 0)


class Talk:
    """A TCP connection from r1 to r3, which echoes."""

    def __init__(self, vpc: Vpc, port: int = PORT) -> None:
        """Connect."""
        self._server = vpc.socket(R3, socket.SOCK_STREAM, port)
        self._server.listen()
        self._made: socket.socket | None = None
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.client = vpc.socket(R1, socket.SOCK_STREAM)
        self.client.connect((GUESTS[R3][1], port))
        self.port: int = self.client.getsockname()[1]
        self.flow = flow(self.port)

    def _serve(self) -> None:
        with suppress(OSError):
            self._made, _ = self._server.accept()
            with self._made as made:
                made.settimeout(30)
                while data := made.recv(1 << 16):
                    made.sendall(data)

    def say(self, amount: int = 1000) -> bool:
        """Send random octets and have the same back."""
        sent = os.urandom(amount)
        sending = Thread(target=self.client.sendall, args=(sent,))
        sending.start()
        came = bytearray()
        while len(came) < amount:
            came += self.client.recv(1 << 16)
        sending.join()
        return bytes(came) == sent

    def silent(self, seconds: float = 0.6) -> bool:
        """Tell whether what is said now has no answer for a while; it is on its way from now on."""
        self.client.sendall(b"x")
        self.client.settimeout(seconds)
        try:
            return not self.client.recv(1)
        except TimeoutError:
            return True
        finally:
            self.client.settimeout(20)

    def hear(self, amount: int) -> bytes:
        """Return what was on its way."""
        came = b""
        while len(came) < amount:
            came += self.client.recv(amount - len(came))
        return came

    def end(self) -> None:
        """Close it from our side, and see the other side close."""
        self.client.shutdown(socket.SHUT_WR)
        assert self.client.recv(1) == b""
        self.close()

    def close(self) -> None:
        """Let go, also when the other side cannot hear of it."""
        self.client.close()
        with suppress(OSError):
            if self._made is not None:
                self._made.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(30)
