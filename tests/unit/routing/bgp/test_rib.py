from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.policy import ImportCheck
from routing.bgp.rib import Peer, Rib, imported
from routing.bgp.values import (
    Attributes,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Reason,
    Segment,
    SegmentType,
    Speaker,
    UnknownAttribute,
)

SPEAKER = Speaker("s", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.254"), ())
ADDRESS = IPv4Address("192.0.2.1")
PREFIXES = [ip_network(f"10.0.{n}.0/24") for n in range(8)]
GOOD = Attributes(next_hop=ADDRESS, as_path=(Segment(SegmentType.SEQUENCE, (65001,)),))
EVERY = (PrefixRule(ip_network("10.0.0.0/8"), 8, 32),)


def peer(limit: int | None = None, forbidden: tuple[int, ...] = ()) -> Peer:
    """Make a neighbour that may announce 10/8."""
    policy = ImportPolicy(accept=EVERY, max_prefixes=limit, forbidden_as=forbidden)
    neighbor = Neighbor("n", 65001, ADDRESS, imports=policy)
    return Peer(ADDRESS, neighbor, ImportCheck(neighbor, SPEAKER), internal=False)


def change(source: Peer, **imports: Any) -> None:
    """Give a neighbour another policy."""
    source.neighbor = replace(source.neighbor, imports=replace(source.neighbor.imports, **imports))
    source.check = ImportCheck(source.neighbor, SPEAKER)


def reasons(source: Peer) -> dict[Network, Reason | None]:
    """Return the verdict on every prefix."""
    return {dest.prefix: path.reason for dest, path in source.routes.items()}


def test_prefixes_said_together_share_one_path() -> None:
    """A table holds few paths, however many prefixes; a repeated message changes nothing."""
    rib, source = Rib(), peer()
    rib.announce(source, GOOD, PREFIXES)
    assert len(set(source.routes.values())) == 1
    assert len(rib.take_changes()) == len(PREFIXES)
    rib.announce(source, replace(GOOD), PREFIXES)
    assert rib.take_changes() == []


def test_routes_above_the_limit_are_refused_and_move_up_when_others_leave() -> None:
    """First come, first served; a known prefix may change at the limit."""
    rib, source = Rib(), peer(limit=2)
    rib.announce(source, GOOD, PREFIXES[:4])
    assert list(reasons(source).values()) == [None, None, Reason.MAX_PREFIXES, Reason.MAX_PREFIXES]
    rib.announce(source, replace(GOOD, med=3), PREFIXES[:1])
    assert reasons(source)[PREFIXES[0]] is None
    rib.withdraw(source, PREFIXES[1:2])
    assert reasons(source) == {PREFIXES[0]: None, PREFIXES[2]: None, PREFIXES[3]: Reason.MAX_PREFIXES}


def test_a_higher_limit_admits_and_a_lower_one_refuses() -> None:
    """The policy is asked again about everything."""
    rib, source = Rib(), peer(limit=1)
    rib.announce(source, GOOD, PREFIXES[:3])
    change(source, max_prefixes=2)
    rib.rejudge(source)
    assert list(reasons(source).values()) == [None, None, Reason.MAX_PREFIXES]
    change(source, max_prefixes=None, forbidden_as=(65001,))
    rib.rejudge(source)
    assert set(reasons(source).values()) == {Reason.FORBIDDEN_AS}
    assert source.accepted == 0


def test_malformed_routes_are_refused_whatever_the_policy_says() -> None:
    """RFC 7606; also when the policy changes."""
    rib, source = Rib(), peer()
    rib.announce(source, GOOD, PREFIXES[:1])
    rib.refuse(source, GOOD, PREFIXES[:1], Reason.MALFORMED)
    rib.rejudge(source)
    assert reasons(source) == {PREFIXES[0]: Reason.MALFORMED}
    assert rib.destinations[PREFIXES[0]].ranked == ()


def test_a_prefix_that_nobody_names_is_forgotten() -> None:
    """Memory follows the tables."""
    rib, source = Rib(), peer()
    rib.announce(source, GOOD, PREFIXES)
    rib.take_changes()
    rib.withdraw(source, PREFIXES)
    assert [dest.prefix for dest, _ in rib.take_changes()] == PREFIXES
    assert rib.destinations == {}


def test_a_second_restart_does_not_keep_what_the_first_left_stale() -> None:
    """RFC 4724 4.2: consecutive restarts."""
    rib, source = Rib(), peer()
    rib.announce(source, GOOD, PREFIXES[:2])
    rib.peer_down(source, frozenset(Family), 10)
    rib.announce(source, GOOD, PREFIXES[:1])
    rib.peer_down(source, frozenset(Family), 20)
    assert list(reasons(source)) == PREFIXES[:1]
    assert not rib.expire(source, 19)
    assert rib.expire(source, 20)
    assert reasons(source) == {}


def test_only_the_kept_families_become_stale() -> None:
    """The others go with the session."""
    rib, source = Rib(), peer()
    rib.announce(source, GOOD, PREFIXES[:1])
    rib.peer_down(source, frozenset({Family.IPV6}), 10)
    assert reasons(source) == {}
    assert source.stale_until is None


def test_what_does_not_cross_the_border_is_dropped_on_the_way_in() -> None:
    """LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST of eBGP; unknown non-transitive attributes of anybody."""
    kept, dropped = UnknownAttribute(0xC0, 99, b"x"), UnknownAttribute(0x80, 98, b"x")
    full = replace(GOOD, local_pref=7, originator_id=ADDRESS, cluster_list=(ADDRESS,), unknown=(kept, dropped))
    assert imported(full, internal=False) == replace(GOOD, unknown=(kept,))
    assert imported(full, internal=True) == replace(full, unknown=(kept,))
    assert imported(GOOD, internal=False) is GOOD


@given(st.integers(0, 4), st.lists(st.tuples(st.booleans(), st.sampled_from(PREFIXES)), max_size=30))
def test_the_count_is_that_of_the_accepted_routes_and_never_above_the_limit(
    limit: int, messages: list[tuple[bool, Network]]
) -> None:
    """And nothing waits while there is room."""
    rib, source = Rib(), peer(limit=limit)
    for announced, prefix in messages:
        if announced:
            rib.announce(source, GOOD, [prefix])
        else:
            rib.withdraw(source, [prefix])
        accepted = [reason for reason in reasons(source).values() if reason is None]
        assert source.accepted == len(accepted) == min(limit, len(source.routes))
        assert len(source.waiting) == len(source.routes) - len(accepted)
