"""The route server by hand; on random walks in `test_routeserver_walks`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest

from appliance.model.errors import InternalError
from routing.bgp.intake import Intake
from routing.bgp.nlri import unpack
from routing.bgp.routeserver import Bests, Converged, EndOfRib, Output, RouteServer, taught_by
from routing.bgp.session import Established
from routing.bgp.update import Format
from routing.bgp.values import (
    Address,
    Announcement,
    Attributes,
    ExportPolicy,
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
from tests.support.speaking import Told, announcement, end, told, withdrawal

US = 65000
LOCAL = ip_address("192.0.2.254")
ANY = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32), PrefixRule(ip_network("::/0"), 0, 128))
OPEN = ImportPolicy(accept=ANY)
ALL = ExportPolicy(accept=ANY)
P1, P2, P3 = (ip_network(f"10.0.{n}.0/24") for n in (1, 2, 3))
SIX = ip_network("2001:db8:1::/48")
BOTH = frozenset(Family)


def path(*asns: int) -> tuple[Segment, ...]:
    """Make an AS_PATH of one sequence."""
    return (Segment(SegmentType.SEQUENCE, asns),)


def at(number: int) -> Address:
    """Return the address of the n-th neighbour."""
    return IPv4Address("192.0.2.0") + number


def neighbor(number: int, **more: Any) -> Neighbor:
    """Make the n-th neighbour: AS 65000 + n, everything allowed."""
    given = Neighbor(f"n{number}", US + number, at(number), imports=OPEN, exports=ALL, families=tuple(Family))
    return replace(given, **more)


def session(number: int, **more: Any) -> Established:
    """Make what the n-th neighbour's session agreed on."""
    return replace(Established(IPv4Address("10.9.9.0") + number, LOCAL, BOTH), **more)


def speaker(*neighbors: Neighbor, mode: Mode = Mode.TRANSPARENT, **more: Any) -> Speaker:
    """Make a speaker."""
    return Speaker("s", mode, US, IPv4Address("192.0.2.254"), (LOCAL,), neighbors=neighbors, **more)


def route(number: int, *beyond: int, **more: Any) -> Attributes:
    """Make attributes as the n-th neighbour sends them."""
    return Attributes(next_hop=at(number), as_path=path(US + number, *beyond), **more)


class Bench:
    """A server, its sessions, and what is said on them."""

    def __init__(self, speaker: Speaker, awaited: Iterable[Address] = ()) -> None:
        """Start without sessions."""
        self.server = RouteServer(speaker, 0, awaited)
        self.server.watched = True
        self.intakes: dict[int, Intake] = {}

    def establish(self, number: int, agreed: Established | None = None, now: float = 0) -> bool:
        """Establish a session; tell whether the neighbour is ours."""
        agreed = agreed or session(number)
        format_ = Format(agreed.families, internal=False)
        if not self.server.session_up(at(number), agreed, format_, now):
            return False
        self.intakes[number] = Intake(self.server, self.server.peers[at(number)], format_)
        return True

    def up(self, *numbers: int) -> None:
        """Establish sessions and forget what they were told."""
        for number in numbers:
            assert self.establish(number)
        self.server.take()

    def announce(self, number: int, attributes: Attributes, *prefixes: Network) -> None:
        """Let a neighbour say something."""
        self.intakes[number].take(announcement(attributes, prefixes), 0)

    def withdraw(self, number: int, *prefixes: Network) -> None:
        """Let a neighbour take something back."""
        self.intakes[number].take(withdrawal(prefixes), 0)

    def end(self, number: int, family: Family, now: float) -> None:
        """Let a neighbour say End-of-RIB."""
        self.intakes[number].take(end(family), now)

    def configure(self, speaker: Speaker, now: float = 0) -> None:
        """Become another speaker."""
        list(self.server.configure(speaker, now))

    def told(self) -> list[Told]:
        """Return what neighbours are told."""
        return told(self.server.take())

    def advertised(self) -> dict[Address, int]:
        """Return how many routes each neighbour was sent."""
        return {address: self.server.audiences.advertised(peer) for address, peer in self.server.peers.items()}


def bests(outputs: Iterable[Output]) -> list[tuple[Network, Attributes | None, str]]:
    """Keep the news of best paths."""
    return [
        (prefix, *((None, "") if news.path is None else (news.path.attributes, taught_by(news.path))))
        for news in outputs
        if isinstance(news, Bests)
        for prefix in unpack(news.nlri, news.family)
    ]


