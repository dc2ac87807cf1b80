from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.attributes import encode
from routing.bgp.audiences import Audiences, Send, exactly
from routing.bgp.export import Exporter
from routing.bgp.nlri import pack, unpack
from routing.bgp.peers import Peer
from routing.bgp.session import Established, treatment
from routing.bgp.tables import Tables
from routing.bgp.update import Format
from routing.bgp.values import (
    Address,
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Segment,
    SegmentType,
    Speaker,
)
from tests.support.speaking import Told, told

EVERY = (PrefixRule(ip_network("10.0.0.0/8"), 8, 32), PrefixRule(ip_network("::/0"), 0, 128))
ALL = ExportPolicy(EVERY)
PREFIXES = tuple(ip_network(f"10.0.{n}.0/24") for n in range(4))
FIRST = ExportPolicy((PrefixRule.exact(PREFIXES[0]),))
BOTH = frozenset(Family)
US = 65000


def at(number: int) -> IPv4Address:
    """Return the address of the n-th neighbour."""
    return IPv4Address("192.0.2.0") + number


def route(number: int, *beyond: int, **more: Any) -> Attributes:
    """Make what the n-th neighbour says."""
    return Attributes(at(number), as_path=(Segment(SegmentType.SEQUENCE, (US + number, *beyond)),), **more)


class Bench:
    """Tables, and neighbours that are up: AS 65000 + n at 192.0.2.n, with router id 10.9.9.n."""

    def __init__(self, count: int = 0, mode: Mode = Mode.TRANSPARENT) -> None:
        """Bring some up, all alike."""
        self.speaker = Speaker("s", mode, US, at(254), ())
        self.peers: dict[int, Peer] = {}
        self.by_address: dict[Address, Peer] = {}
        self.tables = Tables(self.by_address)
        self.tables.name(frozenset(range(US + 1, US + 200)))
        self.audiences = Audiences(Exporter(self.speaker), self.tables)
        self.up(*range(1, count + 1))

    def up(self, *numbers: int, exports: ExportPolicy = ALL, **format_: Any) -> list[Told]:
        """Bring neighbours up together; return what they are told."""
        some = []
        for number in numbers:
            imports = ImportPolicy(accept=EVERY)
            neighbor = Neighbor(f"n{number}", US + number, at(number), imports=imports, exports=exports)
            peer = self.peers[number] = self.by_address[at(number)] = Peer(at(number), neighbor, self.speaker)
            peer.router_id = IPv4Address("10.9.9.0") + number
            some.append((peer, treatment(neighbor, self._agreed(peer), self.speaker), Format(BOTH, False, **format_)))
        return told(self.audiences.join(some))

    def _agreed(self, peer: Peer) -> Established:
        return Established(peer.router_id, at(254), BOTH)

    def announce(self, number: int, prefixes: Iterable[Network], attributes: Attributes | None = None) -> None:
        """Let a neighbour say something."""
        peer, attributes, prefixes = self.peers[number], attributes or route(number), tuple(prefixes)
        family = Family.of(prefixes[0])
        path = peer.path(encode(attributes, family), self.tables.ours)
        self.tables.announce(peer, family, path, pack(prefixes))

    def withdraw(self, number: int, *prefixes: Network) -> None:
        """Let it take something back."""
        self.tables.withdraw(self.peers[number], Family.of(prefixes[0]), pack(prefixes))

    def sends(self) -> list[Send]:
        """Return what everybody is to be told of the changes."""
        return [send for family, found in self.tables.changes() for send in self.audiences.changes(family, found)]

    def told(self) -> list[Told]:
        """Return it as values."""
        return told(self.sends())

    def moved(self, exports: ExportPolicy, *numbers: int) -> list[Told]:
        """Give neighbours another export policy; return what they are told."""
        some = []
        for number in numbers:
            peer = self.peers[number]
            peer.neighbor = replace(peer.neighbor, exports=exports)
            some.append((peer, treatment(peer.neighbor, self._agreed(peer), self.speaker)))
        return told(self.audiences.move(some))

    def advertised(self) -> dict[int, int]:
        """Return how many routes each was sent."""
        return {number: self.audiences.advertised(peer) for number, peer in self.peers.items()}


