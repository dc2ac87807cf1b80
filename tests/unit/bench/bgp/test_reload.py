from __future__ import annotations

from bench.bgp.messages import network
from bench.bgp.reload import longest, scene
from routing.bgp.policy import PrefixRules
from routing.bgp.values import Family


def test_silence_at_either_end_counts() -> None:
    """From the change on, until one looked."""
    assert longest([1.0, 1.5], 0.0, 2.0) == 1.0
    assert longest([0.5, 1.0], 0.0, 5.0) == 4.0
    assert longest([], 0.0, 3.0) == 3.0


def test_of_every_client_one_of_a_hundred_is_refused() -> None:
    """By the rules of the exchange as it is then, and by none before."""
    some = scene(7, 7 * 400)
    before, after = PrefixRules(some.before.never), PrefixRules(some.after.never)
    for number, table in some.tables.items():
        prefixes = [network(Family.IPV4, prefix) for prefix in table.prefixes]
        assert not any(map(before.match, prefixes))
        refused = [prefix for prefix in table.prefixes if after.match(network(Family.IPV4, prefix))]
        assert len(refused) == 4
        assert sum(map(len, refused)) == some.refused[number]
