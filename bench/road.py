"""A road through a router: a namespace that receives generated packets at `in0` and drops them behind `out0`.

One end of a wire leads to the other, so nothing else is needed: what the router sends is dropped at the egress hook of
the device, before it is on the wire. Variants to compare have a road each, so that they take turns without reloading.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.kernel.conntrack import KernelConntrack
from appliance.model.facts import Namespace
from bench.packets import MAC, TCP, Generator, Stream, handshake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.place import Place

IN, OUT = "in0", "out0"
CLIENT, SERVER = ip_address("10.1.0.2"), ip_address("10.2.0.2")
CLIENT6, SERVER6 = ip_address("fd00:1::2"), ip_address("fd00:2::2")
#: UDP from clients to a server: the first of as many flows as are asked for.
FLOW: Final = Stream(CLIENT, 1024, SERVER, 9000)
FLOW6: Final = Stream(CLIENT6, 1024, SERVER6, 9000)
#: More packets than the router sends by itself.
_PROOF: Final = 50
_PACKETS: Final = re.compile(r"counter packets (\d+)")
_NEIGHBOUR: Final = "02:00:00:00:00:ee"
_SINK: Final = """table netdev sink {
chain in0 { type filter hook egress device "in0" priority 0; counter drop; }
chain out0 { type filter hook egress device "out0" priority 0; counter drop; }
}
"""
_SETTINGS: Final = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/all/forwarding": "1",
    "netfilter/nf_conntrack_udp_timeout": "7200",
    "netfilter/nf_conntrack_udp_timeout_stream": "7200",
}


@dataclass(frozen=True)
class Road:
    """A router of its own."""

    place: Place
    ns: Namespace
    generator: Generator

    def send(self, stream: Stream, count: int) -> float:
        """Have the router receive packets from the side they come from; return the nanoseconds that each one took."""
        return self.generator.send(self.ns, OUT if stream.answers else IN, stream, count)

    def establish(self, stream: Stream) -> Stream:
        """Open every flow of a stream: a packet there and one back, or a handshake; return what may follow."""
        opening = handshake(stream) if stream.protocol == TCP else (stream, stream.back())
        for each in opening:
            self.send(each, stream.flows)
        return opening[-1] if stream.protocol == TCP else stream

    def proves(self, stream: Stream) -> None:
        """See that packets of a stream come through; whoever measures what is dropped early measures nothing."""
        before = self._through()
        self.send(stream, _PROOF)
        # The router itself sends a few (RFC 4861).
        assert self._through() >= before + _PROOF, f"{stream} does not come through"

    def _through(self) -> int:
        """Count what the router has sent."""
        listing = self.place.run("nft", "list", "table", "netdev", "sink", ns=self.ns)
        return sum(map(int, _PACKETS.findall(listing)))

    def records(self) -> int:
        """Count the router's flow records."""
        return KernelConntrack(self.place.namespaces).count(self.ns)

    def nft(self, text: str) -> None:
        """Run a script of nft."""
        self.place.run("nft", "-f", "-", ns=self.ns, text=text)


@contextmanager
def many_records(count: int) -> Iterator[None]:
    """Let namespaces hold so many flow records each: the limit is one for the machine, and is put back."""
    limit = Path("/proc/sys/net/netfilter/nf_conntrack_max")
    before = int(limit.read_text())
    limit.write_text(str(max(before, count + count // 4)))
    try:
        yield
    finally:
        limit.write_text(str(before))


def build(place: Place, name: str, generator: Generator) -> Road:
    """Make a road; it goes with its place."""
    road = Road(place, Namespace(name), generator)
    place.namespaces.create(road.ns)
    with place.namespaces.in_namespace(road.ns):
        for key, value in _SETTINGS.items():
            (Path("/proc/sys/net") / key).write_text(value)
    ends = ("link", "add", IN, "address", MAC, "type", "veth", "peer", "name", OUT, "address", MAC)
    place.run("ip", *ends, ns=road.ns)
    for number, device in enumerate((IN, OUT), 1):
        place.run("ethtool", "-K", device, "gro", "on", ns=road.ns)  # registers the queue that the generator names
        place.run("ip", "-batch", "-", ns=road.ns, text=_way(number, device))
    road.nft(_SINK)
    return road


def _way(number: int, device: str) -> str:
    """Lead to the clients or servers behind a device by a neighbour that never needs to be asked for."""
    return f"""link set {device} up
address add 169.254.{number}.1/30 dev {device}
neighbour add 169.254.{number}.2 lladdr {_NEIGHBOUR} dev {device}
neighbour add fe80::2 lladdr {_NEIGHBOUR} dev {device}
route add 10.{number}.0.0/16 via 169.254.{number}.2 dev {device}
route add fd00:{number}::/32 via fe80::2 dev {device}
"""