def test_messages_do_not_multiply_with_neighbours() -> None:
    """A hundred neighbours with one policy are told by one message."""
    bench = Bench(100)
    bench.announce(1, PREFIXES)
    (send,) = bench.sends()
    assert (len(send.to), send.but) == (100, (bench.peers[1],))
    assert unpack(send.nlri, Family.IPV4) == list(PREFIXES)


def test_neighbours_with_another_policy_get_another_message() -> None:
    """Prefixes are filtered once per policy."""
    bench = Bench(2)
    bench.up(3, exports=FIRST)
    bench.announce(1, PREFIXES)
    assert bench.told() == [Told((at(2),), route(1), PREFIXES), Told((at(3),), route(1), PREFIXES[:1])]


def test_neighbours_written_to_in_another_way_get_another_message() -> None:
    """What is written once can be sent to those alone who read the same."""
    bench = Bench(2)
    bench.up(3, four_octet=False)
    bench.announce(1, PREFIXES)
    assert [(send.format.four_octet, send.to) for send in bench.sends()] == [
        (True, (bench.peers[1], bench.peers[2])),
        (False, (bench.peers[3],)),
    ]


def test_the_counts_follow_what_was_sent() -> None:
    """Announced, taken back, and gone with the session."""
    bench = Bench(3)
    bench.announce(1, PREFIXES)
    bench.told()
    bench.announce(2, PREFIXES[:1])
    bench.told()
    assert bench.advertised() == {1: 1, 2: 4, 3: 4}
    bench.withdraw(1, *PREFIXES[:2])
    assert {one.attributes is None for one in bench.told()} == {True, False}
    assert bench.advertised() == {1: 1, 2: 2, 3: 3}
    bench.audiences.leave(bench.peers[3])
    assert bench.advertised() == {1: 1, 2: 2, 3: 0}


def test_a_neighbour_that_comes_again_starts_from_nothing() -> None:
    """Its table is sent whole, of one family if it asked for one."""
    bench = Bench(2)
    bench.announce(1, PREFIXES)
    bench.told()
    bench.audiences.leave(bench.peers[2])
    assert bench.up(2) == [Told((at(2),), route(1), PREFIXES)]
    assert bench.advertised() == {1: 0, 2: 4}
    assert told(bench.audiences.table(bench.peers[2], Family.IPV4)) == [Told((at(2),), route(1), PREFIXES)]
    assert told(bench.audiences.table(bench.peers[2], Family.IPV6)) == []
    assert bench.advertised() == {1: 0, 2: 4}


def test_newcomers_of_one_audience_are_told_together() -> None:
    """All but those whom a path is withheld from, who are told another if there is one."""
    bench = Bench(2)
    bench.announce(1, PREFIXES[:1], route(1, US + 4))
    bench.announce(2, PREFIXES[:1], route(2, 7, 8))
    bench.announce(2, PREFIXES[1:])
    bench.told()
    found = bench.up(3, 4, 5)
    assert sorted(found, key=lambda one: (one.prefixes, one.addresses)) == [
        Told((at(3), at(5)), route(1, US + 4), PREFIXES[:1]),
        Told((at(4),), route(2, 7, 8), PREFIXES[:1]),
        Told((at(3), at(4), at(5)), route(2), PREFIXES[1:]),
    ]
    assert bench.advertised() == {1: 4, 2: 1, 3: 4, 4: 4, 5: 4}


def test_who_is_named_in_a_path_is_not_sent_it() -> None:
    """RFC 7947 2.3: by its AS number, whichever neighbours have that."""
    bench = Bench(3)
    bench.announce(1, PREFIXES, route(1, US + 3))
    assert bench.told() == [Told((at(2),), route(1, US + 3), PREFIXES)]


