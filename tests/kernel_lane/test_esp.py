r"""A VPN of the kernel: ESP in tunnel mode with AES-GCM (RFC 4106).

a 10.1.0.2 --- ga 192.0.2.1 ====== 192.0.2.2 gb --- 10.2.0.2 b
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.kernel_lane.yard import exchange, protocols

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard

KEY = "0x0102030405060708090a0b0c0d0e0f1011121314"


def _tunnel(yard: Yard, place: str, inner: tuple[str, str], outer: tuple[str, str], spis: tuple[int, int]) -> None:
    """Have one end: what it sends and what it takes."""
    states, policies = [], []
    for (source, target), (left, right), spi, hooks in (
        (inner, outer, spis[0], ("out",)),
        (inner[::-1], outer[::-1], spis[1], ("in", "fwd")),
    ):
        way = f"src {left} dst {right} proto esp"
        states.append(f"xfrm state add {way} spi {spi} reqid 1 mode tunnel aead rfc4106(gcm(aes)) {KEY} 128")
        template = f"tmpl {way} reqid 1 mode tunnel"
        policies += [f"xfrm policy add src {source} dst {target} dir {hook} {template}" for hook in hooks]
    yard.ip(place, *states, *policies)


def test_what_passes_a_tunnel_is_encrypted_on_the_wire(yard: Yard) -> None:
    """Nothing but ESP is there, and no word of what was said."""
    yard.make("a", "ga", "gb", "b")
    yard.cable("ga/lan 10.1.0.1/24", "a/eth0 10.1.0.2/24")
    yard.cable("gb/lan 10.2.0.1/24", "b/eth0 10.2.0.2/24")
    yard.cable("ga/wan 192.0.2.1/24", "gb/wan 192.0.2.2/24")
    yard.forwarding("ga", "gb")
    for place, via in (("a", "10.1.0.1"), ("b", "10.2.0.1"), ("ga", "192.0.2.2"), ("gb", "192.0.2.1")):
        yard.ip(place, f"route add default via {via}")
    nets, gateways = ("10.1.0.0/24", "10.2.0.0/24"), ("192.0.2.1", "192.0.2.2")
    _tunnel(yard, "ga", nets, gateways, (1, 2))
    _tunnel(yard, "gb", nets[::-1], gateways[::-1], (2, 1))
    ends = (yard.ear("ga", "wan"), yard.ear("gb", "wan"))
    exchange(yard.udp("a"), yard.udp("b", 7), ("10.2.0.2", 7), b"a secret of two")
    for wire in ends:
        frames = wire.heard()
        assert protocols(frames) == {socket.IPPROTO_ESP}
        assert not any(b"secret" in frame for _, frame in frames)
