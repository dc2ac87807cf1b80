"""Established flows take nft's short cut: the forward chain sees their first packets and no more."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard

CHUNK, CHUNKS = 60_000, 40
RULES = """
table inet t {
    counter forwarded {}
    flowtable f { hook ingress priority 0; devices = { e0, e1 }; }
    chain c { type filter hook forward priority 0; counter name forwarded; RULE }
}
"""


def _transfer(yard: Yard) -> socket.socket:
    """Send much over one connection, in one direction; return the end that takes it: closed, the flow is none any more."""
    listening = yard.socket("s", socket.AF_INET, socket.SOCK_STREAM)
    listening.bind(("", 5000))
    listening.listen()
    client = yard.socket("c", socket.AF_INET, socket.SOCK_STREAM)
    client.connect(("10.0.1.2", 5000))
    server, _ = listening.accept()
    server.settimeout(20)
    for _ in range(CHUNKS):
        client.sendall(b"x" * CHUNK)
        left = CHUNK
        while left:
            left -= len(server.recv(left))
    return server


@pytest.mark.parametrize("short", [True, False])
def test_a_flow_in_the_flowtable_leaves_the_forward_chain(yard: Yard, short: bool) -> None:
    """Without the flowtable the chain counts every packet of the same transfer."""
    yard.make("c", "r", "s")
    yard.cable("c/e0 10.0.0.2/24", "r/e0 10.0.0.1/24")
    yard.cable("s/e0 10.0.1.2/24", "r/e1 10.0.1.1/24")
    yard.ip("c", "route add default via 10.0.0.1")
    yard.ip("s", "route add default via 10.0.1.1")
    yard.forwarding("r")
    yard.nft("r", RULES.replace("RULE", "meta l4proto tcp flow add @f;" if short else "ct state established accept;"))
    with _transfer(yard):
        counted = yard.counters("r")["forwarded"]
        tracked = yard.run("r", "cat", "/proc/net/nf_conntrack")
    if short:
        assert 2 <= counted <= CHUNKS // 2
    else:
        assert counted > CHUNKS
    assert ("[OFFLOAD]" in tracked) == short
