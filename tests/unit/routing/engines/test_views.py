from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, ip_network

from routing.bgp.nlri import pack, unpack
from routing.bgp.routeserver import Bests
from routing.bgp.values import Announcement, Attributes, Family, ImportPolicy, Neighbor, Network, PrefixRule, Reason
from routing.engines import views
from routing.engines.engine import Best, RouteView, Session, SessionState
from routing.engines.views import Shown
from tests.support.fake_core import FakeCore, Where, at, attributes, neighbor, speaker

P1, P2, P3 = (ip_network(f"10.0.{n}.0/24") for n in (1, 2, 3))
SIX = ip_network("2001:db8:1::/48")


def expanded(shown: Iterable[Shown | None]) -> dict[Network, list[Shown]]:
    """Return what is shown of every prefix; the view must be that of the first."""
    found: dict[Network, list[Shown]] = {}
    for one in shown:
        if one is not None:
            prefixes = unpack(one.nlri, one.family)
            assert one.view.prefix == prefixes[0]
            for prefix in prefixes:
                found.setdefault(prefix, []).append(one)
    return found


def routes(
    core: FakeCore, prefix: Network | None = None, neighbor: str | None = None
) -> dict[Network, list[RouteView]]:
    """Return the views of every prefix."""
    found = expanded(views.routes(core.server, prefix, neighbor))
    return {key: [one.view for one in some if isinstance(one.view, RouteView)] for key, some in found.items()}


def test_sessions_show_state_counts_and_time() -> None:
    """One for each configured neighbour, then those of ranges."""
    own = ImportPolicy((PrefixRule.exact(P1),))
    core = FakeCore(speaker(neighbor(1, imports=own), neighbor(2), neighbor(3), Neighbor("r", 65009, range=P3)))
    core.up(1, now=5)
    core.up(2, now=6)
    core.up(9, now=6, address=IPv4Address("10.0.3.7"))
    core.peerings[at(3)] = Where(SessionState.IDLE, "refused")
    core.say(1, [P1, P2])
    core.server.take()
    first, second, third, fourth = views.sessions(core.server, core.peerings, core.since, 7)
    assert (first.name, first.asn, first.state, first.uptime) == ("n1", 65001, SessionState.ESTABLISHED, 2)
    assert (first.received, first.accepted, first.advertised) == (2, 1, 0)
    assert (second.advertised, second.families) == (1, tuple(Family))
    assert (third.state, third.uptime, third.detail, third.families) == (SessionState.IDLE, None, "refused", ())
    assert (fourth.name, fourth.address) == ("r", IPv4Address("10.0.3.7"))
    up = [Session("n1", at(1), SessionState.ESTABLISHED), Session("n2", at(2), SessionState.ESTABLISHED)]
    assert list(views.up(core.server, core.peerings))[:2] == up


def test_a_neighbour_that_was_just_added_is_idle() -> None:
    """Its session has not begun."""
    core = FakeCore(speaker(neighbor(1)))
    core.peerings.clear()
    (view,) = views.sessions(core.server, core.peerings, core.since, 0)
    assert (view.name, view.state) == ("n1", SessionState.IDLE)


def test_every_path_says_why_it_won_or_lost() -> None:
    """In words, beside our own route, which wins over all."""
    core = FakeCore(speaker(neighbor(1), neighbor(2), announcements=(Announcement(P3),)))
    core.up(1)
    core.up(2)
    core.say(1, [P1, P2])
    core.say(2, [P1, P3], attributes(2, 7))
    found = routes(core)
    won, lost = found[P1]
    assert (won.neighbor, won.address, won.best, won.why) == ("n1", at(1), True, "AS_PATH length 1 against 2")
    assert (lost.neighbor, lost.best, lost.why, lost.attributes) == (
        "n2",
        False,
        "AS_PATH length 2 against 1",
        attributes(2, 7),
    )
    assert [(view.best, view.why) for view in found[P2]] == [(True, "only path")]
    own, other = sorted(found[P3], key=lambda view: not view.best)
    assert (own.neighbor, own.address, own.best, own.why) == ("local", None, True, "originated here")
    assert (other.best, other.why) == (False, "another path is originated here")