def others(outputs: Iterable[Output]) -> list[Output]:
    """Leave out what goes to neighbours."""
    return [output for output in outputs if not isinstance(output, list)]


def test_a_route_goes_to_all_others_in_one_message() -> None:
    """Sharing is the point: one decision, one message, many neighbours, attributes untouched."""
    bench = Bench(speaker(*(neighbor(n) for n in range(1, 5))))
    bench.up(1, 2, 3, 4)
    attributes = route(1, 7, med=3, communities=((1, 2),))
    bench.announce(1, attributes, P1, P2)
    outputs = bench.server.take()
    assert told(outputs) == [Told((at(2), at(3), at(4)), attributes, (P1, P2))]
    assert bests(outputs) == [(P1, attributes, "n1"), (P2, attributes, "n1")]
    assert bests(bench.server.bests()) == bests(outputs)


def test_nobody_watching_nothing_is_told_of_best_paths() -> None:
    """It would be most of the work."""
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    bench.server.watched = False
    bench.up(1, 2)
    bench.announce(1, route(1), P1)
    assert others(bench.server.take()) == []
    assert bests(bench.server.bests()) == [(P1, route(1), "n1")]


def test_the_second_best_goes_to_whom_the_best_is_withheld_from() -> None:
    """RFC 7947 2.3.1: no path is hidden, neither from its source nor from those in its AS_PATH."""
    bench = Bench(speaker(*(neighbor(n) for n in range(1, 5))))
    bench.up(1, 2, 3, 4)
    bench.announce(1, route(1, US + 3), P1)
    bench.announce(2, route(2, 7, 8), P1)
    got = {address: one.attributes for one in bench.told() for address in one.addresses}
    assert got == {at(1): route(2, 7, 8), at(2): route(1, US + 3), at(3): route(2, 7, 8), at(4): route(1, US + 3)}


def test_what_changes_and_changes_back_is_not_told() -> None:
    """Consequences are those of the burst, not of each message."""
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    bench.up(1, 2)
    bench.announce(1, route(1), P1)
    bench.server.take()
    bench.withdraw(1, P1)
    bench.announce(1, route(1), P1)
    bench.announce(1, route(1), P2)
    bench.withdraw(1, P2)
    assert bench.server.take() == []


def test_refused_routes_are_kept_with_their_reason_and_go_nowhere() -> None:
    """The operator sees them; nobody else does."""
    strict = neighbor(1, imports=replace(OPEN, accept=(PrefixRule.exact(P1),)))
    bench = Bench(speaker(strict, neighbor(2)))
    bench.up(1, 2)
    bench.announce(1, route(1), P2)
    assert bench.server.take() == []
    ((family, kept, nlri),) = bench.server.tables.said(bench.server.peers[at(1)])
    assert (family, kept.reason, unpack(nlri, family)) == (Family.IPV4, Reason.NOT_OWNED, [P2])


def test_a_new_policy_touches_only_its_neighbour() -> None:
    """What it refuses is withdrawn from others, what it now accepts appears; the rest of the table stays unsaid."""
    first, second = neighbor(1), neighbor(2)
    bench = Bench(speaker(first, second))
    bench.up(1, 2)
    bench.announce(1, route(1), P1, P2)
    bench.announce(2, route(2), P3)
    bench.server.take()
    narrow = replace(first, imports=replace(OPEN, accept=(PrefixRule.exact(P2),)))
    bench.configure(speaker(narrow, second))
    assert bench.told() == [Told((at(2),), None, (P1,))]
    bench.configure(speaker(first, second))
    assert bench.told() == [Told((at(2),), route(1), (P1,))]


def test_a_new_export_policy_sends_the_difference() -> None:
    """Withdraw what may not go any more, announce what may go now."""
    first = neighbor(1)
    bench = Bench(speaker(first, neighbor(2, exports=ExportPolicy((PrefixRule.exact(P1),)))))
    bench.up(1, 2)
    bench.announce(1, route(1), P1, P2)
    assert bench.told() == [Told((at(2),), route(1), (P1,))]
    bench.configure(speaker(first, neighbor(2, exports=ExportPolicy((PrefixRule.exact(P2),)))))
    assert bench.told() == [Told((at(2),), None, (P1,)), Told((at(2),), route(1), (P2,))]
    assert bench.advertised() == {at(1): 0, at(2): 1}