def test_a_reflector_does_not_send_a_path_back_to_its_origin() -> None:
    """RFC 4456 8: its router id is in ORIGINATOR_ID."""
    bench = Bench(0, Mode.REFLECTOR)
    for number in (1, 2, 3):
        neighbor = Neighbor(f"n{number}", US, at(number), imports=ImportPolicy(accept=EVERY), exports=ALL)
        peer = bench.peers[number] = bench.by_address[at(number)] = Peer(at(number), neighbor, bench.speaker)
        peer.router_id = IPv4Address("10.9.9.0") + number
        how = treatment(neighbor, Established(peer.router_id, at(254), BOTH), bench.speaker)
        assert list(bench.audiences.join([(peer, how, Format(BOTH, True))])) == []
    bench.announce(1, PREFIXES, Attributes(at(1), originator_id=bench.peers[2].router_id))
    (one,) = bench.told()
    assert one.addresses == (at(3),)


@pytest.mark.parametrize(
    ("old", "new"), [(ALL, FIRST), (FIRST, ALL), (ALL, ExportPolicy()), (replace(ALL, never=FIRST.accept), FIRST)]
)
def test_a_new_export_policy_sends_the_difference(old: ExportPolicy, new: ExportPolicy) -> None:
    """To all who move alike at once; what stays is not told again."""
    bench = Bench(1)
    bench.up(2, 3, exports=old)
    bench.announce(1, PREFIXES)
    had = {prefix for one in bench.told() for prefix in one.prefixes}
    found = bench.moved(new, 2, 3)
    lost = {prefix for one in found if one.attributes is None for prefix in one.prefixes}
    fresh = {prefix for one in found if one.attributes is not None for prefix in one.prefixes}
    wanted = {rule.network for rule in new.accept} & set(PREFIXES) if new is not ALL else set(PREFIXES)
    assert {one.addresses for one in found} == {(at(2), at(3))}
    assert (lost, fresh) == (had - wanted, wanted - had)
    assert bench.advertised() == {1: 0, 2: len(wanted), 3: len(wanted)}
    bench.withdraw(1, PREFIXES[0])
    assert {one.addresses for one in bench.told()} == ({(at(2), at(3))} if PREFIXES[0] in wanted else set())


def test_neighbours_may_change_places() -> None:
    """The audience that the last of one left is there for those who come from the other."""
    bench = Bench(1)
    bench.up(2)
    bench.up(3, exports=FIRST)
    bench.audiences.leave(bench.peers[1])
    for number, policy in ((2, FIRST), (3, ALL)):
        bench.peers[number].neighbor = replace(bench.peers[number].neighbor, exports=policy)
    some = [
        (peer, treatment(peer.neighbor, Established(peer.router_id, at(254), BOTH), bench.speaker))
        for peer in (bench.peers[2], bench.peers[3])
    ]
    assert list(bench.audiences.move(some)) == []
    bench.announce(1, PREFIXES)
    assert sorted(bench.told()) == [
        Told((at(2),), route(1), PREFIXES[:1]),
        Told((at(3),), route(1), PREFIXES),
    ]
    assert bench.advertised() == {1: 0, 2: 1, 3: 4}


def test_who_moves_nowhere_is_told_nothing() -> None:
    """A policy that lets out the same is the same."""
    bench = Bench(2)
    bench.announce(1, PREFIXES)
    bench.told()
    assert bench.moved(ExportPolicy(tuple(EVERY)), 2) == []
    assert bench.advertised() == {1: 0, 2: 4}


