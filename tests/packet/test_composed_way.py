"""The whole way of a composed destination through namespaces: client, gateway, two hosts that share one address.

    client --- gateway === host1 --- edge1 (203.0.113.1, ports 4096-8191)
                      === host2 --- edge2 (203.0.113.1, ports 8192-12287)

The gateway keeps no flow: its routes by IPv6 prefix are all it knows. Both edges have the same guest, 172.16.0.1.
"""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.compose import ComposePort
from appliance.kernel.routes import RoutesPort
from appliance.model.composed import Composed, Kind
from appliance.model.facts import Compose, Decapsulate, Hop, Namespace, Route
from appliance.model.marks import PROTO_BGP, PROTO_BOX
from appliance.state.diff import diff
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel

CLIENT, GATEWAY = Namespace("client"), Namespace("gateway")
PUBLIC, GUEST, FAR = "203.0.113.1", "172.16.0.1", "198.51.100.2"
PREFIX, SOURCE = IPv6Network("fd00:0:a2::/48"), IPv6Address("fd00:0:1::1")
#: First port of each host's block, as wide as the prefix says: a /101 has 2,048 ports, a /100 4,096, a /102 1,024.
BLOCKS = {1: (4096, 4096), 2: (8192, 1024)}
UDP_SEGMENT = 103
INWARD = IPv4Address("169.254.255.1")
MAC = "02:00:00:00:00:c1"


@dataclass
class Zone:
    """The namespaces, and the sockets in them."""

    world: World

    def ip(self, ns: str, *lines: str) -> None:
        """Run several `ip` commands in a namespace."""
        for line in lines:
            self.world.run(ns, "ip", *line.split())

    def build(self) -> None:
        """Make devices and addresses, and let the ports make all routes."""
        self.world.make(CLIENT, GATEWAY, *(f"{kind}{n}" for n in BLOCKS for kind in ("host", "edge")))
        self.wire(CLIENT, "e0", f"{FAR}/24", GATEWAY, "g0", "198.51.100.1/24")
        self.ip(CLIENT, f"route add {PUBLIC}/32 via 198.51.100.1")
        self.ip(
            GATEWAY,
            "link add c0 type veth peer name c1",
            "link set c0 mtu 1440 up",
            f"link set c1 address {MAC} up",
            "address add 169.254.254.1/30 dev c0",
            f"address add {SOURCE}/128 dev lo",
            f"neighbour add 169.254.254.2 lladdr {MAC} dev c0",
        )
        for number in BLOCKS:
            self.build_host(number)
        for ns in self.world.namespaces.names():
            for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                self.world.run(ns, "sysctl", "-qw", f"{name}=1")
        assert RoutesPort(self.world.namespaces).apply(diff([], self.routes())) == ()
        compose = Compose(GATEWAY, "c1", SOURCE, PREFIX)
        assert ComposePort(self.world.namespaces).apply(diff([], [compose])) == ()

    def build_host(self, number: int) -> None:
        """Make a host and the edge on it."""
        host, edge = f"host{number}", f"edge{number}"
        self.wire(GATEWAY, f"u{number}", f"10.9.{number}.1/24", host, "n0", f"10.9.{number}.2/24")
        self.ip(GATEWAY, f"address add fd01:{number}::1/64 dev u{number} nodad")
        self.ip(host, f"address add fd01:{number}::2/64 dev n0 nodad", f"route add default via 10.9.{number}.1")
        self.wire(host, "v0", "169.254.0.0/31", edge, "uplink", "169.254.0.1/31")
        self.ip(edge, f"address add {GUEST}/32 dev lo", "route add default via 169.254.0.0")
        first, width = BLOCKS[number]
        self.world.run(
            edge,
            "nft",
            "table ip nat { chain post { type nat hook postrouting priority srcnat; oifname uplink ip saddr 172.16.0.0/24 "
            f"meta l4proto {{ tcp, udp }} snat to {PUBLIC}:{first}-{first + width - 1}; }}; }}",
        )

    def wire(self, one: str, link: str, address: str, other: str, end: str, there: str) -> None:
        """Join two namespaces."""
        path = self.world.path(Namespace(other))
        self.ip(one, f"link add {link} type veth peer name {end} netns {path}")
        for ns, name, value in ((one, link, address), (other, end, there)):
            self.ip(ns, f"address add {value} dev {name}", f"link set {name} up")

    def routes(self) -> Iterator[Route]:
        """Yield what BGP and the compile would have made."""
        yield Route(GATEWAY, IPv4Network(f"{PUBLIC}/32"), (Hop("c0", IPv4Address("169.254.254.2")),), PROTO_BOX)
        for number, (first, width) in BLOCKS.items():
            block = Composed(Kind.SNAT, IPv4Address(PUBLIC), first, width).network(PREFIX)
            yield Route(GATEWAY, block, (Hop(f"u{number}", IPv6Address(f"fd01:{number}::2")),), PROTO_BGP)
            host, hop = Namespace(f"host{number}"), Hop("v0", None, Decapsulate(INWARD))
            yield Route(host, block, (hop,), PROTO_BOX)
            # End.DX4 takes its next hop for the way only: were that connected, ARP would ask for the inner destination.
            yield Route(host, IPv4Network(INWARD), (Hop("v0", IPv4Address("169.254.0.1")),), PROTO_BOX)

    def socket(self, ns: str, kind: socket.SocketKind, address: str) -> socket.socket:
        """Make a socket in a namespace."""
        with self.world.namespaces.in_namespace(Namespace(ns)):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(10)
        made.bind((address, 8080 if ns == CLIENT else 0))
        return made

    @contextmanager
    def capture(self, number: int) -> Iterator[Path]:
        """Give a file with the IPv4-in-IPv6 packets that enter a host, as tcpdump tells them."""
        said = self.world.host.parent / f"capture{number}"
        enter = ("nsenter", f"--net={self.world.path(Namespace(f'host{number}'))}")
        command = (*enter, "tcpdump", "-lnt", "--immediate-mode", "-i", "n0", "-Q", "in", "ip6", "proto", "4")
        with (
            said.open("w") as out,
            subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as process,
        ):
            assert process.stderr is not None
            try:
                while "listening" not in process.stderr.readline():
                    assert process.poll() is None
                yield said
            finally:
                process.terminate()


