from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from typing import Any
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp import tables as module
from routing.bgp.attributes import encode
from routing.bgp.nlri import pack, unpack
from routing.bgp.paths import Label, Path
from routing.bgp.peers import Peer, named
from routing.bgp.tables import Tables
from routing.bgp.values import (
    Address,
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
)

V4, V6 = Family.IPV4, Family.IPV6
BOTH = frozenset(Family)
SPEAKER = Speaker("s", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.254"), ())
PREFIXES = [ip_network(f"10.0.{n}.0/24") for n in range(8)]
SIX = [ip_network("2001:db8:1::/48")]
GOOD = Attributes(next_hop=IPv4Address("192.0.2.1"), as_path=(Segment(SegmentType.SEQUENCE, (65001,)),))
EVERY = (PrefixRule(ip_network("10.0.0.0/8"), 8, 32), PrefixRule(ip_network("::/0"), 0, 64))


def _best(label: Label | None) -> Path | None:
    return next(iter(label.ranked if label else ()), None)


class Bench:
    """Tables and neighbours that may announce 10/8."""

    def __init__(self, *limits: int | None) -> None:
        """One neighbour for each limit."""
        self.peers: dict[Address, Peer] = {}
        self.tables = Tables(self.peers)
        for number, limit in enumerate(limits or (None,), 1):
            address = IPv4Address("192.0.2.0") + number
            policy = ImportPolicy(accept=EVERY, max_prefixes=limit)
            self.peers[address] = Peer(address, Neighbor("n", 65000 + number, address, imports=policy), SPEAKER)

    @property
    def one(self) -> Peer:
        """The first neighbour."""
        return next(iter(self.peers.values()))

    @property
    def two(self) -> Peer:
        """The second."""
        return list(self.peers.values())[1]

    def announce(self, peer: Peer, prefixes: list[Network], attributes: Attributes = GOOD) -> None:
        """Let it say them."""
        family = Family.of(prefixes[0])
        path = peer.path(encode(attributes, family), self.tables.ours)
        self.tables.announce(peer, family, path, pack(prefixes))

    def change(self, peer: Peer, **imports: Any) -> None:
        """Give a neighbour another policy."""
        policy = replace(peer.neighbor.imports, **imports)
        self.tables.follow(peer, replace(peer.neighbor, imports=policy), SPEAKER)

    def changed(self) -> dict[Network, tuple[Path | None, Path | None]]:
        """Return the best paths before and after, of what changed."""
        return {
            prefix: (_best(before), _best(after))
            for family, changes in self.tables.changes()
            for before, after, nlri, _ in changes
            for prefix in unpack(nlri, family)
        }

    def said(self, peer: Peer) -> dict[Network, Path]:
        """Return what the neighbour says."""
        return {prefix: path for family, path, nlri in self.tables.said(peer) for prefix in unpack(nlri, family)}

    def reasons(self, peer: Peer) -> dict[Network, Reason | None]:
        """Return the verdict on every prefix."""
        return {prefix: path.reason for prefix, path in self.said(peer).items()}

    def numbers(self, peer: Peer) -> tuple[int, int, int]:
        """Return the neighbour's counts, after comparing them with the tables."""
        reasons = list(self.reasons(peer).values())
        counts = len(reasons), reasons.count(None), reasons.count(Reason.MAX_PREFIXES)
        assert (peer.received, peer.accepted, peer.waiting) == counts
        return counts


def test_prefixes_said_together_share_one_path() -> None:
    """A table holds few paths, however many prefixes; a repeated message changes nothing."""
    bench = Bench()
    bench.announce(bench.one, PREFIXES)
    assert len(set(bench.said(bench.one).values())) == 1
    assert len(bench.changed()) == len(PREFIXES)
    bench.announce(bench.one, PREFIXES, replace(GOOD))
    assert bench.changed() == {}


def test_what_changes_together_is_one_change() -> None:
    """With the labels before and after, and how many prefixes there are."""
    bench = Bench()
    bench.announce(bench.one, PREFIXES)
    ((family, changes),) = bench.tables.changes()
    ((before, after, nlri, number),) = changes
    assert (family, before, number) == (V4, None, len(PREFIXES))
    assert after is bench.said(bench.one)[PREFIXES[0]]
    assert unpack(nlri, V4) == PREFIXES


def test_each_prefix_is_judged_by_itself() -> None:
    """What the policy never takes, what it does not give, and what it accepts, of one message."""
    bench = Bench()
    bench.change(bench.one, accept=(PrefixRule.exact(PREFIXES[0]),), never=(PrefixRule.exact(PREFIXES[1]),))
    bench.announce(bench.one, PREFIXES[:3])
    assert bench.reasons(bench.one) == {
        PREFIXES[0]: None,
        PREFIXES[1]: Reason.BOGON,
        PREFIXES[2]: Reason.NOT_OWNED,
    }
    assert bench.numbers(bench.one) == (3, 1, 0)


def test_routes_above_the_limit_are_refused_and_move_up_when_others_leave() -> None:
    """As many as there is room for; a known prefix may change at the limit."""
    bench = Bench(2)
    bench.announce(bench.one, PREFIXES[:4])
    assert bench.numbers(bench.one) == (4, 2, 2)
    accepted = [prefix for prefix, reason in bench.reasons(bench.one).items() if reason is None]
    bench.announce(bench.one, accepted[:1], replace(GOOD, med=3))
    assert bench.reasons(bench.one)[accepted[0]] is None
    bench.tables.withdraw(bench.one, V4, pack(accepted[1:]))
    bench.changed()
    assert bench.numbers(bench.one) == (3, 2, 1)
    assert bench.reasons(bench.one)[accepted[0]] is None


def test_a_message_across_the_limit_leaves_in_who_was_in() -> None:
    """Also when it names them last, and some twice."""
    bench = Bench(3)
    bench.announce(bench.one, PREFIXES[5:7])
    bench.announce(bench.one, [*PREFIXES[:4], *PREFIXES[5:7], *PREFIXES[:2]], replace(GOOD, med=3))
    bench.changed()
    assert bench.numbers(bench.one) == (6, 3, 3)
    reasons = bench.reasons(bench.one)
    assert [reasons[prefix] for prefix in PREFIXES[5:7]] == [None, None]


def test_a_higher_limit_admits_and_a_lower_one_refuses() -> None:
    """The policy is asked again about everything."""
    bench = Bench(1)
    bench.announce(bench.one, PREFIXES[:3])
    bench.change(bench.one, max_prefixes=2)
    assert bench.numbers(bench.one) == (3, 2, 1)
    bench.change(bench.one, max_prefixes=0)
    assert bench.numbers(bench.one) == (3, 0, 3)
    bench.change(bench.one, max_prefixes=None)
    assert bench.numbers(bench.one) == (3, 3, 0)
    bench.change(bench.one, forbidden_as=(65001,))
    assert set(bench.reasons(bench.one).values()) == {Reason.FORBIDDEN_AS}
    assert bench.one.accepted == 0


def test_the_limit_counts_both_families_and_stale_routes() -> None:
    """And who waits comes in when a restart has cost others their place."""
    bench = Bench(2)
    bench.announce(bench.one, SIX, replace(GOOD, next_hop=IPv4Address("192.0.2.1")))
    bench.announce(bench.one, PREFIXES[:2])
    assert bench.numbers(bench.one) == (3, 2, 1)
    bench.tables.down(bench.one, frozenset({V4}), 10)
    bench.changed()
    assert bench.numbers(bench.one) == (2, 2, 0)
    assert all(path.stale for path in bench.said(bench.one).values())


def test_malformed_routes_are_refused_whatever_the_policy_says() -> None:
    """RFC 7606; also when the policy changes, and they can still be withdrawn."""
    bench = Bench()
    bench.announce(bench.one, PREFIXES[:1])
    bench.tables.refuse(bench.one, V4, pack(PREFIXES[:1]))
    bench.change(bench.one, max_path_length=9)
    assert bench.reasons(bench.one) == {PREFIXES[0]: Reason.MALFORMED}
    assert bench.changed() == {PREFIXES[0]: (None, None)}
    bench.tables.down(bench.one, frozenset(), 0)
    assert bench.numbers(bench.one) == (0, 0, 0)
    assert len(bench.tables.of[V4]) == 0


def test_a_prefix_that_nobody_names_is_forgotten() -> None:
    """Memory follows the tables."""
    bench = Bench()
    bench.announce(bench.one, PREFIXES)
    bench.changed()
    bench.tables.withdraw(bench.one, V4, pack(PREFIXES))
    assert list(bench.changed()) == PREFIXES
    assert len(bench.tables.of[V4]) == 0


def test_paths_that_nobody_has_are_swept_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they were made: by messages that replace each other before anybody looks."""
    monkeypatch.setattr(module, "_SWEEP", 50)
    bench = Bench(None, None)
    bench.announce(bench.two, PREFIXES)
    for med in range(100):
        bench.announce(bench.one, PREFIXES[:1], replace(GOOD, med=med))
    bench.changed()
    assert len(bench.one.all_paths()) == 1
    (last,) = bench.one.all_paths()
    assert [set(choice.paths) for choice in last.choices] == [{last, bench.said(bench.two)[PREFIXES[0]]}]


def test_choices_that_nobody_has_are_swept_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of one neighbour makes as many as there are prefixes, and a withdrawal as many again."""
    monkeypatch.setattr(module, "_SWEEP", 50)
    bench = Bench(None, None, None)
    one, two, three = bench.peers.values()
    for number, prefix in enumerate(PREFIXES):
        bench.announce(two, [prefix], replace(GOOD, med=number))
        bench.announce(three, [prefix], replace(GOOD, med=number))
    for med in range(20):
        bench.announce(one, PREFIXES, replace(GOOD, med=med))
        bench.changed()
        assert len(bench.one.all_paths()) <= 10
        assert sum(len(path.choices) for path in two.all_paths()) <= 80
        bench.tables.withdraw(one, V4, pack(PREFIXES))
        bench.changed()


def test_sets_of_as_numbers_go_with_their_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """When paths are swept up, and when the neighbours are others."""
    monkeypatch.setattr(module, "_SWEEP", 50)
    bench = Bench()
    bench.tables.name(frozenset(range(65001, 65100)))
    for number in range(100):
        path = (Segment(SegmentType.SEQUENCE, (65001, 65002 + number % 90)),)
        bench.announce(bench.one, PREFIXES[:1], replace(GOOD, as_path=path))
    gone = ref(named(bench.tables.ours, (65001, 65050)))
    (kept,) = {path.avoid for path in [bench.said(bench.one)[PREFIXES[0]]]}
    bench.changed()
    assert gone() is None
    assert named(bench.tables.ours, tuple(kept)) is kept
    kept_before = ref(kept)
    del kept
    bench.tables.name(frozenset({65001}))
    assert kept_before() is None
    assert bench.said(bench.one)[PREFIXES[0]].avoid == {65001}


def test_withdrawing_what_was_never_announced_changes_nothing() -> None:
    """Not what others say either."""
    bench = Bench(None, None)
    bench.announce(bench.one, PREFIXES[:1])
    bench.changed()
    bench.tables.withdraw(bench.two, V4, pack(PREFIXES[:2]))
    assert bench.changed() == {}
    assert (bench.numbers(bench.one), bench.numbers(bench.two)) == ((1, 1, 0), (0, 0, 0))


def test_a_second_restart_does_not_keep_what_the_first_left_stale() -> None:
    """RFC 4724 4.2: consecutive restarts."""
    bench = Bench()
    bench.announce(bench.one, PREFIXES[:2])
    bench.tables.down(bench.one, BOTH, 10)
    bench.announce(bench.one, PREFIXES[:1])
    bench.tables.down(bench.one, BOTH, 20)
    assert list(bench.reasons(bench.one)) == PREFIXES[:1]
    assert not bench.tables.expire(bench.one, 19)
    assert bench.tables.expire(bench.one, 20)
    assert bench.reasons(bench.one) == {}
    assert not bench.tables.expire(bench.one, 21)


def test_only_the_kept_families_become_stale() -> None:
    """The others go with the session."""
    bench = Bench()
    bench.announce(bench.one, PREFIXES[:1])
    bench.tables.down(bench.one, frozenset({V6}), 10)
    assert bench.reasons(bench.one) == {}
    assert bench.one.stale_until is None


def test_stale_routes_are_as_good_as_before_until_the_end() -> None:
    """End-of-RIB of one family leaves the other waiting for its own."""
    bench = Bench()
    bench.announce(bench.one, PREFIXES[:2])
    bench.announce(bench.one, SIX)
    before = {prefix: path.octets for prefix, path in bench.said(bench.one).items()}
    bench.tables.down(bench.one, BOTH, 10)
    assert {prefix: path.octets for prefix, path in bench.said(bench.one).items()} == before
    bench.announce(bench.one, PREFIXES[:1])
    bench.tables.end_of_rib(bench.one, V4)
    assert set(bench.said(bench.one)) == {PREFIXES[0], *SIX}
    assert bench.one.stale_until == 10
    bench.tables.end_of_rib(bench.one, V6)
    assert set(bench.said(bench.one)) == {PREFIXES[0]}
    assert bench.one.stale_until is None


def test_stale_routes_follow_a_new_policy_and_stay_stale() -> None:
    """A reload during a restart."""
    bench = Bench()
    bench.announce(bench.one, PREFIXES[:2])
    bench.tables.refuse(bench.one, V4, pack(PREFIXES[2:3]))
    bench.tables.down(bench.one, BOTH, 10)
    bench.change(bench.one, never=(PrefixRule.exact(PREFIXES[0]),))
    assert bench.reasons(bench.one) == {PREFIXES[0]: Reason.BOGON, PREFIXES[1]: None, PREFIXES[2]: Reason.MALFORMED}
    assert all(path.stale for path in bench.said(bench.one).values())
    bench.tables.end_of_rib(bench.one, V4)
    assert bench.numbers(bench.one) == (0, 0, 0)


def test_another_router_id_decides_again() -> None:
    """RFC 4271 9.1.2.2 f, for what was kept through a restart, too."""
    bench = Bench(None, None)
    bench.one.router_id, bench.two.router_id = IPv4Address("1.1.1.1"), IPv4Address("2.2.2.2")
    for peer in (bench.one, bench.two):
        bench.announce(peer, PREFIXES[:2], replace(GOOD, as_path=(Segment(SegmentType.SEQUENCE, (7,)),)))
    bench.changed()
    bench.one.router_id = IPv4Address("3.3.3.3")
    bench.tables.reweigh(bench.one)
    sources = {(b.source, a.source) for b, a in bench.changed().values() if b is not None and a is not None}
    assert sources == {(bench.one, bench.two)}
    assert bench.numbers(bench.one) == (2, 2, 0)


def test_a_new_neighbour_is_known_in_paths_that_were_there_before() -> None:
    """Also in those that nobody has at the moment and somebody will have again."""
    bench = Bench()
    path = (Segment(SegmentType.SEQUENCE, (65001, 65007)),)
    used, unused = replace(GOOD, as_path=path), replace(GOOD, as_path=path, med=1)
    bench.announce(bench.one, PREFIXES[:1], unused)
    bench.announce(bench.one, PREFIXES[:1], used)
    bench.tables.name(frozenset({65001, 65007}))
    bench.announce(bench.one, PREFIXES[1:2], unused)
    assert [path.avoid for path in bench.said(bench.one).values()] == [{65001, 65007}] * 2
    bench.tables.name(frozenset({65001}))
    assert [path.avoid for path in bench.said(bench.one).values()] == [{65001}] * 2


def test_our_own_routes_stand_beside_those_of_others() -> None:
    """And are taken away again."""
    bench = Bench()
    own = Path(None, encode(GOOD, V4), GOOD.next_hop.packed)
    bench.announce(bench.one, PREFIXES[:1])
    bench.changed()
    bench.tables.originate(V4, pack(PREFIXES[:2]), own)
    assert [after and after.source for _, after in bench.changed().values()] == [None, None]
    bench.tables.originate(V4, pack(PREFIXES[:2]), None)
    assert [after and after.source for _, after in bench.changed().values()] == [bench.one, None]
    assert bench.numbers(bench.one) == (1, 1, 0)


@given(st.integers(0, 4), st.lists(st.tuples(st.integers(0, 3), st.sets(st.sampled_from(PREFIXES), min_size=1))))
def test_the_count_is_that_of_the_accepted_routes_and_never_above_the_limit(
    limit: int, messages: list[tuple[int, set[Network]]]
) -> None:
    """And nothing waits while there is room."""
    bench = Bench(limit)
    for kind, prefixes in messages:
        if kind == 0:
            bench.tables.withdraw(bench.one, V4, pack(prefixes))
        elif kind == 1:
            bench.tables.refuse(bench.one, V4, pack(prefixes))
        else:
            bench.announce(bench.one, sorted(prefixes, key=str), replace(GOOD, med=kind))
        assert bench.one.accepted <= limit
        bench.changed()
        received, accepted, waiting = bench.numbers(bench.one)
        malformed = list(bench.reasons(bench.one).values()).count(Reason.MALFORMED)
        assert accepted == min(limit, received - malformed)
        assert waiting == received - malformed - accepted
