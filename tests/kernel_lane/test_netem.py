"""netem, with which labs imitate bad lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kernel_lane.yard import nothing

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard


def test_a_line_doubles_or_loses_packets_as_it_is_told(yard: Yard) -> None:
    """Certainty instead of chance: each is doubled, then each is lost, then the line is good."""
    yard.make("a", "b")
    yard.cable("a/eth0 192.0.2.1/24", "b/eth0 192.0.2.2/24")
    near, far = yard.udp("a"), yard.udp("b", 7)
    yard.run("a", "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "duplicate", "100%")
    near.sendto(b"two", ("192.0.2.2", 7))
    assert [far.recv(100) for _ in range(2)] == [b"two", b"two"]
    yard.run("a", "tc", "qdisc", "change", "dev", "eth0", "root", "netem", "loss", "100%")
    near.sendto(b"none", ("192.0.2.2", 7))
    yard.run("a", "tc", "qdisc", "del", "dev", "eth0", "root")
    near.sendto(b"one", ("192.0.2.2", 7))
    assert far.recv(100) == b"one"
    assert nothing(far)