def test_the_same_speaker_again_is_no_work() -> None:
    """Though its neighbours are other objects."""
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    bench.up(1, 2)
    bench.announce(1, route(1), P1)
    bench.server.take()
    assert list(bench.server.configure(speaker(neighbor(1), neighbor(2)), 0)) == []
    assert bench.server.take() == []


def test_anything_may_happen_between_the_steps_of_a_change() -> None:
    """Each neighbour has its step; what is said meanwhile ends where it would have ended."""
    narrow = ExportPolicy((PrefixRule.exact(P1),))
    bench = Bench(speaker(*(neighbor(n) for n in (1, 2, 3))))
    bench.up(1, 2, 3)
    bench.announce(1, route(1), P1, P2)
    bench.server.take()
    steps = bench.server.configure(speaker(*(neighbor(n, exports=narrow) for n in (1, 2, 3))), 0)
    next(steps)
    bench.announce(2, route(2), P3)
    assert {address for one in bench.told() for address in one.addresses} == {at(1), at(3)}
    bench.server.session_down(at(3), 1, graceful=False)
    bench.establish(3, now=1)
    assert bench.told() == [Told((at(3),), route(1), (P1,))]
    assert len(list(steps)) == 1  # of the second; the third has come as what it is now
    assert bench.told() == [Told((at(2),), None, (P2,)), Told((at(1),), None, (P3,))]
    assert bench.advertised() == {at(1): 0, at(2): 1, at(3): 1}


def test_a_change_of_which_another_got_in_the_way_is_not_lost() -> None:
    """Who followed the first of two is told by the second, though there is nothing more to follow."""
    narrow = neighbor(2, exports=ExportPolicy((PrefixRule.exact(P1),)))
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    bench.up(1, 2)
    bench.announce(1, route(1), P1, P2)
    bench.server.take()
    steps = bench.server.configure(speaker(neighbor(1), narrow), 0)
    next(steps)
    bench.configure(speaker(neighbor(1), narrow))
    assert bench.told() == [Told((at(2),), None, (P2,))]


def test_a_neighbour_that_comes_up_during_a_change_is_of_the_new_speaker() -> None:
    """Even if it is another one than before."""
    kept = session(1, restart_time=90, kept=BOTH)
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    bench.up(2)
    assert bench.establish(1, kept)
    bench.announce(1, route(1), P1)
    bench.server.session_down(at(1), 1, graceful=True)
    bench.server.take()
    steps = bench.server.configure(speaker(neighbor(1, asn=US + 9), neighbor(2, passive=True)), 2)
    next(steps)
    assert bench.establish(1, session(1), 3)
    list(steps)
    assert bench.told() == [Told((at(2),), None, (P1,))]
    assert bench.server.established() == (at(2), at(1))
    assert bench.server.peers[at(1)].neighbor.asn == US + 9


def test_a_path_does_not_go_to_a_neighbour_in_it_that_is_about_to_be_removed() -> None:
    """Nor is it withdrawn from it."""
    bench = Bench(speaker(neighbor(1), neighbor(2), neighbor(3)))
    bench.up(1, 2, 3)
    bench.announce(1, route(1, US + 3), P1)
    bench.server.take()
    steps = bench.server.configure(speaker(neighbor(1, passive=True), neighbor(2)), 0)
    next(steps)
    bench.withdraw(1, P1)
    bench.announce(1, route(1, US + 3), P2)
    assert {address for one in bench.told() for address in one.addresses} == {at(2)}
    list(steps)
    assert bench.server.tables.ours == {US + 1, US + 2}


def test_a_removed_neighbour_takes_its_routes_along() -> None:
    """Even those that were stale."""
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    assert bench.establish(1, session(1, restart_time=90, kept=BOTH))
    bench.up(2)
    bench.announce(1, route(1), P1)
    bench.server.session_down(at(1), 1, graceful=True)
    bench.server.take()
    bench.configure(speaker(neighbor(2)), 2)
    assert bench.told() == [Told((at(2),), None, (P1,))]
    assert not bench.establish(1, now=3)


