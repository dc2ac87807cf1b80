from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.errors import InternalError
from routing.bgp.policy import judge, may_export
from routing.bgp.rib import imported
from routing.bgp.server import Converged, EndOfRib, Output, RouteServer
from routing.bgp.session import Established
from routing.bgp.spread import Send
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
from routing.engines.engine import Best

US = 65000
LOCAL = ip_address("192.0.2.254")
ANY = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32), PrefixRule(ip_network("::/0"), 0, 128))
OPEN = ImportPolicy(accept=ANY)
ALL = ExportPolicy(accept=ANY)
P1, P2, P3 = (ip_network(f"10.0.{n}.0/24") for n in (1, 2, 3))
BOTH = frozenset(Family)


def path(*asns: int) -> tuple[Segment, ...]:
    """Make an AS_PATH of one sequence."""
    return (Segment(SegmentType.SEQUENCE, asns),)


def at(number: int) -> Address:
    """Return the address of the n-th neighbour."""
    return IPv4Address("192.0.2.0") + number


def neighbor(number: int, **more: Any) -> Neighbor:
    """Make the n-th neighbour: AS 65000 + n, everything allowed."""
    given_ = Neighbor(f"n{number}", US + number, at(number), imports=OPEN, exports=ALL, families=tuple(Family))
    return replace(given_, **more)


def session(number: int, **more: Any) -> Established:
    """Make what the n-th neighbour's session agreed on."""
    return replace(Established(IPv4Address("10.9.9.0") + number, LOCAL, BOTH), **more)


def speaker(*neighbors: Neighbor, mode: Mode = Mode.TRANSPARENT, **more: Any) -> Speaker:
    """Make a speaker."""
    return Speaker("s", mode, US, IPv4Address("192.0.2.254"), (LOCAL,), neighbors=neighbors, **more)


def route(number: int, *beyond: int, **more: Any) -> Attributes:
    """Make attributes as the n-th neighbour sends them."""
    return Attributes(next_hop=at(number), as_path=path(US + number, *beyond), **more)


def sends(outputs: Iterable[Output]) -> list[Send]:
    """Keep what goes to neighbours."""
    return [output for output in outputs if isinstance(output, Send)]


def bests(outputs: Iterable[Output]) -> list[Best]:
    """Keep the news of best paths."""
    return [output for output in outputs if isinstance(output, Best)]


def up(server: RouteServer, *numbers: int) -> None:
    """Establish sessions and forget what they were told."""
    for number in numbers:
        assert server.session_up(at(number), session(number), 0)
    server.take()


def test_a_route_goes_to_all_others_in_one_message() -> None:
    """Sharing is the point: one decision, one message, many neighbours, attributes untouched."""
    server = RouteServer(speaker(*(neighbor(n) for n in range(1, 5))), 0)
    up(server, 1, 2, 3, 4)
    attributes = route(1, 7, med=3, communities=((1, 2),))
    server.announce(at(1), attributes, [P1, P2])
    outputs = server.take()
    assert sends(outputs) == [Send((at(2), at(3), at(4)), attributes, (P1, P2))]
    assert bests(outputs) == [Best(P1, attributes, "n1"), Best(P2, attributes, "n1")]


def test_the_second_best_goes_to_whom_the_best_is_withheld_from() -> None:
    """RFC 7947 2.3.1: no path is hidden, neither from its source nor from those in its AS_PATH."""
    server = RouteServer(speaker(*(neighbor(n) for n in range(1, 5))), 0)
    up(server, 1, 2, 3, 4)
    server.announce(at(1), route(1, US + 3), [P1])
    server.announce(at(2), route(2, 7, 8), [P1])
    got = {address: send.attributes for send in sends(server.take()) for address in send.addresses}
    assert got == {at(1): route(2, 7, 8), at(2): route(1, US + 3), at(3): route(2, 7, 8), at(4): route(1, US + 3)}


def test_what_changes_and_changes_back_is_not_told() -> None:
    """Consequences are those of the burst, not of each message."""
    server = RouteServer(speaker(neighbor(1), neighbor(2)), 0)
    up(server, 1, 2)
    server.announce(at(1), route(1), [P1])
    server.take()
    server.withdraw(at(1), [P1])
    server.announce(at(1), route(1), [P1])
    server.announce(at(1), route(1), [P2])
    server.withdraw(at(1), [P2])
    assert server.take() == []


