"""What is GoBGP's own: adoption, crashes, changes by the difference, and the quirks that the engine hides.

Real gobgpd and BIRD in namespaces. The scenarios that every engine must pass are in `scenarios/`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self

import pytest

from appliance.model.errors import EngineError, InternalError
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
    Speaker,
)
from routing.engines.engine import Best, Event, Lost, SessionState, Synced
from routing.engines.gobgp import GoBgpEngine
from tests.support.lan import Lan
from tests.support.routers.bird import Bird
from tests.support.routers.common import Link, Route, Router, sequence
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.engine

ANY = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32), PrefixRule(ip_network("::/0"), 0, 128))
OPEN = ExportPolicy(accept=ANY)
ASN = {"a": 65001, "b": 65002, "c": 65003}
HERE = 65000
ONE, TWO, THREE = (ip_network(f"203.0.{number}.0/24") for number in (1, 2, 3))
SIX = ip_network("2001:db8:100::/48")


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    """Give a LAN with the speaker `rs` and the routers a, b and c."""
    with Lan("rs", *ASN) as lan:
        yield lan


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a directory with a short name: paths of Unix sockets end at 108 octets."""
    path = Path(tempfile.mkdtemp(prefix="ewt-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def running(lan: Lan, directory: Path) -> AsyncIterator[GoBgpEngine]:
    """Give an engine in the namespace of `rs`; its process is gone afterwards, whoever has it."""
    engine = engine_at(lan, directory)
    try:
        yield engine
    finally:
        await engine.close(stop=False)
        await engine_at(lan, directory).close(stop=True)


def engine_at(lan: Lan, directory: Path) -> GoBgpEngine:
    """Return an engine, as each daemon makes one."""
    return GoBgpEngine(directory, (*lan.inside("rs"), "gobgpd"))


def neighbor(lan: Lan, name: str, **changed: object) -> Neighbor:
    """Return a neighbour that may say and hear everything with its own AS in front."""
    made = Neighbor(
        name,
        ASN[name],
        lan.ipv4(name),
        families=(Family.IPV4,),
        imports=ImportPolicy(accept=ANY, first_as=ASN[name]),
        exports=OPEN,
        restart_time=0,
    )
    return replace(made, **changed)  # type: ignore[arg-type] # fields of a neighbour


def speaker(lan: Lan, *neighbors: Neighbor, mode: Mode = Mode.TRANSPARENT, **changed: object) -> Speaker:
    """Return the speaker `rs`."""
    made = Speaker("rs", mode, HERE, lan.ipv4("rs"), (lan.ipv4("rs"), lan.ipv6("rs")), neighbors=neighbors)
    return replace(made, **changed)  # type: ignore[arg-type] # fields of a speaker


def link(lan: Lan, name: str, *families: Family, six: bool = False, **changed: object) -> Link:
    """Return the session of a router with `rs`."""
    server, local = (lan.ipv6("rs"), lan.ipv6(name)) if six else (lan.ipv4("rs"), lan.ipv4(name))
    return Link(server, HERE, local, families or (Family.IPV4,), **changed)  # type: ignore[arg-type]


def bird(lan: Lan, name: str, *routes: Route, asn: int | None = None, over: Link | None = None) -> Bird:
    """Return a BIRD with one session."""
    return Bird(lan, name, asn or ASN[name], (over or link(lan, name),), routes)


def route(lan: Lan, name: str, prefix: Network | str, *more: int, **changed: object) -> Route:
    """Return a route of a router, its AS in front of `more`."""
    network = ip_network(str(prefix))
    next_hop: Address = lan.ipv4(name) if network.version == 4 else lan.ipv6(name)
    attributes = Attributes(next_hop, as_path=sequence(ASN[name], *more))
    return Route(network, replace(attributes, **changed))  # type: ignore[arg-type] # fields of attributes


async def up(engine: GoBgpEngine, *names: str) -> None:
    """Return when the named sessions are established."""

    async def established() -> bool:
        views = await engine.sessions()
        return {view.name for view in views if view.state is SessionState.ESTABLISHED} >= set(names)

    await eventually_async(established, what=f"{names} are established")


async def holds(router: Router, *prefixes: Network) -> None:
    """Return when a router has received exactly these prefixes."""
    await eventually_async(
        lambda: set(router.received(router.links[0])) == set(prefixes), what=f"{router.member} has {prefixes}"
    )


class Watcher:
    """Collects the events of an engine in the background."""

    def __init__(self, engine: GoBgpEngine) -> None:
        self.events: list[Event] = []
        self._task = asyncio.create_task(self._collect(engine))

    async def __aenter__(self) -> Self:
        """Collect already."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop collecting."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _collect(self, engine: GoBgpEngine) -> None:
        async for batch in engine.watch():
            self.events += batch

    async def has(self, kind: type[Event], count: int = 1) -> None:
        """Return when there are that many events of a kind."""
        await eventually_async(
            lambda: sum(isinstance(event, kind) for event in self.events) >= count, what=kind.__name__
        )

    def best_since(self, start: int = 0) -> dict[Network, Best]:
        """Return the last word on every prefix."""
        return {event.prefix: event for event in self.events[start:] if isinstance(event, Best)}


async def test_the_second_apply_of_an_equal_speaker_does_nothing(lan: Lan, directory: Path) -> None:
    """The reconciler may call as often as it likes."""
    async with running(lan, directory) as engine:
        with bird(lan, "a") as a:
            await engine.apply(speaker(lan, neighbor(lan, "a")))
            await up(engine, "a")
            since, written = a.incarnation(a.links[0]), (directory / "gobgpd.digests").stat().st_mtime_ns
            await engine.apply(speaker(lan, neighbor(lan, "a")))
            assert a.incarnation(a.links[0]) == since
            assert (directory / "gobgpd.digests").stat().st_mtime_ns == written


async def test_files_are_for_our_eyes_only_and_gone_after_the_end(lan: Lan, directory: Path) -> None:
    """The socket gives full control of the routes."""
    inner = directory / "gobgp"
    async with running(lan, inner) as engine:
        await engine.apply(speaker(lan))
        assert inner.stat().st_mode & 0o077 == 0
        await engine.close(stop=True)
        assert not [path.name for path in inner.iterdir() if path.suffix in {".pid", ".digests"}]


async def test_a_new_daemon_adopts_gobgpd_and_changes_only_what_differs(lan: Lan, directory: Path) -> None:
    """A daemon's upgrade must not be seen by any neighbour."""
    before = speaker(lan, neighbor(lan, "a"), mode=Mode.ROUTER, announcements=(Announcement(ONE), Announcement(TWO)))
    async with running(lan, directory) as engine:
        with bird(lan, "a") as a:
            await engine.apply(before)
            await up(engine, "a")
            await holds(a, ONE, TWO)
            since, pid = a.incarnation(a.links[0]), engine._process.pid
            await engine.close(stop=False)

            heir = engine_at(lan, directory)
            await heir.apply(before)
            async with Watcher(heir) as watcher:
                await watcher.has(Synced)
                assert set(watcher.best_since()) == {ONE, TWO}
                await heir.apply(replace(before, announcements=(Announcement(TWO), Announcement(THREE))))
                await holds(a, TWO, THREE)
            assert heir._process.pid == pid
            assert a.incarnation(a.links[0]) == since
            await heir.close(stop=False)


async def test_a_killed_gobgpd_comes_back_with_everything(lan: Lan, directory: Path) -> None:
    """Lost, then every best path again, and only then Synced; the neighbour keeps our routes meanwhile (RFC 4724)."""
    peer = neighbor(lan, "a", restart_time=60)
    wanted = speaker(lan, peer, mode=Mode.ROUTER, announcements=(Announcement(ONE),))
    async with running(lan, directory) as engine:
        with bird(lan, "a", route(lan, "a", TWO), over=link(lan, "a", restart_time=60)) as a:
            await engine.apply(wanted)
            async with Watcher(engine) as watcher:
                await up(engine, "a")
                await holds(a, ONE)
                await eventually_async(lambda: set(watcher.best_since()) == {ONE, TWO})
                assert engine._process.pid is not None
                os.kill(engine._process.pid, signal.SIGKILL)
                await watcher.has(Lost)
                assert ONE in a.received(a.links[0])
                await watcher.has(Synced, 2)
                lost = next(number for number, event in enumerate(watcher.events) if isinstance(event, Lost))
                synced = next(n for n, event in enumerate(watcher.events) if n > lost and isinstance(event, Synced))
                told = {event.prefix: event for event in watcher.events[lost:synced] if isinstance(event, Best)}
                assert {prefix: event.neighbor for prefix, event in told.items()} == {ONE: "local", TWO: "a"}
            await holds(a, ONE)


async def test_what_is_gone_after_a_crash_is_not_named_again(lan: Lan, directory: Path) -> None:
    """Synced does not wait for ever for a neighbour that does not say when it is through."""
    async with running(lan, directory) as engine:
        with bird(lan, "a", route(lan, "a", ONE), route(lan, "a", TWO)) as a:
            await engine.apply(speaker(lan, neighbor(lan, "a"), mode=Mode.ROUTER))
            async with Watcher(engine) as watcher:
                await eventually_async(lambda: set(watcher.best_since()) == {ONE, TWO})
                assert engine._process.pid is not None
                os.kill(engine._process.pid, signal.SIGKILL)
                a.announce(route(lan, "a", TWO))
                await watcher.has(Synced, 2)
                lost = next(number for number, event in enumerate(watcher.events) if isinstance(event, Lost))
                assert set(watcher.best_since(lost)) == {TWO}


async def test_gobgpd_refuses_what_the_policy_refuses(lan: Lan, directory: Path) -> None:
    """Rules inside one another count each for itself; gobgpd alone would ask the longest one only."""
    rules = ImportPolicy(
        accept=(
            PrefixRule(ip_network("198.18.0.0/15"), 15, 24),
            PrefixRule(ip_network("198.18.5.0/24"), 28, 28),
            PrefixRule.exact(ip_network("0.0.0.0/0")),
        ),
        never=(PrefixRule(ip_network("198.18.0.0/16"), 20, 22), PrefixRule(ip_network("198.18.64.0/18"), 23, 23)),
        first_as=65001,
        forbidden_as=(64999,),
        max_path_length=3,
        next_hops=(ip_network(f"{lan.ipv4('a')}/32"),),
    )
    expected: dict[Route, Reason | None] = {
        route(lan, "a", "198.18.5.0/24"): None,
        route(lan, "a", "198.18.5.16/28"): None,
        route(lan, "a", "198.18.5.0/25"): Reason.NOT_OWNED,
        route(lan, "a", "198.18.64.0/20"): Reason.BOGON,
        route(lan, "a", "198.18.64.0/23"): Reason.BOGON,
        route(lan, "a", "198.18.68.0/24"): None,
        route(lan, "a", "0.0.0.0/0"): None,
        route(lan, "a", "128.0.0.0/1"): Reason.NOT_OWNED,
        route(lan, "a", "198.19.1.0/24", 64999): Reason.FORBIDDEN_AS,
        route(lan, "a", "198.19.2.0/24", 649990, 6499): None,
        route(lan, "a", "198.19.3.0/24", 1, 2, 3): Reason.PATH_TOO_LONG,
        route(lan, "a", "198.19.4.0/24", as_path=sequence(650011)): Reason.FIRST_AS,
        route(lan, "a", "198.19.5.0/24", next_hop=lan.ipv4("b")): Reason.NEXT_HOP,
        route(lan, "a", "198.19.6.0/24", HERE): Reason.AS_LOOP,
    }
    async with running(lan, directory) as engine:
        with bird(lan, "a", *expected), bird(lan, "b") as b:
            await engine.apply(speaker(lan, neighbor(lan, "a", imports=rules), neighbor(lan, "b")))
            await up(engine, "a", "b")
            await eventually_async(lambda: has_routes(engine, len(expected)))
            await holds(b, *(item.prefix for item, reason in expected.items() if reason is None))
            assert {view.prefix: view.reason for view in await engine.routes(neighbor="a")} == {
                item.prefix: reason for item, reason in expected.items()
            }


async def has_routes(engine: GoBgpEngine, count: int) -> bool:
    """Tell whether the engine knows that many routes."""
    return len(await engine.routes()) == count


async def test_changing_one_policy_leaves_all_sessions_up(lan: Lan, directory: Path) -> None:
    """A route that is accepted no more is withdrawn from the others, one that is again comes back."""
    narrow = ImportPolicy(accept=(PrefixRule.exact(TWO),), first_as=65001)
    async with running(lan, directory) as engine:
        with bird(lan, "a", route(lan, "a", ONE), route(lan, "a", TWO)) as a, bird(lan, "b") as b:
            await engine.apply(speaker(lan, neighbor(lan, "a"), neighbor(lan, "b")))
            await holds(b, ONE, TWO)
            since = [router.incarnation(router.links[0]) for router in (a, b)]
            await engine.apply(speaker(lan, neighbor(lan, "a", imports=narrow), neighbor(lan, "b")))
            await holds(b, TWO)
            await engine.apply(speaker(lan, neighbor(lan, "a"), neighbor(lan, "b")))
            await holds(b, ONE, TWO)
            assert [router.incarnation(router.links[0]) for router in (a, b)] == since


@pytest.mark.parametrize("mode", [Mode.TRANSPARENT, Mode.ROUTER])
async def test_a_narrower_export_takes_routes_back_without_a_session_lost(
    lan: Lan, directory: Path, mode: Mode
) -> None:
    """Gobgpd by itself withdraws nothing then: a route that must not be there would stay."""
    narrow = ExportPolicy(accept=(PrefixRule.exact(TWO),))
    async with running(lan, directory) as engine:
        with (
            bird(lan, "a", route(lan, "a", ONE), route(lan, "a", TWO)) as a,
            bird(lan, "b") as b,
            bird(lan, "c") as c,
        ):
            await engine.apply(speaker(lan, *(neighbor(lan, name) for name in "abc"), mode=mode))
            await holds(b, ONE, TWO)
            await holds(c, ONE, TWO)
            since = [router.incarnation(router.links[0]) for router in (a, b, c)]
            wanted = (neighbor(lan, "a"), neighbor(lan, "b", exports=narrow), neighbor(lan, "c"))
            await engine.apply(speaker(lan, *wanted, mode=mode))
            await holds(b, TWO)
            assert b.received(b.links[0])[TWO].communities == ()
            await holds(c, ONE, TWO)
            await engine.apply(speaker(lan, *(neighbor(lan, name) for name in "abc"), mode=mode))
            await holds(b, ONE, TWO)
            assert [router.incarnation(router.links[0]) for router in (a, b, c)] == since


async def test_several_neighbours_change_at_once(lan: Lan, directory: Path) -> None:
    """One leaves, one comes, one has another hold time; the third does not notice."""
    async with running(lan, directory) as engine:
        with (
            bird(lan, "a", route(lan, "a", ONE)) as a,
            bird(lan, "b", route(lan, "b", TWO)) as b,
            bird(lan, "c", route(lan, "c", THREE)) as c,
        ):
            await engine.apply(speaker(lan, neighbor(lan, "a"), neighbor(lan, "b")))
            await holds(a, TWO)
            since = a.incarnation(a.links[0])
            await engine.apply(speaker(lan, neighbor(lan, "a"), neighbor(lan, "c")))
            await holds(a, THREE)
            assert b.incarnation(b.links[0]) is None
            await engine.apply(speaker(lan, neighbor(lan, "a"), neighbor(lan, "c", hold_time=30)))
            await up(engine, "a", "c")
            await holds(a, THREE)
            await holds(c, ONE)
            assert a.incarnation(a.links[0]) == since


async def test_a_change_that_a_crash_interrupted_is_made_again(lan: Lan, directory: Path) -> None:
    """Whatever has no digest is in doubt; what has one is left alone."""
    wanted = speaker(lan, neighbor(lan, "a"), neighbor(lan, "b"))
    async with running(lan, directory) as engine:
        with bird(lan, "a", route(lan, "a", ONE)) as a, bird(lan, "b") as b:
            await engine.apply(wanted)
            await holds(b, ONE)
            since = a.incarnation(a.links[0])
            await engine.close(stop=False)
            memory = directory / "gobgpd.digests"
            whole = json.loads(memory.read_text())
            memory.write_text(json.dumps({k: v for k, v in whole.items() if str(lan.ipv4("b")) not in k}))

            heir = engine_at(lan, directory)
            await heir.apply(wanted)
            assert json.loads(memory.read_text()) == whole
            await up(heir, "a", "b")
            await holds(b, ONE)
            assert a.incarnation(a.links[0]) == since
            await heir.close(stop=False)


async def test_another_router_id_makes_another_gobgpd(lan: Lan, directory: Path) -> None:
    """What is said in every OPEN cannot be changed in a running gobgpd."""
    async with running(lan, directory) as engine:
        with bird(lan, "a"):
            await engine.apply(speaker(lan, neighbor(lan, "a")))
            await up(engine, "a")
            pid = engine._process.pid
            await engine.apply(speaker(lan, neighbor(lan, "a"), router_id=ip_address("192.0.2.99")))
            assert engine._process.pid != pid
            await up(engine, "a")


@pytest.mark.parametrize("mode", [Mode.TRANSPARENT, Mode.ROUTER])
async def test_whoever_comes_from_a_range_has_the_policies_of_the_range(lan: Lan, directory: Path, mode: Mode) -> None:
    """A neighbour with an address of its own inside the range keeps its own."""
    rules = ImportPolicy(accept=(PrefixRule.exact(ONE),), first_as=65001)
    one = neighbor(lan, "a", address=None, range=ip_network("192.0.2.0/24"), imports=rules)
    many = replace(one, name="many")
    async with running(lan, directory) as engine:
        with bird(lan, "a", route(lan, "a", ONE), route(lan, "a", TWO)) as a, bird(lan, "b") as b:
            await engine.apply(speaker(lan, many, neighbor(lan, "b"), mode=mode))
            await up(engine, "many", "b")
            await holds(b, ONE)
            views = {view.prefix: (view.neighbor, view.address, view.reason) for view in await engine.routes()}
            assert views == {
                ONE: ("many", lan.ipv4("a"), None),
                TWO: ("many", lan.ipv4("a"), Reason.NOT_OWNED),
            }
            since = a.incarnation(a.links[0])
            wider = replace(many, imports=replace(rules, accept=ANY))
            await engine.apply(speaker(lan, wider, neighbor(lan, "b"), mode=mode))
            await holds(b, ONE, TWO)
            assert a.incarnation(a.links[0]) == since
            await engine.apply(speaker(lan, neighbor(lan, "b"), mode=mode))
            await holds(b)
            assert [view.name for view in await engine.sessions()] == ["b"]


async def test_ipv6_and_ipv4_with_ipv6_next_hops_over_one_session(lan: Lan, directory: Path) -> None:
    """RFC 4760 and RFC 8950, both ways."""
    both = (Family.IPV4, Family.IPV6)
    peer = neighbor(lan, "a", address=lan.ipv6("a"), families=both, extended_next_hop=True)
    mine = (Announcement(ONE, lan.ipv6("rs"), med=5), Announcement(SIX, large_communities=((65000, 1, 2),)))
    with bird(
        lan,
        "a",
        route(lan, "a", TWO, next_hop=lan.ipv6("a")),
        over=link(lan, "a", *both, six=True, extended_next_hop=True),
    ) as a:
        async with running(lan, directory) as engine:
            await engine.apply(speaker(lan, peer, mode=Mode.ROUTER, announcements=mine))
            await up(engine, "a")
            await holds(a, ONE, SIX)
            got = a.received(a.links[0])
            assert (got[ONE].next_hop, got[ONE].med) == (lan.ipv6("rs"), 5)
            assert (got[SIX].next_hop, got[SIX].large_communities) == (lan.ipv6("rs"), ((65000, 1, 2),))
            async with Watcher(engine) as watcher:
                await eventually_async(lambda: TWO in watcher.best_since())
                learned = watcher.best_since()[TWO]
                assert learned.attributes is not None
                assert (learned.neighbor, learned.attributes.next_hop) == ("a", lan.ipv6("a"))
            (session,) = await engine.sessions()
            assert (session.families, session.received, session.accepted, session.advertised) == (both, 1, 1, 2)


async def test_a_gateway_passes_routes_on_with_itself_as_next_hop_only_where_asked(lan: Lan, directory: Path) -> None:
    """`next_hop_self` is for iBGP export of eBGP routes; communities and MED are nobody's business."""
    inside = {"asn": HERE, "imports": ImportPolicy(accept=ANY)}
    outside = route(lan, "a", ONE, med=9, communities=((65001, 7),))
    async with running(lan, directory) as engine:
        with (
            bird(lan, "a", outside),
            bird(lan, "b", asn=HERE) as b,
            bird(lan, "c", asn=HERE) as c,
        ):
            await engine.apply(
                speaker(
                    lan,
                    neighbor(lan, "a"),
                    neighbor(lan, "b", **inside, next_hop_self=True),
                    neighbor(lan, "c", **inside),
                    mode=Mode.ROUTER,
                )
            )
            await holds(b, ONE)
            await holds(c, ONE)
            at_b, at_c = (router.received(router.links[0])[ONE] for router in (b, c))
            assert (at_b.next_hop, at_b.med, at_b.communities) == (lan.ipv4("rs"), 9, ((65001, 7),))
            assert at_c.next_hop == lan.ipv4("a")


async def test_a_neighbour_far_above_its_limit_is_closed_and_says_why(lan: Lan, directory: Path) -> None:
    """So that a whole table does not fill our memory (RFC 4486: Cease/1)."""
    limited = neighbor(lan, "a", imports=ImportPolicy(accept=ANY, max_prefixes=1))
    flood = [route(lan, "a", network) for network in ip_network("198.18.0.0/16").subnets(new_prefix=24)]
    async with running(lan, directory) as engine:
        with bird(lan, "a", *flood), bird(lan, "b") as b:
            await engine.apply(speaker(lan, limited, neighbor(lan, "b")))

            async def closed() -> bool:
                views = {view.name: view for view in await engine.sessions()}
                return "more prefixes" in views["a"].detail

            await eventually_async(closed)
            await up(engine, "b")
            await holds(b)


async def test_what_is_above_a_limit_stays_refused_when_the_daemon_changes(lan: Lan, directory: Path) -> None:
    """Nothing moves: neither what is refused nor what was there first."""
    limited = neighbor(lan, "a", imports=ImportPolicy(accept=ANY, max_prefixes=1))
    wanted = speaker(lan, limited, neighbor(lan, "b"))
    async with running(lan, directory) as engine:
        with bird(lan, "a", route(lan, "a", TWO)) as a, bird(lan, "b") as b:
            await engine.apply(wanted)
            await holds(b, TWO)
            a.announce(route(lan, "a", TWO), route(lan, "a", THREE))

            async def refused() -> bool:
                return {view.prefix: view.reason for view in await engine.routes()} == {
                    TWO: None,
                    THREE: Reason.MAX_PREFIXES,
                }

            await eventually_async(refused)
            async with engine._lock:  # the excess is known a moment before gobgpd is told
                await holds(b, TWO)
            await engine.close(stop=False)
            heir = engine_at(lan, directory)
            before = (directory / "gobgpd.digests").read_text()
            await heir.apply(wanted)
            assert (directory / "gobgpd.digests").read_text() == before
            assert {view.reason for view in await heir.routes(prefix=THREE)} == {Reason.MAX_PREFIXES}
            await heir.close(stop=False)


async def test_a_transparent_speaker_that_announces_is_refused(lan: Lan, directory: Path) -> None:
    """Gobgpd would take the routes and send them to nobody."""
    async with running(lan, directory) as engine:
        with pytest.raises(InternalError, match="cannot announce"):
            await engine.apply(speaker(lan, announcements=(Announcement(ONE),)))
        assert engine._process.pid is None


async def test_a_speaker_that_cannot_start_says_why_and_the_next_one_can(lan: Lan, directory: Path) -> None:
    """Nothing half-made stays behind."""
    async with running(lan, directory) as engine:
        with pytest.raises(EngineError, match="cannot assign requested address"):
            await engine.apply(speaker(lan, listen=(ip_address("192.0.2.250"),)))
        assert engine._process.pid is None
        with bird(lan, "a"):
            await engine.apply(speaker(lan, neighbor(lan, "a")))
            await up(engine, "a")