def test_a_removed_neighbour_is_not_listened_to() -> None:
    """Its session may not know yet."""
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    bench.up(1, 2)
    bench.configure(speaker(neighbor(2)))
    bench.announce(1, route(1), P1)
    bench.end(1, Family.IPV4, 0)
    assert bench.server.take() == []
    assert len(bench.server.tables.of[Family.IPV4]) == 0


def test_own_routes_are_announced_changed_and_withdrawn() -> None:
    """With the next hop of each session unless one is given, and our AS in front for eBGP."""
    bench = Bench(speaker(neighbor(1)))
    bench.up(1)
    bench.configure(speaker(neighbor(1), announcements=(Announcement(P1), Announcement(P2, at(77)))))
    outputs = bench.server.take()
    assert [
        (one.attributes.next_hop, one.attributes.as_path, one.prefixes) for one in told(outputs) if one.attributes
    ] == [
        (LOCAL, path(US), (P1,)),
        (at(77), path(US), (P2,)),
    ]
    assert [(prefix, name) for prefix, _, name in bests(outputs)] == [(P1, "local"), (P2, "local")]
    bench.configure(speaker(neighbor(1), announcements=(Announcement(P1, med=5),)))
    assert sorted((one.prefixes, one.attributes.med if one.attributes else None) for one in bench.told()) == [
        ((P1,), 5),
        ((P2,), None),
    ]


def test_a_late_neighbour_is_told_everything_and_then_end_of_rib() -> None:
    """Late joiners get the table; a refresh repeats one family of it, once."""
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    bench.up(1)
    bench.announce(1, route(1), P1)
    six = Attributes(next_hop=IPv6Address("2001:db8::1"), as_path=path(US + 1))
    bench.announce(1, six, SIX)
    bench.server.take()
    bench.establish(2)
    bench.server.refresh(at(2), Family.IPV4)
    outputs = bench.server.take()
    assert [(one.attributes, one.prefixes) for one in told(outputs)] == [(route(1), (P1,)), (six, (SIX,))]
    assert outputs[-1] == EndOfRib(at(2), BOTH)
    for _ in range(3):
        bench.server.refresh(at(2), Family.IPV4)
    outputs = bench.server.take()
    assert told(outputs) == [Told((at(2),), route(1), (P1,))]
    assert others(outputs) == []


def test_routes_of_a_restarting_neighbour_stay_until_end_of_rib() -> None:
    """RFC 4724 4.2, told with the words of the session."""
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    kept = session(1, restart_time=90, kept=BOTH)
    bench.establish(1, kept)
    bench.up(2)
    bench.announce(1, route(1), P1, P2)
    bench.server.take()
    bench.server.session_down(at(1), 10, graceful=True)
    assert bench.server.take() == []
    assert bench.server.deadline() == 100
    bench.establish(1, replace(kept, preserved=BOTH), 20)
    bench.announce(1, route(1), P1)
    assert bench.told() == []
    bench.end(1, Family.IPV4, 21)
    assert bench.told() == [Told((at(2),), None, (P2,))]
    assert bench.server.deadline() is None


@pytest.mark.parametrize("how", ["notification", "too late", "not preserved", "not negotiated"])
def test_routes_of_a_neighbour_that_is_gone_go(how: str) -> None:
    """The ways in which a restart is none."""
    bench = Bench(speaker(neighbor(1), neighbor(2)))
    agreed = session(1) if how == "not negotiated" else session(1, restart_time=90, kept=BOTH)
    bench.establish(1, agreed)
    bench.up(2)
    bench.announce(1, route(1), P1)
    bench.server.take()
    bench.server.session_down(at(1), 10, graceful=how != "notification")
    if how == "too late":
        bench.server.tick(99)
        assert bench.server.take() == []
        bench.server.tick(100)
        assert list(bench.server.peers) == [at(2)]
    if how == "not preserved":
        bench.establish(1, agreed, 20)
    assert bench.told() == [Told((at(2),), None, (P1,))]


def test_after_a_restart_end_of_rib_waits_for_those_who_were_there() -> None:
    """RFC 4724 4.1: nobody drops our stale routes before we know the new ones."""
    bench = Bench(speaker(neighbor(1), neighbor(2), neighbor(3)), awaited=(at(1), at(2)))
    bench.establish(1, session(1, restart_time=90), 1)
    bench.end(1, Family.IPV4, 1)
    bench.end(1, Family.IPV6, 1)
    bench.establish(2, now=2)
    assert others(bench.server.take()) == []
    bench.server.tick(bench.server.deadline() or 0)
    assert bench.server.take() == [Converged(), EndOfRib(at(1), BOTH), EndOfRib(at(2), BOTH)]


