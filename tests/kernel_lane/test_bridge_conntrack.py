"""Connections followed on a bridge itself, without br_netfilter: answers pass, questions from the wrong side do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kernel_lane.yard import exchange, nothing

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard

RULES = """
table bridge t {
    counter answers {}
    counter refused {}
    chain c {
        type filter hook forward priority 0;
        ether type != ip accept;
        ct state established counter name answers accept;
        iifname "inner" ct state new accept;
        counter name refused drop;
    }
}
"""


def test_a_bridge_lets_pass_what_answers_a_connection(yard: Yard) -> None:
    """And nothing that begins outside."""
    yard.make("sw", "inner", "outer")
    yard.ip("sw", "link add lan0 type bridge", "link set lan0 up")
    for number, name in ((1, "inner"), (2, "outer")):
        yard.ip("sw", f"link add {name} type veth peer name eth0 netns {yard.names[name]}")
        yard.ip("sw", f"link set {name} master lan0", f"link set {name} up")
        yard.ip(name, f"address add 10.0.0.{number}/24 dev eth0", "link set eth0 up")
    yard.nft("sw", RULES)
    exchange(yard.udp("inner", 1000), yard.udp("outer", 7), ("10.0.0.2", 7))
    assert yard.counters("sw") == {"answers": 1, "refused": 0}
    inside = yard.udp("inner", 8)
    yard.udp("outer").sendto(b"a question from outside", ("10.0.0.1", 8))
    assert yard.counters("sw") == {"answers": 1, "refused": 1}
    assert nothing(inside)
