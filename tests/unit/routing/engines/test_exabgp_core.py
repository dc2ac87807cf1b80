from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from typing import Any

from routing.bgp.nlri import pack
from routing.bgp.routeserver import Bests
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
from routing.engines import views
from routing.engines.engine import Best, Event, RouteView, Session, SessionState, SessionView, Synced
from routing.engines.exabgp_core import Core
from routing.engines.exabgp_messages import (
    Down,
    EndOfTable,
    Message,
    Numbered,
    Opened,
    Refresh,
    State,
    Up,
    Update,
)

HERE = IPv4Address("192.0.2.254")
ANY = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32),)
P1, P2 = ip_network("10.0.1.0/24"), ip_network("10.0.2.0/24")
SIX = ip_network("2001:db8:1::/48")


def at(number: int) -> IPv4Address:
    """Return the address of the n-th neighbour."""
    return IPv4Address("192.0.2.0") + number


def neighbor(number: int, **more: Any) -> Neighbor:
    """Make the n-th neighbour."""
    given = Neighbor(
        f"n{number}", 65000 + number, at(number), imports=ImportPolicy(accept=ANY), exports=ExportPolicy(ANY)
    )
    return replace(given, **more)


def speaker(*neighbors: Neighbor, **more: Any) -> Speaker:
    """Make a route server."""
    return Speaker("rs", Mode.TRANSPARENT, 65000, HERE, (HERE,), neighbors=neighbors, **more)


def attributes(number: int, *beyond: int) -> Attributes:
    """Make attributes as the n-th neighbour sends them."""
    return Attributes(at(number), as_path=(Segment(SegmentType.SEQUENCE, (65000 + number, *beyond)),))


def opening(number: int, session: int) -> list[Message]:
    """Return what ExaBGP says while the session of the n-th neighbour comes up."""
    return opening_at(at(number), number, session)


def opening_at(address: Address, number: int, session: int) -> list[Message]:
    """Return what ExaBGP says while the session at an address comes up."""
    opened = Opened(address, IPv4Address(number), frozenset(Family), False, 120, {Family.IPV4: True})
    return [
        State(address, SessionState.CONNECT),
        State(address, SessionState.OPENSENT),
        opened,
        State(address, SessionState.OPENCONFIRM),
        State(address, SessionState.ESTABLISHED),
        Numbered(address, session),
        Up(address, HERE),
    ]


def announced(number: int, *prefixes: Network, beyond: tuple[int, ...] = ()) -> Update:
    """Return what ExaBGP says when the n-th neighbour announces prefixes."""
    return Update(at(number), ((Family.of(prefixes[0]), attributes(number, *beyond), pack(prefixes)),))


def sessions(found: Core, now: float = 0) -> list[SessionView]:
    """Return the views of all sessions."""
    return list(views.sessions(found.server, found.peerings, found.since, now))


def routes(found: Core, prefix: Network | None = None, neighbor: str | None = None) -> list[RouteView]:
    """Return the views of paths, of each label one."""
    shown = views.routes(found.server, prefix, neighbor)
    return [one.view for one in shown if one is not None and isinstance(one.view, RouteView)]


def told(found: Core) -> list[Event | RouteView]:
    """Return what watchers are told, of each batch of prefixes the first."""
    return [views.best(news).view if isinstance(news, Bests) else news for news in found.take_events()]


def core(*neighbors: Neighbor, awaited: tuple[Address, ...] = ()) -> Core:
    """Make a core; its first commands are taken."""
    made = Core(speaker(*neighbors), 0, awaited)
    assert list(made.commands) == ["@reset", "@reload"]
    made.commands.clear()
    return made


def hear(found: Core, *messages: Message, now: float = 0) -> list[str]:
    """Let the core hear messages; return its commands."""
    for message in messages:
        found.receive(message, now)
    found.settle()
    commands = list(found.commands)
    found.commands.clear()
    return commands


