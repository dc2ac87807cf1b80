"""Machines of one test on the kernel that is under test: namespaces by short names, cables, sockets, ears.

Packets cross a veth pair while the sender is still in its system call, so what is not there after an answer never comes.
Starting a program is what costs inside an emulated machine: `ip` is started once for many lines.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from select import select
from socket import (
    AF_INET,
    AF_PACKET,
    SO_BINDTODEVICE,
    SO_BROADCAST,
    SO_RCVBUF,
    SOCK_DGRAM,
    SOCK_RAW,
    SOL_SOCKET,
    socket,
)
from typing import TYPE_CHECKING, Any, Final, Self

from appliance.kernel.namespaces import Namespaces
from appliance.model.facts import Namespace

if TYPE_CHECKING:
    from tests.support.namespaces import Namespaces as Factory

ALL_PROTOCOLS: Final = 3
SOL_PACKET: Final = 263
PACKET_AUXDATA: Final = 8
PACKET_OUTGOING: Final = 4
PATIENCE: Final = 20.0
#: Inside `Yard` the word is a method.
Socket = socket


class Yard:
    """Knows its machines by the names that a test gives them."""

    def __init__(self, factory: Factory) -> None:
        """Begin with none."""
        self.names: dict[str, str] = {}
        self._factory = factory
        self._stack = ExitStack()
        self._namespaces = Namespaces()
        self._stack.callback(self._namespaces.close)

    def __enter__(self) -> Self:
        """Close with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sockets."""
        self._stack.close()

    def make(self, *names: str) -> None:
        """Have machines."""
        self.names |= {name: self._factory(name) for name in names}

    def cable(self, one: str, other: str) -> None:
        """Connect `machine/device address...` with another; both ends are up."""
        ends = [end.split() for end in (one, other)]
        (near, device), (far, peer) = (end[0].split("/") for end in ends)
        self.ip(near, f"link add {device} type veth peer name {peer} netns {self.names[far]}")
        for (place, addresses), name in zip(((near, ends[0][1:]), (far, ends[1][1:])), (device, peer), strict=True):
            lines = [f"address add {address} dev {name}{' nodad' * (':' in address)}" for address in addresses]
            self.ip(place, *lines, f"link set {name} up")

    def ip(self, place: str, *lines: str) -> None:
        """Run lines of `ip` on a machine, all at once."""
        self._run(["ip", "-n", self.names[place], "-batch", "-"], "".join(f"{line}\n" for line in lines))

    def nft(self, place: str, script: str) -> None:
        """Load rules."""
        self.run(place, "nft", script)

    def counters(self, place: str) -> dict[str, int]:
        """Return packets by named counter."""
        listed = json.loads(self.run(place, "nft", "-j", "list", "counters"))["nftables"]
        return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}

    def forwarding(self, *places: str) -> None:
        """Have routers."""
        for place in places:
            self.write(place, "net/ipv4/ip_forward", "1")

    def write(self, place: str, key: str, value: str) -> None:
        """Write a sysctl."""
        with self._namespaces.in_namespace(Namespace(self.names[place])), open(f"/proc/sys/{key}", "w") as file:  # noqa: PTH123 - the thread's own /proc decides
            file.write(value)

    def run(self, place: str, *command: str) -> str:
        """Run a program on a machine."""
        return self._run(["ip", "netns", "exec", self.names[place], *command])

    def socket(self, place: str, *kind: int) -> Socket:
        """Make a socket on a machine."""
        with self._namespaces.in_namespace(Namespace(self.names[place])):
            made = Socket(*kind)
        made.settimeout(PATIENCE)
        self._stack.callback(made.close)
        return made

    def udp(self, place: str, port: int = 0, address: str = "", device: str = "") -> Socket:
        """Bind a UDP socket."""
        made = self.socket(place, AF_INET, SOCK_DGRAM)
        if device:
            made.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        made.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
        made.bind((address, port))
        return made

    def ear(self, place: str, device: str) -> Ear:
        """Listen to what a device sends from now on."""
        listening = self.socket(place, AF_PACKET, SOCK_RAW, 0)
        listening.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        listening.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 22)
        listening.bind((device, ALL_PROTOCOLS))
        listening.setblocking(False)
        return Ear(listening)

    @staticmethod
    def _run(command: list[str], given: str = "") -> str:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {given}{done.stdout}{done.stderr}"
        return done.stdout


class Ear:
    """What one end of a wire sends: what came out of a tunnel is heard on the same device once more, as received."""

    def __init__(self, listening: Socket) -> None:
        """Take over a packet socket."""
        self._socket = listening

    def heard(self) -> list[tuple[int, bytes]]:
        """Return frames so far, each with its VLAN (0 without): the kernel takes the tag out and tells it beside."""
        frames: list[tuple[int, bytes]] = []
        while True:
            try:
                octets, beside, _, address = self._socket.recvmsg(65536, 256)
            except BlockingIOError:
                return frames
            if address[2] == PACKET_OUTGOING:
                frames.append((_vlan(beside), octets))


def _vlan(beside: list[tuple[int, int, bytes]]) -> int:
    """Read `struct tpacket_auxdata`: status, length, snaplen, mac, net, vlan_tci, vlan_tpid."""
    for level, kind, octets in beside:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            return int.from_bytes(octets[16:18], "little") & 0xFFF
    return 0


def exchange(asking: Socket, answering: Socket, to: tuple[str, int], text: bytes = b"question") -> None:
    """Send there; what comes out must be this; answer the sender; the answer must arrive."""
    asking.sendto(text, to)
    got, sender = answering.recvfrom(65536)
    assert got == text
    answering.sendto(b"answer to " + text, sender)
    assert asking.recv(65536) == b"answer to " + text


def nothing(listening: Socket) -> bool:
    """Tell that nothing has arrived."""
    return not select([listening], [], [], 0)[0]


def ethertype(frame: bytes) -> int:
    """Return what an Ethernet frame carries."""
    return int.from_bytes(frame[12:14], "big")


def protocols(frames: list[tuple[int, bytes]]) -> set[int]:
    """Return the protocols of the IPv4 packets among frames."""
    return {frame[23] for _, frame in frames if ethertype(frame) == 0x0800}


def attribute(kind: int, value: Any) -> bytes:
    """Return an attribute of netlink: octets, a number of 32 bits, or more attributes."""
    octets = value if isinstance(value, bytes) else int(value).to_bytes(4, "little")
    return (len(octets) + 4).to_bytes(2, "little") + kind.to_bytes(2, "little") + octets + b"\0" * (-len(octets) % 4)