@pytest.fixture
def zone(world: World) -> Zone:
    """Build it."""
    made = Zone(world)
    made.build()
    return made


def echo(server: socket.socket) -> None:
    """Answer one connection: tell the address it came from, then send back as much as comes."""
    with suppress(TimeoutError, OSError):
        made, address = server.accept()
        with made:
            made.settimeout(10)
            made.sendall(f"{address[0]} {address[1]}\n".encode())
            while data := made.recv(1 << 16):
                made.sendall(data)


def talk(zone: Zone, number: int, amount: int) -> int:
    """Connect from a guest and have `amount` octets sent back; return the port it was seen with."""
    server = zone.socket(CLIENT, socket.SOCK_STREAM, FAR)
    server.listen()
    answering = Thread(target=echo, args=(server,))
    answering.start()
    with server, zone.socket(f"edge{number}", socket.SOCK_STREAM, GUEST) as guest:
        guest.connect((FAR, 8080))
        reader = guest.makefile("rb")
        address, port = reader.readline().decode().split()
        assert address == PUBLIC
        sending = Thread(target=guest.sendall, args=(bytes(amount),))
        sending.start()
        assert len(reader.read(amount)) == amount
        sending.join()
        guest.shutdown(socket.SHUT_WR)
        answering.join()
    return int(port)


@pytest.mark.parametrize("number", BLOCKS)
def test_connections_of_both_hosts_work_and_reach_the_right_one(zone: Zone, number: int) -> None:
    """Both share the address; what the client sends enters the host whose block the port is in, and no other."""
    first, width = BLOCKS[number]
    with zone.capture(number) as right, zone.capture(3 - number) as wrong:
        for _ in range(3):
            port = talk(zone, number, 1000)
            assert first <= port < first + width
            destination = Composed(Kind.SNAT, IPv4Address(PUBLIC), port).network(PREFIX).network_address
            packet = f"> {destination}: IP {FAR}.8080 > {PUBLIC}.{port}"
            eventually(lambda packet=packet: packet in right.read_text(), what=packet)  # type: ignore[misc]
        assert wrong.read_text() == ""


def test_bulk_data_comes_back_whole(zone: Zone) -> None:
    """Large sends travel as one segment inside the kernel, and are cut behind the composing device."""
    assert talk(zone, 1, 4 << 20) in range(4096, 8192)


def test_datagrams_that_were_sent_as_one_keep_their_borders(zone: Zone) -> None:
    """UDP_SEGMENT: the kernel carries several datagrams as one packet; 40 octets more must not move where each ends."""
    with (
        zone.socket(CLIENT, socket.SOCK_DGRAM, FAR) as client,
        zone.socket("edge2", socket.SOCK_DGRAM, GUEST) as guest,
    ):
        guest.sendto(b"hello", (FAR, 8080))
        _, address = client.recvfrom(100)
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        client.sendto(b"".join(bytes([number]) * 1200 for number in range(10)), address)
        assert [guest.recv(2000) for _ in range(10)] == [bytes([number]) * 1200 for number in range(10)]


def test_a_packet_too_big_for_the_fabric_is_told_to_its_sender(zone: Zone) -> None:
    """The device that leads to composing has 40 octets less: the client learns it by ICMP before anything is composed."""
    with (
        zone.socket(CLIENT, socket.SOCK_DGRAM, FAR) as client,
        zone.socket("edge1", socket.SOCK_DGRAM, GUEST) as guest,
    ):
        guest.sendto(b"hello", (FAR, 8080))
        _, address = client.recvfrom(100)
        client.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        client.sendto(bytes(1472), address)
        eventually(lambda: "mtu 1440" in zone.world.run(CLIENT, "ip", "route", "get", PUBLIC), what="the client knows")
        client.sendto(bytes(1412), address)
        assert len(guest.recv(2000)) == 1412


def test_an_error_about_a_flow_reaches_its_host(zone: Zone) -> None:
    """The client's kernel refuses a datagram: the error finds the guest that sent it, through NAT and composing."""
    with zone.socket("edge2", socket.SOCK_DGRAM, GUEST) as guest:
        guest.connect((FAR, 9))
        guest.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            guest.recv(100)