def test_routes_go_to_the_sessions_by_their_numbers() -> None:
    """And End-of-RIB to a session that comes up."""
    found = core(neighbor(1), neighbor(2))
    assert hear(found, *opening(1, 7)) == ["@eor 7 4"]
    hear(found, *opening(2, 8))
    commands = hear(found, announced(1, P1, P2))
    assert commands == ["@announce 8 next-hop 192.0.2.1 origin igp as-path [ 65001 ] ; 10.0.1.0/24 10.0.2.0/24"]
    assert hear(found, Update(at(1), withdrawn=((Family.IPV4, pack([P1])),))) == ["@withdraw 8 ; 10.0.1.0/24"]
    (again,) = hear(found, Refresh(at(2), Family.IPV4))
    assert again.endswith(" ; 10.0.2.0/24")


def test_a_session_that_came_up_unseen_is_asked_to_begin_anew() -> None:
    """Without the OPEN nobody knows what was agreed on."""
    found = core(neighbor(1))
    assert hear(found, Numbered(at(1), 3), Up(at(1), HERE)) == ["@reset 3"]
    assert sessions(found)[0].state is SessionState.IDLE
    assert hear(found, Down(at(1), ""), *opening(1, 4)) == ["@eor 4 4"]


def test_what_is_meant_for_an_earlier_session_never_reaches_the_next() -> None:
    """A burst that holds the end of a session and its successor: old news goes to the old number."""
    found = core(neighbor(1), neighbor(2))
    hear(found, *opening(1, 1), *opening(2, 2))
    burst = [announced(1, P1), Down(at(2), ""), *opening(2, 3)]
    commands = hear(found, *burst)
    assert [command.split()[:2] for command in commands] == [["@announce", "2"], ["@announce", "3"], ["@eor", "3"]]


def test_views_show_states_counts_and_reasons() -> None:
    """What the operator sees."""
    found = core(neighbor(1, imports=ImportPolicy(accept=(PrefixRule.exact(P1),))), neighbor(2), neighbor(3))
    hear(found, *opening(1, 1), now=5)
    hear(found, announced(1, P1, P2), *opening(2, 2), State(at(3), SessionState.ACTIVE))
    first, second, third = sessions(found, 7)
    assert (first.state, first.uptime, first.received, first.accepted) == (SessionState.ESTABLISHED, 2, 2, 1)
    assert (second.advertised, second.families) == (1, (Family.IPV4,))
    assert (third.state, third.uptime, third.asn) == (SessionState.ACTIVE, None, 65003)
    shown = {view.prefix: view for view in routes(found, neighbor="n1")}
    assert (shown[P1].best, shown[P1].why, shown[P1].reason) == (True, "only path", None)
    assert (shown[P2].best, shown[P2].why, shown[P2].reason) == (False, "refused: NOT_OWNED", Reason.NOT_OWNED)
    assert routes(found, P1, "n2") == []


def test_every_path_says_why_it_won_or_lost() -> None:
    """In words, beside our own route, which wins over all."""
    found = core(neighbor(1), neighbor(2))
    hear(found, *opening(1, 1), *opening(2, 2))
    hear(found, announced(1, P1), announced(2, P1, beyond=(7,)))
    assert [view.why for view in routes(found, P1)] == ["AS_PATH length 1 against 2", "AS_PATH length 2 against 1"]
    found.configure(speaker(neighbor(1), neighbor(2), announcements=(Announcement(P1),)), 0)
    own, *learned = sorted(routes(found, P1), key=lambda view: not view.best)
    assert (own.neighbor, own.address, own.best, own.why) == ("local", None, True, "originated here")
    assert {view.why for view in learned} == {"another path is originated here"}
    assert routes(found, neighbor="local") == [own]


def test_malformed_routes_are_shown_and_not_used() -> None:
    """RFC 7606."""
    found = core(neighbor(1), neighbor(2))
    hear(found, *opening(1, 1), *opening(2, 2), announced(1, P1))
    assert hear(found, Update(at(1), malformed=((Family.IPV4, pack([P1])),))) == ["@withdraw 2 ; 10.0.1.0/24"]
    assert [view.reason for view in routes(found, P1)] == [Reason.MALFORMED]


