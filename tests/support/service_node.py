"""A real service node: a one-arm router in a namespace that sends back what it gets, counts it, and can instruct.

It forwards in the kernel and counts each flow in an nft set, so that what a test measures is the way and not the node.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

from appliance.kernel import syscalls
from appliance.kernel.namespaces import SO_RCVBUFFORCE
from appliance.model.facts import FlowKey
from appliance.model.marks import INSTRUCT_PORT
from services.flows.inband import Answer, Order, Request, decode_answer, encode_request

_COUNTING = """
table inet node {
  set flows {
    typeof ip saddr . th sport . ip daddr . th dport . meta l4proto
    flags dynamic
    counter
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    update @flows { ip saddr . th sport . ip daddr . th dport . meta l4proto counter }
  }
}
"""


@dataclass
class ServiceNode:
    """The service node in the namespace at `path`, whose `device` leads to the edge."""

    path: Path
    device: str
    address: IPv4Address
    edge: IPv4Address
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def start(self) -> None:
        """Have it route everything back, and count."""
        for name, value in (
            ("ip_forward", 1),
            ("conf.all.send_redirects", 0),
            (f"conf.{self.device}.send_redirects", 0),
            ("conf.all.rp_filter", 0),
            (f"conf.{self.device}.rp_filter", 0),
        ):
            self.run("sysctl", "-qw", f"net.ipv4.{name}={value}")
        self.run("ip", "address", "replace", f"{self.address}/31", "dev", self.device)
        self.run("ip", "link", "set", self.device, "up")
        self.run("ip", "route", "replace", "default", "via", str(self.edge))
        self.run("nft", "-f", "-", say=_COUNTING)

    def run(self, *command: str, say: str = "") -> str:
        """Run a command in its namespace."""
        enter = ("nsenter", f"--net={self.path}")
        done = subprocess.run((*enter, *command), input=say, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def packets(self) -> dict[FlowKey, int]:
        """Return how many packets of each direction of each flow passed."""
        listed = json.loads(self.run("nft", "-j", "list", "set", "inet", "node", "flows"))
        (held,) = (item["set"] for item in listed["nftables"] if "set" in item)
        found = {}
        for element in (item["elem"] for item in held.get("elem", ())):
            source, sport, destination, dport, protocol = element["val"]["concat"]
            number = protocol if isinstance(protocol, int) else socket.getprotobyname(protocol)
            key = FlowKey(IPv4Address(source), sport, IPv4Address(destination), dport, number)
            found[key] = element["counter"]["packets"]
        return found

    @contextmanager
    def socket(self) -> Iterator[socket.socket]:
        """Give a UDP socket of the node's."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self.path, os.O_RDONLY)
        try:
            syscalls.setns(there)
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            syscalls.setns(back)
            os.close(back)
            os.close(there)
        with made:
            # Answers wait here while all requests are still being sent: some hundreds are more than the usual room.
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
            made.settimeout(60)
            made.bind((str(self.address), 0))
            yield made

    def instruct(self, order: Order, *flows: FlowKey) -> list[Answer]:
        """Send an order for each flow, at once; return the answers in the order of the flows."""
        asked = [Request(next(self._numbers), order, flow) for flow in flows]
        with self.socket() as link:
            for request in asked:
                link.sendto(encode_request(request), (str(self.edge), INSTRUCT_PORT))
            answers = [decode_answer(link.recv(100)) for _ in asked]
        by_number = {answer.number: answer for answer in answers if answer is not None}
        return [by_number[request.number] for request in asked]
