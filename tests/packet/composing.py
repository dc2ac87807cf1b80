"""One packet in, verdict and packet out: `compose.bpf.c` through BPF_PROG_TEST_RUN."""

from __future__ import annotations

import ctypes
from ctypes import byref
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from appliance.kernel.compose import CONFIG, MEMBERS, pack_config, pack_members
from appliance.kernel.libbpf import Program, RunOptions, checked, library
from appliance.model.composed import Kind, decompose
from appliance.model.facts import HOST, Compose

if TYPE_CHECKING:
    from scapy.packet import Packet

PASS, DROP = 0, 2
PREFIX, SOURCE = IPv6Network("fd00:1:2::/48"), IPv6Address("fd00::1")
ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


@dataclass(frozen=True)
class Composed:
    """What a composed packet says: its outer header taken apart, and what is inside, octet by octet."""

    kind: Kind
    address: IPv4Address
    selector: int
    outer: Packet
    inner: bytes


@dataclass(frozen=True)
class Composer:
    """The program, with a configuration that tests can change."""

    program: Program

    def configure(self, members: dict[IPv4Address, tuple[int, ...]]) -> None:
        """Give it members; source and prefix are always the same."""
        fact = Compose(HOST, "c0", SOURCE, PREFIX)
        self.program.maps[CONFIG].update(bytes(4), pack_config(fact, bytes(12)))
        held = self.program.maps[MEMBERS]
        for key in list(held):
            held.delete(key)
        for address, ids in members.items():
            held.update(address.packed, pack_members(address, ids))

    def run(self, frame: bytes) -> tuple[int, bytes]:
        """Send one frame through it."""
        out = ctypes.create_string_buffer(1 << 16)
        data = ctypes.create_string_buffer(frame, len(frame))
        options = RunOptions(
            sz=ctypes.sizeof(RunOptions),
            data_in=ctypes.addressof(data),
            data_out=ctypes.addressof(out),
            data_size_in=len(frame),
            data_size_out=len(out),
            repeat=1,
        )
        checked(library().bpf_prog_test_run_opts(self.program.fd, byref(options)), "test run")
        return options.retval, out.raw[: options.data_size_out]

    def selector(self, frame: bytes, kind: Kind) -> int:
        """Send one frame through it, which must come out composed; look only at the selector."""
        verdict, out = self.run(frame)
        assert (verdict, out[38:46], out[52:54]) == (
            PASS,
            PREFIX.network_address.packed[:6] + kind.to_bytes(2),
            bytes(2),
        )
        return int.from_bytes(out[50:52])

    def compose(self, packet: Packet) -> Composed:
        """Send one IPv4 packet through it, which must come out composed, and be intact inside."""
        frame = bytes(ETHERNET / packet)
        verdict, out = self.run(frame)
        assert verdict == PASS
        ethernet = Ether(out)
        assert (ethernet.src, ethernet.dst, ethernet.type) == (ETHERNET.src, ETHERNET.dst, 0x86DD)
        outer = ethernet[IPv6]
        inner = out[14 + 40 :]
        assert inner == frame[14:]
        assert (outer.version, outer.nh, outer.hlim) == (6, 4, 64)
        assert IPv6Address(outer.src) == SOURCE
        assert outer.plen == IP(inner).len
        destination = decompose(IPv6Network(outer.dst), PREFIX)
        if destination is None:  # 112 bits of prefix and 16 of nothing
            value = int(IPv6Address(outer.dst))
            assert value & 0xFFFF == 0
            destination = decompose(IPv6Network((value, 112)), PREFIX)
        assert destination is not None
        return Composed(destination.kind, destination.address, destination.selector, outer, inner)