def test_after_a_restart_nobody_is_waited_for_for_ever() -> None:
    """A neighbour that stays away holds up the others for a limited time."""
    bench = Bench(speaker(neighbor(1)), awaited=(at(1),))
    bench.server.tick(59)
    assert bench.server.take() == []
    bench.server.tick(60)
    assert bench.server.take() == [Converged()]


def test_after_a_restart_nobody_is_waited_for_who_is_no_neighbour_any_more() -> None:
    """The change that removes it is enough."""
    bench = Bench(speaker(neighbor(1)), awaited=(at(1),))
    bench.configure(speaker(), 1)
    assert bench.server.take() == [Converged()]


def test_one_that_is_behind_is_told_everything_later_and_then_end_of_rib() -> None:
    """Nothing of it gets lost: changes, End-of-RIB, a new export policy, what it asked for."""
    bench = Bench(speaker(neighbor(1), neighbor(2), neighbor(3)), awaited=(at(3),))
    bench.up(1, 2)
    bench.announce(1, route(1), P1)
    bench.server.take()
    bench.server.fall_behind(at(2))
    bench.announce(1, route(1), P2, P3)
    bench.withdraw(1, P1)
    bench.configure(speaker(neighbor(1), neighbor(2, exports=ExportPolicy((PrefixRule.exact(P2),)))))
    bench.server.refresh(at(2), Family.IPV4)
    outputs = bench.server.take()
    assert told(outputs) == []
    assert [output for output in outputs if not isinstance(output, Bests)] == [Converged(), EndOfRib(at(1), BOTH)]
    assert bench.advertised() == {at(1): 0, at(2): 1}
    bench.server.catch_up(at(2))
    outputs = bench.server.take()
    assert others(outputs) == [EndOfRib(at(2), BOTH)]
    known: dict[Network, Attributes | None] = {P1: route(1)}
    for one in told(outputs):
        known |= dict.fromkeys(one.prefixes, one.attributes)
    assert known == {P1: None, P2: route(1), P3: None}
    assert told(outputs)[-1] == Told((at(2),), route(1), (P2,))
    assert bench.advertised() == {at(1): 0, at(2): 1}


def test_one_that_is_behind_and_goes_is_owed_nothing() -> None:
    """It starts from nothing when it comes again."""
    bench = Bench(speaker(neighbor(1), neighbor(2), neighbor(3)), awaited=(at(3),))
    bench.up(1, 2)
    bench.server.fall_behind(at(2))
    bench.announce(1, route(1), P1)
    bench.server.refresh(at(2), Family.IPV4)
    bench.server.tick(100)
    bench.server.session_down(at(2), 100, graceful=False)
    bench.server.catch_up(at(2))
    assert told(bench.server.take()) == []
    bench.establish(2, now=101)
    outputs = bench.server.take()
    assert told(outputs) == [Told((at(2),), route(1), (P1,))]
    assert others(outputs) == [EndOfRib(at(2), BOTH)]


def test_a_range_gives_every_address_a_session_of_its_own() -> None:
    """Dynamic neighbours share policy and name, not routes; the longest range that matches counts."""
    wide = Neighbor("wide", US + 1, range=ip_network("192.0.2.0/24"), imports=OPEN, exports=ALL)
    tight = Neighbor("tight", US + 2, range=ip_network("192.0.2.8/29"), imports=OPEN, exports=ALL)
    bench = Bench(speaker(wide, tight))
    bench.up(1, 2, 9)
    assert [peer.neighbor.name for peer in bench.server.peers.values()] == ["wide", "wide", "tight"]
    bench.announce(1, Attributes(next_hop=at(1), as_path=path(7)), P1)
    (one,) = bench.told()
    assert one.addresses == (at(2), at(9))
    bench.server.session_down(at(2), 1, graceful=False)
    assert list(bench.server.peers) == [at(1), at(9)]
    assert bench.server.session(at(2)) is None
    assert bench.server.session(at(9)) == session(9)


def test_a_running_speaker_cannot_become_another() -> None:
    """The engine starts another process for that."""
    bench = Bench(speaker())
    with pytest.raises(InternalError):
        bench.configure(replace(speaker(), asn=1))