def test_one_that_is_behind_is_told_the_net_effect_when_it_has_caught_up() -> None:
    """What changed and changed back is nothing; what others are told meanwhile is as ever."""
    bench = Bench(3)
    bench.announce(1, PREFIXES[:3])
    bench.told()
    bench.audiences.fall_behind(bench.peers[3])
    bench.withdraw(1, PREFIXES[0])
    assert bench.told() == [Told((at(2),), None, PREFIXES[:1])]
    bench.announce(1, PREFIXES[3:])
    bench.withdraw(1, PREFIXES[1])
    bench.told()
    bench.announce(1, PREFIXES[1:2])
    assert {address for one in bench.told() for address in one.addresses} == {at(2)}
    assert bench.advertised() == {1: 0, 2: 3, 3: 3}
    assert bench.audiences.is_behind(bench.peers[3])
    found = told(bench.audiences.catch_up(bench.peers[3]))
    assert sorted(found, key=lambda one: one.prefixes) == [
        Told((at(3),), None, PREFIXES[:1]),
        Told((at(3),), route(1), PREFIXES[3:]),
    ]
    assert not bench.audiences.is_behind(bench.peers[3])
    assert bench.advertised() == {1: 0, 2: 3, 3: 3}
    assert list(bench.audiences.catch_up(bench.peers[3])) == []
    bench.withdraw(1, PREFIXES[3])
    assert bench.told() == [Told((at(2), at(3)), None, PREFIXES[3:])]


def test_the_last_of_an_audience_may_fall_behind() -> None:
    """It finds another one of the same kind when it has caught up."""
    bench = Bench(1)
    bench.up(2, exports=FIRST)
    bench.announce(1, PREFIXES)
    bench.told()
    bench.audiences.fall_behind(bench.peers[2])
    bench.audiences.fall_behind(bench.peers[2])
    bench.up(3, exports=FIRST)
    bench.withdraw(1, PREFIXES[0])
    assert bench.told() == [Told((at(3),), None, PREFIXES[:1])]
    assert bench.advertised() == {1: 0, 2: 1, 3: 0}
    assert told(bench.audiences.catch_up(bench.peers[2])) == [Told((at(2),), None, PREFIXES[:1])]
    bench.announce(1, PREFIXES[:1])
    assert bench.told() == [Told((at(3), at(2)), route(1), PREFIXES[:1])]
    assert bench.advertised() == {1: 0, 2: 1, 3: 1}


@pytest.mark.parametrize("behind", [False, True])
def test_one_that_leaves_is_told_nothing_more(behind: bool) -> None:
    """Whether it was behind or not."""
    bench = Bench(3)
    if behind:
        bench.audiences.fall_behind(bench.peers[3])
    bench.audiences.leave(bench.peers[3])
    bench.announce(1, PREFIXES)
    assert bench.told() == [Told((at(2),), route(1), PREFIXES)]
    assert list(bench.audiences.catch_up(bench.peers[3])) == []
    assert bench.audiences.advertised(bench.peers[3]) == 0


def test_a_family_that_was_not_agreed_on_is_not_told() -> None:
    """Neither at once nor later."""
    bench = Bench(2)
    peer = bench.peers[2]
    bench.audiences.leave(peer)
    only = Established(peer.router_id, at(254), frozenset({Family.IPV4}))
    how = treatment(peer.neighbor, only, bench.speaker)
    list(bench.audiences.join([(peer, how, Format(only.families, False))]))
    six = replace(route(1), next_hop=ip_address("2001:db8::1"))
    bench.announce(1, [ip_network("2001:db8:1::/48")], six)
    assert bench.told() == []
    bench.audiences.fall_behind(peer)
    bench.announce(1, [ip_network("2001:db8:2::/48")], six)
    assert bench.told() == []
    assert list(bench.audiences.catch_up(peer)) == []


@pytest.mark.parametrize("network", ["10.0.0.0", "2001:db8::"])
@given(some=st.sets(st.integers(0, 4)))
def test_the_filter_of_some_prefixes_passes_exactly_these(network: str, some: set[int]) -> None:
    """Not what is within them."""
    every = [ip_network(f"{network}/{28 + length}", strict=False) for length in range(5)]
    chosen = [every[number] for number in sorted(some)]
    family = Family.of(every[0])
    passed, others = exactly(pack(chosen), family).split(pack(every))
    assert unpack(passed, family) == chosen
    assert unpack(others, family) == [each for each in every if each not in chosen]