def test_an_own_route_alone_is_originated_here() -> None:
    """Without another path to compare with."""
    core = FakeCore(speaker(neighbor(1), announcements=(Announcement(P3, med=5),)))
    ((view,),) = routes(core).values()
    assert (view.why, view.best, view.attributes) == (
        "originated here",
        True,
        Attributes(IPv4Address("0.0.0.0"), med=5),
    )


def test_refused_stale_and_malformed_paths_are_shown() -> None:
    """With the numbered reason."""
    core = FakeCore(speaker(neighbor(1, imports=ImportPolicy((PrefixRule.exact(P1),)))))
    core.up(1)
    core.say(1, [P1, P2])
    core.server.tables.refuse(core.server.peers[at(1)], Family.IPV4, pack([P3]))
    found = {prefix: view for prefix, (view,) in routes(core).items()}
    assert (found[P2].best, found[P2].why, found[P2].reason) == (False, "refused: NOT_OWNED", Reason.NOT_OWNED)
    assert (found[P3].reason, found[P3].attributes) == (Reason.MALFORMED, Attributes(at(1)))
    assert not found[P1].stale
    core.server.tables.down(core.server.peers[at(1)], frozenset(Family), 100)
    assert [view.stale for view in routes(core)[P1]] == [True]


def test_routes_are_found_by_prefix_and_by_neighbour() -> None:
    """The prefix exactly; a neighbour's own paths alone, ours under `local`."""
    core = FakeCore(speaker(neighbor(1), neighbor(2), announcements=(Announcement(P3),)))
    for number in (1, 2):
        core.up(number)
        core.say(number, [P1, P2][:number])
    core.say(1, [SIX], attributes(1))
    assert {prefix: len(paths) for prefix, paths in routes(core).items()} == {P1: 2, P2: 1, P3: 1, SIX: 1}
    assert {prefix: len(paths) for prefix, paths in routes(core, P1).items()} == {P1: 2}
    assert routes(core, ip_network("10.0.0.0/16")) == {}
    assert [view.neighbor for view in routes(core, P1, "n2")[P1]] == ["n2"]
    assert routes(core, None, "n1").keys() == {P1, SIX}
    assert routes(core, None, "local").keys() == {P3}
    assert routes(core, None, "nobody") == {}


def test_looking_for_few_among_many_goes_on_step_by_step() -> None:
    """Each path that is not asked for is a step, so that nobody waits for the search."""
    core = FakeCore(speaker(neighbor(1)))
    core.up(1)
    for third in range(50):
        core.say(1, [ip_network(f"10.1.{third}.0/24")], attributes(1, third + 1))
    assert list(views.routes(core.server, None, "local")) == [None] * 50


def test_looking_at_routes_keeps_nothing() -> None:
    """Decoded attributes of all paths would outweigh the tables."""
    core = FakeCore(speaker(neighbor(1)))
    core.up(1)
    core.say(1, [P1])
    assert routes(core)[P1][0].attributes == attributes(1)
    (path,) = core.server.peers[at(1)].paths.values()
    assert not hasattr(path, "_attributes")
    assert not hasattr(path, "_standing")


def test_best_paths_are_events_for_all_their_prefixes() -> None:
    """Those there are, and each change."""
    core = FakeCore(speaker(neighbor(1), neighbor(2), announcements=(Announcement(SIX),)))
    core.watch(on=True)
    core.up(1)
    core.server.take()
    core.say(1, [P1, P2])
    (news,) = core.news()
    assert isinstance(news, Bests)
    assert views.best(news).view == Best(P1, attributes(1), "n1")
    known = expanded(views.bests(core.server))
    assert {prefix: one.view for prefix, (one,) in known.items() if prefix != SIX} == {
        P1: Best(P1, attributes(1), "n1"),
        P2: Best(P1, attributes(1), "n1"),
    }
    (own,) = known[SIX]
    assert isinstance(own.view, Best)
    assert own.view.neighbor == "local"
    core.unsay(1, [P2])
    (gone,) = core.news()
    assert isinstance(gone, Bests)
    assert views.best(gone) == Shown(Best(P2, None), Family.IPV4, pack([P2]))