def test_refused_routes_are_kept_with_their_reason_and_go_nowhere() -> None:
    """The operator sees them; nobody else does."""
    strict = neighbor(1, imports=replace(OPEN, accept=(PrefixRule.exact(P1),)))
    server = RouteServer(speaker(strict, neighbor(2)), 0)
    up(server, 1, 2)
    server.announce(at(1), route(1), [P2])
    assert server.take() == []
    (kept,) = server.peers[at(1)].routes.values()
    assert kept.reason is Reason.NOT_OWNED


def test_a_new_policy_touches_only_its_neighbour() -> None:
    """What it refuses is withdrawn from others, what it now accepts appears; the rest of the table stays unsaid."""
    first, second = neighbor(1), neighbor(2)
    server = RouteServer(speaker(first, second), 0)
    up(server, 1, 2)
    server.announce(at(1), route(1), [P1, P2])
    server.announce(at(2), route(2), [P3])
    server.take()
    narrow = replace(first, imports=replace(OPEN, accept=(PrefixRule.exact(P2),)))
    server.configure(speaker(narrow, second), 0)
    assert sends(server.take()) == [Send((at(2),), None, (P1,))]
    server.configure(speaker(first, second), 0)
    assert sends(server.take()) == [Send((at(2),), route(1), (P1,))]


def test_a_new_export_policy_sends_the_difference() -> None:
    """Withdraw what may not go any more, announce what may go now."""
    first = neighbor(1)
    server = RouteServer(speaker(first, neighbor(2, exports=ExportPolicy((PrefixRule.exact(P1),)))), 0)
    up(server, 1, 2)
    server.announce(at(1), route(1), [P1, P2])
    assert sends(server.take()) == [Send((at(2),), route(1), (P1,))]
    server.configure(speaker(first, neighbor(2, exports=ExportPolicy((PrefixRule.exact(P2),)))), 0)
    assert sends(server.take()) == [Send((at(2),), None, (P1,)), Send((at(2),), route(1), (P2,))]
    assert server.spread.advertised == {server.peers[at(1)]: 0, server.peers[at(2)]: 1}


def test_a_removed_neighbour_takes_its_routes_along() -> None:
    """Even those that were stale."""
    server = RouteServer(speaker(neighbor(1), neighbor(2)), 0)
    assert server.session_up(at(1), session(1, restart_time=90, kept=BOTH), 0)
    up(server, 2)
    server.announce(at(1), route(1), [P1])
    server.session_down(at(1), 1, graceful=True)
    server.take()
    server.configure(speaker(neighbor(2)), 2)
    assert sends(server.take()) == [Send((at(2),), None, (P1,))]
    assert not server.session_up(at(1), session(1), 3)


def test_own_routes_are_announced_changed_and_withdrawn() -> None:
    """With the next hop of each session unless one is given, and our AS in front for eBGP."""
    server = RouteServer(speaker(neighbor(1)), 0)
    up(server, 1)
    server.configure(speaker(neighbor(1), announcements=(Announcement(P1), Announcement(P2, at(77)))), 0)
    outputs = server.take()
    assert [(s.attributes.next_hop, s.attributes.as_path, s.prefixes) for s in sends(outputs) if s.attributes] == [
        (LOCAL, path(US), (P1,)),
        (at(77), path(US), (P2,)),
    ]
    assert [(best.prefix, best.neighbor) for best in bests(outputs)] == [(P1, "local"), (P2, "local")]
    server.configure(speaker(neighbor(1), announcements=(Announcement(P1, med=5),)), 0)
    assert [(s.attributes.med if s.attributes else None, s.prefixes) for s in sends(server.take())] == [
        (None, (P2,)),
        (5, (P1,)),
    ]