def test_watchers_are_told_what_changes() -> None:
    """States as they move, best paths if anybody wants them, and Synced once all is known."""
    found = core(neighbor(1), awaited=(at(1),))
    found.watch(on=True)
    hear(found, *opening(1, 1), announced(1, P1))
    assert set(told(found)) >= {Best(P1, attributes(1), "n1"), Session("n1", at(1), SessionState.ESTABLISHED)}
    assert hear(found, EndOfTable(at(1), Family.IPV4)) == ["@eor 1 4"]
    assert told(found) == [Synced()]
    hear(found, Down(at(1), "notification received (6,2)"))
    gone = Session("n1", at(1), SessionState.IDLE, "notification received (6,2)")
    assert set(told(found)) == {Best(P1, None), gone}
    found.watch(on=False)
    hear(found, *opening(1, 2), announced(1, P1))
    assert {type(event) for event in told(found)} == {Session}


def test_what_several_are_told_alike_is_one_command() -> None:
    """Though their policies differ, and one of them has another path."""
    narrow = ExportPolicy((PrefixRule.exact(P1),))
    found = core(neighbor(1), neighbor(2), neighbor(3, exports=narrow), neighbor(4))
    hear(found, *(message for number in range(1, 5) for message in opening(number, number)))
    (command,) = hear(found, announced(1, P1))
    assert numbers(command) == {"2", "3", "4"}
    commands = hear(found, announced(2, P1), announced(1, P1, beyond=(7,)))
    assert sorted(map(len, map(numbers, commands))) == [1, 3]
    assert set.union(*map(numbers, commands)) == {"1", "2", "3", "4"}


def numbers(command: str) -> set[str]:
    """Return the sessions that a command is for."""
    return set(command.split()[1].split(","))


def test_a_family_that_only_next_hops_need_is_not_listened_to() -> None:
    """ExaBGP negotiates it all the same (RFC 8950)."""
    found = core(neighbor(1, extended_next_hop=True, imports=ImportPolicy((*ANY, PrefixRule.exact(SIX)))))
    hear(found, *opening(1, 1), announced(1, P1), announced(1, SIX))
    assert [view.prefix for view in routes(found)] == [P1]


def test_nothing_is_learned_without_a_session() -> None:
    """What ExaBGP still says of one that is over."""
    found = core(neighbor(1), neighbor(2), awaited=(at(1),))
    assert hear(found, announced(1, P1), EndOfTable(at(1), Family.IPV4), Refresh(at(1), Family.IPV4)) == []
    assert routes(found) == []
    assert not found.server.converged


def test_routes_are_kept_when_a_neighbour_may_be_restarting() -> None:
    """Stale, but in use."""
    found = core(neighbor(1), neighbor(2))
    hear(found, *opening(1, 1), *opening(2, 2), announced(1, P1))
    assert hear(found, Down(at(1), "closing connection")) == []
    assert [(view.stale, view.best) for view in routes(found, P1)] == [(True, True)]


def test_sessions_of_a_range_are_seen_while_they_last() -> None:
    """Each by its address, none left over when it has gone, whatever ExaBGP says afterwards."""
    found = core(neighbor(1), Neighbor("range", 65009, range=ip_network("192.0.2.128/25")))
    address = IPv4Address("192.0.2.200")
    hear(found, *opening_at(address, 1, 1))
    assert [(view.name, view.address) for view in sessions(found)] == [("n1", at(1)), ("range", address)]
    hear(found, Down(address, ""), State(address, SessionState.IDLE))
    assert [view.name for view in sessions(found)] == ["n1"]


def test_a_removed_neighbour_is_forgotten() -> None:
    """Its last words are not listened to."""
    found = core(neighbor(1), neighbor(2))
    hear(found, *opening(1, 1), *opening(2, 2), announced(1, P1))
    found.configure(speaker(neighbor(2)), 0)
    assert hear(found, announced(1, P2), Down(at(1), ""), State(at(1), SessionState.IDLE)) == [
        "@withdraw 2 ; 10.0.1.0/24"
    ]
    assert [view.name for view in sessions(found)] == ["n2"]
    hear(found, *opening(1, 5))
    assert routes(found) == []
