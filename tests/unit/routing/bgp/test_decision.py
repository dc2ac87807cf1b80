from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.decision import Standing, rank, why_best, why_not
from routing.bgp.values import Attributes, Origin, Segment, SegmentType

HOP = IPv4Address("192.0.2.1")


@dataclass(frozen=True)
class Candidate:
    """The least that can be ranked."""

    standing: Standing


def path(*asns: int) -> tuple[Segment, ...]:
    """Make an AS_PATH of one sequence."""
    return (Segment(SegmentType.SEQUENCE, asns),)


PLAIN = Attributes(next_hop=HOP, as_path=path(1, 2), med=10)


def candidate(attributes: Attributes, number: int, *, internal: bool = False) -> Candidate:
    """Make a path from neighbour 192.0.2.number with router id 10.0.0.number."""
    return Candidate(
        Standing.of(
            attributes,
            internal=internal,
            router_id=IPv4Address("10.0.0.0") + number,
            address=IPv4Address("192.0.2.0") + number,
        )
    )


BETTER = {
    "LOCAL_PREF 200 against 100": replace(PLAIN, local_pref=200),
    "AS_PATH length 1 against 2": replace(PLAIN, as_path=path(1)),
    "MED 5 against 10": replace(PLAIN, med=5),
}


@pytest.mark.parametrize("words", BETTER)
def test_each_step_decides_and_is_named(words: str) -> None:
    """The better path comes from the neighbour that would lose every later step."""
    winner, loser = candidate(BETTER[words], 9), candidate(PLAIN, 1)
    assert rank([loser, winner]) == (winner, loser)
    assert why_best((winner, loser)) == words
    what, better_value, _, worse_value = words.rsplit(" ", 3)
    assert why_not(winner, loser) == f"{what} {worse_value} against {better_value}"


def test_the_origin_decides_after_the_length_of_the_path() -> None:
    """IGP before EGP before INCOMPLETE."""
    paths = [candidate(replace(PLAIN, origin=origin), number) for number, origin in enumerate(reversed(Origin), 1)]
    assert rank(paths) == tuple(reversed(paths))
    assert why_best(rank(paths)) == "ORIGIN IGP against EGP"


def test_external_wins_over_internal_then_the_router_id_then_the_cluster_list_then_the_address() -> None:
    """The steps after MED, in their order."""
    internal = candidate(PLAIN, 1, internal=True)
    external = candidate(PLAIN, 9)
    assert rank([internal, external]) == (external, internal)
    assert why_best((external, internal)) == "eBGP over iBGP"
    low, high = candidate(PLAIN, 3), candidate(PLAIN, 4)
    assert why_best(rank([high, low])) == "lower ORIGINATOR_ID or router id"
    far = replace(PLAIN, originator_id=IPv4Address("10.0.0.3"), cluster_list=(HOP,))
    assert why_best(rank([candidate(far, 2), low])) == "shorter CLUSTER_LIST"
    twin = replace(PLAIN, originator_id=IPv4Address("10.0.0.3"))
    assert why_best(rank([candidate(twin, 5), low])) == "lower neighbour address"
    assert why_not(low, candidate(twin, 5)) == "lost to lower neighbour address"


def test_an_as_set_counts_one() -> None:
    """RFC 4271 9.1.2.2 a."""
    aggregated = replace(PLAIN, as_path=(Segment(SegmentType.SEQUENCE, (1,)), Segment(SegmentType.SET, (2, 3, 4))))
    assert (
        rank([candidate(replace(PLAIN, as_path=path(1, 2, 3)), 1), candidate(aggregated, 2)])[0].standing.before[2] == 2
    )


def test_med_counts_only_within_one_neighbouring_as() -> None:
    """Another AS's MED of 0 does not beat ours of 10; the router id decides."""
    ours, theirs = candidate(PLAIN, 1), candidate(replace(PLAIN, as_path=path(7, 2), med=0), 2)
    assert rank([theirs, ours]) == (ours, theirs)


def test_the_order_of_arrival_does_not_matter_for_med() -> None:
    """The classic cycle: a before b by MED, b before c and c before a by router id."""
    a = candidate(replace(PLAIN, med=1), 9)
    b = candidate(replace(PLAIN, med=2), 1)
    c = candidate(replace(PLAIN, as_path=path(7, 2)), 5)
    assert {rank(order) for order in itertools.permutations([a, b, c])} == {(c, a, b)}
    assert why_not(c, b) == "MED against another path of AS1"


def test_a_missing_med_is_the_lowest_and_a_missing_local_pref_is_100() -> None:
    """RFC 4271 9.1.2.2 c; the customary default of the preference."""
    bare = candidate(replace(PLAIN, med=None), 9)
    assert rank([candidate(PLAIN, 1), bare])[0] is bare
    low = candidate(replace(PLAIN, local_pref=99), 1)
    assert rank([low, bare])[0] is bare


def test_a_path_in_graceful_shutdown_is_the_last_resort() -> None:
    """RFC 8326."""
    leaving = candidate(replace(PLAIN, communities=((65535, 0),), local_pref=500), 1)
    assert rank([leaving, candidate(PLAIN, 9)])[1] is leaving


def test_what_we_originate_wins() -> None:
    """And says so on both sides."""
    own, learned = Candidate(Standing.own()), candidate(replace(PLAIN, local_pref=1000, as_path=()), 1)
    assert rank([learned, own]) == (own, learned)
    assert why_best((own,)) == "originated here"
    assert why_best((learned,)) == "only path"
    assert why_not(own, learned) == "another path is originated here"


def naive_best(paths: list[Candidate]) -> Candidate:
    """RFC 4271 9.1.2.2 by elimination, step by step as it is written."""
    left = list(paths)
    left = [p for p in left if p.standing.before == min(q.standing.before for q in left)]
    left = [
        p
        for p in left
        if not any(q.standing.neighbor_as == p.standing.neighbor_as and q.standing.med < p.standing.med for q in left)
    ]
    return min(left, key=lambda p: p.standing.after)


candidates = st.builds(
    lambda asn, med, pref, internal, number: candidate(
        replace(PLAIN, as_path=path(asn), med=med, local_pref=pref), number, internal=internal
    ),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([100, 100, 200]),
    st.booleans(),
    st.integers(1, 200),
)


@given(st.lists(candidates, min_size=1, max_size=7, unique_by=lambda p: p.standing.after))
def test_the_order_is_that_of_repeated_elimination(paths: list[Candidate]) -> None:
    """The first is the best of all, the second the best of the rest, and so on."""
    ordered = list(rank(paths))
    for number in range(len(ordered)):
        assert ordered[number] == naive_best(ordered[number:])
    assert sorted(map(repr, ordered)) == sorted(map(repr, paths))