def test_a_late_neighbour_is_told_everything_and_then_end_of_rib() -> None:
    """Late joiners get the table; a refresh repeats one family of it."""
    server = RouteServer(speaker(neighbor(1), neighbor(2)), 0)
    up(server, 1)
    server.announce(at(1), route(1), [P1])
    six = Attributes(next_hop=IPv6Address("2001:db8::1"), as_path=path(US + 1))
    server.announce(at(1), six, [ip_network("2001:db8:1::/48")])
    server.take()
    server.session_up(at(2), session(2), 0)
    outputs = server.take()
    assert {send.attributes for send in sends(outputs)} == {route(1), six}
    assert outputs[-1] == EndOfRib(at(2), BOTH)
    server.refresh(at(2), Family.IPV4)
    assert server.take() == [Send((at(2),), route(1), (P1,))]


def test_routes_of_a_restarting_neighbour_stay_until_end_of_rib() -> None:
    """RFC 4724 4.2, told with the words of the session."""
    server = RouteServer(speaker(neighbor(1), neighbor(2)), 0)
    kept = session(1, restart_time=90, kept=BOTH)
    server.session_up(at(1), kept, 0)
    up(server, 2)
    server.announce(at(1), route(1), [P1, P2])
    server.take()
    server.session_down(at(1), 10, graceful=True)
    assert server.take() == []
    assert server.deadline() == 100
    server.session_up(at(1), replace(kept, preserved=BOTH), 20)
    server.announce(at(1), route(1), [P1])
    assert sends(server.take()) == []
    server.end_of_rib(at(1), Family.IPV4, 21)
    assert sends(server.take()) == [Send((at(2),), None, (P2,))]
    assert server.deadline() is None


@pytest.mark.parametrize("how", ["notification", "too late", "not preserved", "not negotiated"])
def test_routes_of_a_neighbour_that_is_gone_go(how: str) -> None:
    """The ways in which a restart is none."""
    server = RouteServer(speaker(neighbor(1), neighbor(2)), 0)
    agreed = session(1) if how == "not negotiated" else session(1, restart_time=90, kept=BOTH)
    server.session_up(at(1), agreed, 0)
    up(server, 2)
    server.announce(at(1), route(1), [P1])
    server.take()
    server.session_down(at(1), 10, graceful=how != "notification")
    if how == "too late":
        server.tick(99)
        assert server.take() == []
        server.tick(100)
    if how == "not preserved":
        server.session_up(at(1), agreed, 20)
    assert sends(server.take()) == [Send((at(2),), None, (P1,))]


def test_after_a_restart_end_of_rib_waits_for_those_who_were_there() -> None:
    """RFC 4724 4.1: nobody drops our stale routes before we know the new ones."""
    server = RouteServer(speaker(neighbor(1), neighbor(2), neighbor(3)), 0, awaited=(at(1), at(2)))
    server.session_up(at(1), session(1, restart_time=90), 1)
    server.end_of_rib(at(1), Family.IPV4, 1)
    server.end_of_rib(at(1), Family.IPV6, 1)
    server.session_up(at(2), session(2), 2)
    assert not [output for output in server.take() if not isinstance(output, Send)]
    server.tick(server.deadline() or 0)
    assert server.take() == [Converged(), EndOfRib(at(1), BOTH), EndOfRib(at(2), BOTH)]


def test_after_a_restart_nobody_is_waited_for_for_ever() -> None:
    """A neighbour that stays away holds up the others for a limited time."""
    server = RouteServer(speaker(neighbor(1)), 0, awaited=(at(1),))
    server.tick(59)
    assert server.take() == []
    server.tick(60)
    assert server.take() == [Converged()]


def test_a_range_gives_every_address_a_session_of_its_own() -> None:
    """Dynamic neighbours share policy and name, not routes; the longest range that matches counts."""
    wide = Neighbor("wide", US + 1, range=ip_network("192.0.2.0/24"), imports=OPEN, exports=ALL)
    tight = Neighbor("tight", US + 2, range=ip_network("192.0.2.8/29"), imports=OPEN, exports=ALL)
    server = RouteServer(speaker(wide, tight), 0)
    up(server, 1, 2, 9)
    assert [peer.neighbor.name for peer in server.peers.values()] == ["wide", "wide", "tight"]
    server.announce(at(1), Attributes(next_hop=at(1), as_path=path(7)), [P1])
    (send,) = sends(server.take())
    assert send.addresses == (at(2), at(9))
    server.session_down(at(2), 1, graceful=False)
    assert list(server.peers) == [at(1), at(9)]


def test_a_running_speaker_cannot_become_another() -> None:
    """The engine starts another process for that."""
    server = RouteServer(speaker(), 0)
    with pytest.raises(InternalError):
        server.configure(replace(speaker(), asn=1), 0)


# -- against a naive model ------------------------------------------------------------------------------------------

NUMBERS = st.integers(1, 4)
PREFIXES = [P1, P2, ip_network("2001:db8:1::/48")]
POLICIES = [OPEN, replace(OPEN, accept=(PrefixRule.exact(P1),)), replace(OPEN, forbidden_as=(US + 2,))]
ACTIONS = ["announce", "announce", "announce", "withdraw", "imports", "exports", "down", "up"]
EXPORTS = [ALL, ExportPolicy((PrefixRule.exact(P1),)), replace(ALL, never=(PrefixRule.exact(P2),))]


@st.composite
def attributes_of(draw: st.DrawFn, number: int, *, internal: bool) -> Attributes:
    """Draw attributes that often tie and sometimes loop."""
    beyond = draw(st.lists(st.sampled_from([US + 1, US + 2, US + 3, 7]), max_size=2))
    own = [] if internal else [draw(st.sampled_from([US + number, 9]))]
    return Attributes(
        next_hop=draw(st.sampled_from([at(number), at(77), IPv6Address("2001:db8::9")])),
        as_path=path(*own, *beyond) if own or beyond else (),
        med=draw(st.sampled_from([None, 0, 5])),
        local_pref=draw(st.sampled_from([None, 100, 200])) if internal else None,
        communities=draw(st.sampled_from([(), ((65535, 65281),), ((65535, 65282),)])),
    )


class Model:
    """The same speaker, computed from nothing every time it is asked."""

    def __init__(self, mode: Mode, internal: set[int]) -> None:
        self.mode = mode
        self.internal = internal
        self.neighbors = {n: neighbor(n, asn=US if n in internal else US + n) for n in range(1, 5)}
        self.up: set[int] = set()
        self.said: dict[tuple[int, Network], Attributes] = {}
        self.tables: dict[int, dict[Network, Attributes]] = {}

    def speaker(self) -> Speaker:
        """Return what the server was told to be."""
        return speaker(*self.neighbors.values(), mode=self.mode)

    def accepted(self, prefix: Network) -> list[tuple[int, Attributes]]:
        """Return who says what about a prefix, without what is refused."""
        found = []
        for (number, said), raw in self.said.items():
            clean = imported(raw, internal=number in self.internal)
            if said == prefix and judge(prefix, clean, self.neighbors[number], self.speaker()) is None:
                found.append((number, clean))
        return found

    def best(self, paths: list[tuple[int, Attributes]]) -> tuple[int, Attributes] | None:
        """RFC 4271 9.1.2.2 by elimination."""

        def first_as(p: tuple[int, Attributes]) -> int:
            return p[1].path_asns[0] if p[1].path_asns else 0

        def keep(key: Callable[[tuple[int, Attributes]], int]) -> None:
            nonlocal paths
            paths = [p for p in paths if key(p) == min(map(key, paths))]

        keep(lambda p: -(100 if p[1].local_pref is None else p[1].local_pref))
        keep(lambda p: p[1].path_length)
        keep(lambda p: p[1].origin)
        paths = [
            p for p in paths if not any(first_as(q) == first_as(p) and (q[1].med or 0) < (p[1].med or 0) for q in paths)
        ]
        keep(lambda p: p[0] in self.internal)
        keep(lambda p: p[0])  # router ids and addresses are in the order of the numbers
        return paths[0] if paths else None

    def sent(self, client: int, prefix: Network) -> Attributes | None:
        """Return what a neighbour must have been sent."""
        if not may_export(prefix, self.neighbors[client].exports):
            return None
        paths = self.accepted(prefix)
        if self.mode is Mode.TRANSPARENT:
            asn = self.neighbors[client].asn
            allowed = [p for p in paths if p[0] != client and (client in self.internal or asn not in p[1].path_asns)]
            allowed = [p for p in allowed if p[1].next_hop.version == prefix.version]
            mine = self.best(allowed)
            return mine and mine[1]
        best = self.best(paths)
        return None if best is None or best[0] == client else self.changed(client, *best, version=prefix.version)

    def changed(self, client: int, source: int, found: Attributes, *, version: int) -> Attributes | None:
        """Return a path as a router or reflector passes it on."""
        local_only = {(65535, 65281), (65535, 65282)} if client not in self.internal else {(65535, 65282)}
        if local_only & set(found.communities):
            return None
        if client not in self.internal:
            found = replace(found, next_hop=LOCAL, med=None, local_pref=None, as_path=path(US, *found.path_asns))
        else:
            found = replace(found, local_pref=100 if found.local_pref is None else found.local_pref)
            if source in self.internal:
                if self.mode is Mode.ROUTER:
                    return None
                mark = IPv4Address("10.9.9.0") + source
                found = replace(found, originator_id=mark, cluster_list=(IPv4Address("192.0.2.254"),))
        return found if found.next_hop.version == version else None

    def apply(self, outputs: list[Output]) -> None:
        """Let the neighbours take in what they are sent."""
        for send in sends(outputs):
            for address in send.addresses:
                table = self.tables[int(address) & 0xFF]
                for prefix in send.prefixes:
                    if send.attributes is None:
                        assert table.pop(prefix, None) is not None, "withdrawn but never announced"
                    else:
                        assert table.get(prefix) != send.attributes, "announced twice"
                        table[prefix] = send.attributes

    def check(self, server: RouteServer) -> None:
        """Compare everything."""
        for client in self.up:
            wanted = {p: found for p in PREFIXES if (found := self.sent(client, p)) is not None}
            assert self.tables[client] == wanted
            assert server.spread.advertised[server.peers[at(client)]] == len(wanted)
        for prefix in PREFIXES:
            best = self.best(self.accepted(prefix))
            dest = server.rib.destinations.get(prefix)
            ranked = dest.ranked if dest else ()
            assert (ranked[0].attributes if ranked else None) == (best and best[1])


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(Mode), st.sets(NUMBERS))
def test_every_sequence_ends_where_a_fresh_computation_ends(
    data: st.DataObject, mode: Mode, internal: set[int]
) -> None:
    """Incremental best paths and exports equal those computed from the tables alone, whatever came in which order."""
    model = Model(mode, internal)
    server = RouteServer(model.speaker(), 0)
    for number in model.neighbors:
        step(data, model, server, "up", number)
    for _ in range(data.draw(st.integers(5, 40))):
        number = data.draw(NUMBERS)
        action = data.draw(st.sampled_from(ACTIONS))
        before = dict(model.tables)
        step(data, model, server, action, number)
        if model.tables != before or not data.draw(st.integers(0, 2)):
            model.apply(server.take())
            model.check(server)
    model.apply(server.take())
    model.check(server)


def step(data: st.DataObject, model: Model, server: RouteServer, action: str, number: int) -> None:
    """Do one thing to both."""
    prefix = PREFIXES[0] if action == "up" else data.draw(st.sampled_from(PREFIXES))
    if action == "up" and number not in model.up:
        model.apply(server.take())
        model.up.add(number)
        model.tables[number] = {}
        server.session_up(at(number), session(number), 0)
    elif action == "down" and number in model.up:
        model.apply(server.take())
        model.up.discard(number)
        model.said = {key: value for key, value in model.said.items() if key[0] != number}
        server.session_down(at(number), 0, graceful=False)
    elif action == "announce" and number in model.up:
        model.said[number, prefix] = data.draw(attributes_of(number, internal=number in model.internal))
        server.announce(at(number), model.said[number, prefix], [prefix])
    elif action == "withdraw" and number in model.up:
        model.said.pop((number, prefix), None)
        server.withdraw(at(number), [prefix])
    elif action in ("imports", "exports"):
        new: dict[str, Any] = {action: data.draw(st.sampled_from(POLICIES if action == "imports" else EXPORTS))}
        model.neighbors[number] = replace(model.neighbors[number], **new)
        server.configure(model.speaker(), 0)
