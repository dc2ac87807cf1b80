"""The daemon on a kernel and engines in memory: what it does, in which order, and what it survives."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from appliance.control import blocks, daemon, dirty
from appliance.kernel.conntrack_codec import CtEntry, CtTuple
from appliance.model.errors import EngineError, InternalError, KernelError, OperatorError
from appliance.model.facts import HOST, Compose, Namespace, NftSet, NftTable
from appliance.model.intent import Intent
from appliance.model.load import parse
from appliance.state.diff import Plan
from routing.bgp.values import Speaker
from routing.engines.engine import Lost, Synced
from services.health import Target
from tests.support.fake_engine import best
from tests.support.fake_node import FakeNode, quiet_vpc
from tests.support.intents import Tree, bare, changed, one_vpc, pair, to_yaml
from tests.support.waiting import eventually_async

RED = Namespace("vpc-red")
#: What other nodes of `pair` announce, as host h1 hears it.
WEB, WEB_AT_H2 = "203.0.113.80", "fd00:ed9e:0:2:cb00:7150:c:0/112"
OUTSIDE = best("198.51.100.0/24", "10.0.0.21")
OTHER = best("198.51.101.0/24", "10.0.0.21")
GUEST_R2 = best("fd00:ed9e:0:3:ac10:10c:65:0/112", "fd00:fab::12")
MEMBER_H2 = best(WEB_AT_H2, "fd00:fab::12")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass quickly."""
    monkeypatch.setattr(daemon, "TICK", 0.02)
    monkeypatch.setattr(dirty, "LEAST_PAUSE", 0.01)
    monkeypatch.setattr(blocks, "SETTLE", 0.05)
    monkeypatch.setattr(dirty, "FIRST_PAUSE", 0.02)


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    """Give host h1 with a running daemon and no intent."""
    async with FakeNode("h1") as node:
        yield node


@pytest.fixture
async def loaded(node: FakeNode) -> FakeNode:
    """Give host h1 with one VPC, in rest, its journal empty."""
    await node.load()
    await _rest(node)
    return node


async def _rest(node: FakeNode) -> None:
    """Wait until nothing is marked any more, and empty the journal."""
    await eventually_async(lambda: not node.daemon.dirty.event.is_set(), what="nothing is out of date")
    node.journal.clear()


def healthy(tree: Tree) -> Tree:
    """Return a tree whose VIP is checked often and judged at once."""
    return changed(tree, "vpcs.red.vips.web.health", {"interval": 0.1, "rise": 1, "fall": 1})


def first(node: FakeNode, name: str) -> int:
    """Return where in the journal something was done first."""
    return node.done().index(name)


# -- intents ----------------------------------------------------------------------------------------------------------


async def test_an_intent_is_in_the_kernel_before_anything_is_announced(node: FakeNode) -> None:
    """Nobody may be sent here for what is not in place."""
    outcome = await node.load()
    assert outcome.changed["namespaces"] == 1
    assert not outcome.pending
    assert node.done()[-1] == "engine router"
    assert node.done().count("engine router") == 1
    assert {f"{WEB}/32", "203.0.113.11/32", "10.255.0.11/32"} <= node.engine().announced


async def test_withdrawals_leave_before_the_kernel_changes(loaded: FakeNode) -> None:
    """Whoever still sends here must be told first."""
    await loaded.load(pair())
    done = loaded.done()
    assert done[0] == "engine router"
    assert "namespaces" in done[1:]
    told = loaded.journal[0][1]
    assert isinstance(told, Speaker)
    assert {str(a.prefix) for a in told.announcements} == {"10.255.0.11/32", "fd00:ff::11/128"}
    assert not loaded.world.namespaces


async def test_the_same_intent_again_touches_nothing(loaded: FakeNode) -> None:
    """A reload must be harmless, however often."""
    loaded.daemon.tasks.start("bystander", asyncio.Event().wait)  # type: ignore[arg-type] # never returns
    outcome = await loaded.load()
    assert outcome.changed == {}
    assert loaded.journal == []
    assert "bystander" in loaded.daemon.tasks.names()


async def test_an_intent_without_anything_to_check_leaves_every_task_running(node: FakeNode) -> None:
    """Stopping no task by name must not be taken for stopping all."""
    await node.load(pair())
    await node.load(changed(pair(), "zone.name", "az2"))
    assert {"tick", "watch links", "engine router"} <= node.daemon.tasks.names()


async def test_a_wrong_intent_gives_every_finding_and_changes_nothing(loaded: FakeNode) -> None:
    """What runs, runs on."""
    wrong = changed(changed(quiet_vpc(), "zone.as", "many"), "vpcs.red.id", 0)
    with pytest.raises(OperatorError) as caught:
        await loaded.load(wrong)
    assert len(caught.value.findings) == 2
    assert all(finding.line > 1 for finding in caught.value.findings)
    assert loaded.journal == []
    assert loaded.daemon.intent is not None
    assert "red" in loaded.daemon.intent.vpcs


async def test_an_intent_without_this_node_is_refused(loaded: FakeNode) -> None:
    """It is valid, but not for us."""
    with pytest.raises(OperatorError, match="has no node h1"):
        await loaded.load(bare())
    assert loaded.journal == []


async def test_an_intent_that_cannot_be_compiled_is_not_committed(
    loaded: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours must not replace what works."""
    number = loaded.daemon.history.running
    monkeypatch.setattr(daemon, "surroundings", _raise)
    with pytest.raises(InternalError, match="nothing was changed"):
        await loaded.load(pair())
    assert loaded.daemon.history.running == number
    assert loaded.journal == []


def _raise(*_: object) -> None:
    raise ZeroDivisionError


async def test_rollback_runs_the_previous_intent(loaded: FakeNode) -> None:
    """And another rollback undoes the first."""
    await loaded.load(pair())
    assert not loaded.world.namespaces
    await loaded.daemon.rollback()
    assert loaded.world.namespaces == {RED}
    await loaded.daemon.rollback()
    assert not loaded.world.namespaces


async def test_draining_touches_policies_and_nothing_else(loaded: FakeNode) -> None:
    """The kernel goes on forwarding; sessions and announcements of a host stay; undone, all is as before."""
    before = loaded.daemon.speakers.told
    await loaded.daemon.drain(ordered=True)
    (drained,) = loaded.daemon.speakers.told
    assert [n.exports for n in drained.neighbors] != [n.exports for n in before[0].neighbors]
    assert (drained.announcements, [n.name for n in drained.neighbors]) == (
        before[0].announcements,
        [n.name for n in before[0].neighbors],
    )
    assert not [name for name, what in loaded.journal if isinstance(what, Plan)]
    await loaded.restart()
    await loaded.load()
    assert loaded.daemon.speakers.told == (drained,)
    await loaded.daemon.drain(ordered=False)
    assert loaded.daemon.speakers.told == before


async def test_without_an_intent_there_is_nothing_to_drain(node: FakeNode) -> None:
    """Said, and nothing is kept for later."""
    with pytest.raises(OperatorError, match="no intent"):
        await node.daemon.drain(ordered=True)
    assert not node.daemon.order.ordered


async def test_of_two_reloads_at_once_each_is_answered_and_the_later_one_stands(loaded: FakeNode) -> None:
    """Two people, or a person and a signal."""
    other = changed(quiet_vpc(), "vpcs.red.snat.address", "203.0.113.9")
    await asyncio.gather(loaded.load(pair()), loaded.load(other))
    assert loaded.daemon.intent is not None
    assert loaded.daemon.intent.vpcs["red"].snat is not None
    running, previous = loaded.daemon.history.running, loaded.daemon.history.previous
    assert running is not None
    assert previous is not None
    assert (previous.text, running.text) == (to_yaml(pair()), to_yaml(other))
    assert (previous.number, running.number) == (2, 3)
    assert loaded.world.namespaces == {RED}


async def test_what_ran_before_runs_when_the_file_is_wrong(loaded: FakeNode) -> None:
    """A typing error must not take a restarted node out of service."""
    await loaded.restart()
    wrong = OperatorError.of("line 7 is wrong")
    await loaded.daemon.resume(wrong)
    assert loaded.daemon.intent is not None
    assert "line 7 is wrong" in loaded.daemon.notice
    assert loaded.engine().announced
    await loaded.load(pair())
    assert loaded.daemon.notice == ""


async def test_without_anything_that_ran_before_a_wrong_file_stays_an_error(node: FakeNode) -> None:
    """There is nothing to run."""
    with pytest.raises(OperatorError, match="line 7 is wrong"):
        await node.daemon.resume(OperatorError.of("line 7 is wrong"))
    assert node.daemon.intent is None


async def test_a_stored_intent_that_is_wrong_by_now_does_not_hide_the_files_error(loaded: FakeNode) -> None:
    """A newer version may refuse what an older one took; the operator mends the file."""
    row = loaded.store.get("intent")
    assert row is not None
    loaded.store.put("intent", row[0].replace("gateway", "portal"))
    await loaded.restart()
    with pytest.raises(OperatorError, match="line 7 is wrong"):
        await loaded.daemon.resume(OperatorError.of("line 7 is wrong"))


# -- plans ------------------------------------------------------------------------------------------------------------


async def test_a_plan_tells_what_would_change_and_changes_nothing(loaded: FakeNode) -> None:
    """It is the plan that a reload would carry out."""
    assert loaded.daemon.intent is not None
    plans, _ = loaded.daemon.plan(loaded.daemon.intent)
    assert not any(plans.values())
    plans, desired = loaded.daemon.plan(daemon_intent(pair()))
    assert [str(change.fact.key) for change in plans["namespaces"].of("delete")] == ["vpc-red"]
    assert desired.speakers[0].announcements != loaded.engine().speaker.announcements
    assert loaded.journal == []


def daemon_intent(tree: Tree) -> Intent:
    """Parse."""
    return parse(to_yaml(tree))


async def test_a_plan_for_an_intent_without_this_node_is_refused(loaded: FakeNode) -> None:
    """As the reload would be."""
    with pytest.raises(OperatorError, match="has no node h1"):
        loaded.daemon.plan(daemon_intent(bare()))


async def test_a_plan_counts_the_routes_that_best_paths_would_make_in_the_new_surroundings(loaded: FakeNode) -> None:
    """A guest elsewhere is a route in the VPC's namespace, and goes with the VPC."""
    loaded.engine().push(GUEST_R2, OUTSIDE, Synced())
    await eventually_async(lambda: "172.16.1.12/32" in loaded.bgp_routes())
    plans, _ = loaded.daemon.plan(daemon_intent(pair()))
    gone = {str(change.fact.destination) for change in plans["routes"].of("delete")}
    assert "172.16.1.12/32" in gone
    assert "198.51.100.0/24" not in gone


# -- BGP --------------------------------------------------------------------------------------------------------------


async def test_best_paths_become_routes_without_a_compile(loaded: FakeNode) -> None:
    """The short way: what changed is what is touched."""
    loaded.engine().push(Synced())
    await eventually_async(lambda: loaded.daemon.converged)
    await _rest(loaded)
    revision = loaded.daemon.revision
    loaded.engine().push(OUTSIDE, OTHER)
    await eventually_async(lambda: len(loaded.bgp_routes()) == 2)
    loaded.engine().push(best("198.51.100.0/24", None), best("198.51.101.0/24", "10.0.0.12"))
    await eventually_async(lambda: loaded.bgp_routes() == {"198.51.101.0/24": "10.0.0.12"})
    assert loaded.daemon.revision == revision


async def test_on_a_route_server_best_paths_become_nothing() -> None:
    """It moves no packets, and its machine needs no routes of others."""
    async with FakeNode("rs1") as node:
        await node.load(bare())
        for name in ("zone", "exchange"):
            node.engine(name).push(OUTSIDE, MEMBER_H2, Synced())
        await eventually_async(lambda: all(s.synced for s in node.daemon.speakers.running.values()))
        assert node.bgp_routes() == {}
        assert node.daemon.fib is not None
        assert node.daemon.fib.best == {}


async def test_members_of_a_vip_are_what_bgp_tells(loaded: FakeNode) -> None:
    """A flow of a gateway or host is carried to one of them."""
    loaded.engine().push(MEMBER_H2, Synced())
    await eventually_async(lambda: loaded.members() == {WEB: (12,)})
    loaded.engine().push(best(WEB_AT_H2, None))
    await eventually_async(lambda: loaded.members() == {})


async def test_what_an_earlier_daemon_left_stays_until_bgp_has_told_everything(loaded: FakeNode) -> None:
    """A restart must not change forwarding: neither when it starts nor while the table comes in."""
    loaded.engine().push(OUTSIDE, OTHER, GUEST_R2, MEMBER_H2, Synced())
    await eventually_async(lambda: loaded.members() == {WEB: (12,)} and len(loaded.bgp_routes()) == 4)
    before = loaded.bgp_routes()
    await loaded.restart()
    loaded.journal.clear()
    await loaded.load()
    assert loaded.bgp_routes() == before
    assert loaded.members() == {WEB: (12,)}
    assert not loaded.touched("compose")
    loaded.engine().push(OUTSIDE)
    loaded.daemon.dirty.compile()
    await _rest(loaded)
    assert loaded.bgp_routes() == before
    assert loaded.members() == {WEB: (12,)}
    loaded.engine().push(Synced())
    await eventually_async(lambda: loaded.bgp_routes() == {"198.51.100.0/24": "10.0.0.21"})
    await eventually_async(lambda: loaded.members() == {})


async def test_routes_of_a_vpc_that_went_while_no_daemon_ran_do_not_wait_for_bgp(loaded: FakeNode) -> None:
    """They go with its namespace; nothing is left to be refused."""
    loaded.engine().push(GUEST_R2, Synced())
    await eventually_async(lambda: "172.16.1.12/32" in loaded.bgp_routes())
    await loaded.restart()
    outcome = await loaded.load(pair())
    assert outcome.pending == ()
    assert loaded.bgp_routes() == {}


async def test_a_lost_engine_changes_nothing_until_it_has_told_everything_again(loaded: FakeNode) -> None:
    """Forwarding goes on while gobgpd restarts (RFC 4724)."""
    loaded.engine().push(OUTSIDE, OTHER, MEMBER_H2, Synced())
    await eventually_async(lambda: len(loaded.bgp_routes()) == 3)
    loaded.engine().push(Lost("killed"))
    await eventually_async(lambda: loaded.daemon.engine_details() == {"router": "killed"})
    assert not loaded.daemon.converged
    loaded.daemon.dirty.compile()
    loaded.engine().push(OTHER, MEMBER_H2)
    await _rest(loaded)
    assert len(loaded.bgp_routes()) == 3
    loaded.engine().push(Synced())
    await eventually_async(lambda: loaded.daemon.converged)
    assert set(loaded.bgp_routes()) == {"198.51.101.0/24", WEB_AT_H2}
    assert loaded.members() == {WEB: (12,)}


async def test_what_one_batch_tells_is_taken_in_its_order(loaded: FakeNode) -> None:
    """Lost, everything anew and Synced may come at once: what was named anew stays."""
    loaded.engine().push(OUTSIDE, OTHER, Synced())
    await eventually_async(lambda: len(loaded.bgp_routes()) == 2)
    loaded.engine().push(Lost("killed"), OTHER, Synced())
    await eventually_async(lambda: loaded.bgp_routes() == {"198.51.101.0/24": "10.0.0.21"})


async def test_a_route_that_comes_and_goes_in_one_batch_is_not_left_behind(loaded: FakeNode) -> None:
    """The port is told the difference: it may apply creations after deletions."""
    loaded.engine().push(OUTSIDE, best("198.51.100.0/24", "10.0.0.12"), best("198.51.100.0/24", None), OTHER, Synced())
    await eventually_async(lambda: loaded.bgp_routes() == {"198.51.101.0/24": "10.0.0.21"})
    assert [str(fact.destination) for fact in loaded.touched("routes")] == ["198.51.101.0/24"]  # type: ignore[union-attr]


async def test_a_stream_that_breaks_is_begun_again_and_forgets_what_is_not_named_anew(loaded: FakeNode) -> None:
    """What was withdrawn in between was told to nobody."""
    loaded.engine().push(OUTSIDE, OTHER, Synced())
    await eventually_async(lambda: len(loaded.bgp_routes()) == 2)
    loaded.engine().fail(EngineError("the stream broke"))
    await eventually_async(lambda: not loaded.daemon.speakers.running["router"].synced)
    loaded.engine().push(OTHER, Synced())
    await eventually_async(lambda: loaded.bgp_routes() == {"198.51.101.0/24": "10.0.0.21"})
    assert loaded.engine().listeners == 1


async def test_an_engine_that_refuses_is_told_again_until_it_takes_the_speaker(node: FakeNode) -> None:
    """The reload is answered at once, and the engine follows."""
    node.room.refusals = [EngineError("busy"), EngineError("busy"), EngineError("busy")]
    await node.load()
    assert node.daemon.engine_details() == {"router": "busy"}
    assert not node.daemon.converged
    await eventually_async(lambda: node.engine().announced, what="the engine is told again")
    assert node.daemon.engine_details() == {}


async def test_another_kind_of_engine_takes_over_and_nothing_is_forgotten(loaded: FakeNode) -> None:
    """Routes stand until the new one has told everything."""
    loaded.engine().push(OUTSIDE, OTHER, Synced())
    await eventually_async(lambda: len(loaded.bgp_routes()) == 2)
    old = loaded.engine()
    await loaded.load(changed(quiet_vpc(), "nodes.h1.engine", "exabgp"))
    assert old.ended
    assert len(loaded.bgp_routes()) == 2
    new = loaded.engine(kind="exabgp")
    assert new.announced == old.announced
    new.push(OTHER, Synced())
    await eventually_async(lambda: set(loaded.bgp_routes()) == {"198.51.101.0/24"})


async def test_a_node_that_becomes_a_route_server_ends_its_router_and_drops_its_routes(loaded: FakeNode) -> None:
    """What best paths made belongs to a role it no longer has."""
    loaded.engine().push(OUTSIDE, Synced())
    await eventually_async(lambda: len(loaded.bgp_routes()) == 1)
    await loaded.load(changed(pair(), "nodes.h1.roles", ["route-server"]))
    assert loaded.engine().ended
    assert loaded.bgp_routes() == {}
    assert loaded.engine("zone").speaker.neighbors


async def test_stopping_the_daemon_leaves_engines_and_kernel_as_they_are() -> None:
    """They are adopted by the next one."""
    async with FakeNode("h1") as node:
        await node.load()
        namespaces, engine = set(node.world.namespaces), node.engine()
    assert not engine.ended
    assert engine.listeners == 0
    assert node.world.namespaces == namespaces
    assert node.done()[-1] == "close router"


# -- health and port blocks -------------------------------------------------------------------------------------------


def _targets(node: FakeNode) -> set[Target]:
    return set(node.daemon.checker._verdicts)


async def test_a_vip_without_a_healthy_backend_is_withdrawn_and_comes_back(loaded: FakeNode) -> None:
    """Its address and this host's composed prefix go before the kernel stops translating, and come after it starts."""
    await loaded.load(healthy(one_vpc()))
    await _rest(loaded)
    vip = {f"{WEB}/32", "fd00:ed9e:0:2:cb00:7150:b:0/112"}
    assert vip <= loaded.engine().announced
    assert {target.guest for target in _targets(loaded)} == {"r1", "r3"}
    loaded.dead |= _targets(loaded)
    await eventually_async(lambda: not vip & loaded.engine().announced, what="the VIP is withdrawn")
    await eventually_async(lambda: "nft" in loaded.done())
    assert first(loaded, "engine router") < first(loaded, "nft")
    assert loaded.engine().announced
    await _rest(loaded)
    loaded.dead.clear()
    await eventually_async(lambda: vip <= loaded.engine().announced, what="the VIP is back")
    assert first(loaded, "nft") < first(loaded, "engine router")


async def test_one_dead_backend_of_two_is_only_left_out(loaded: FakeNode) -> None:
    """The VIP is still served here."""
    await loaded.load(healthy(one_vpc()))
    loaded.dead = {target for target in _targets(loaded) if target.guest == "r1"}
    await eventually_async(lambda: _backends(loaded) == {"172.16.1.13"}, what="r1 is left out")
    assert f"{WEB}/32" in loaded.engine().announced


def _backends(node: FakeNode) -> set[str]:
    """Return the addresses that the VIP's buckets have."""
    (found,) = (f for f in node.world.nft.values() if isinstance(f, NftSet) and (f.ns, f.name) == (RED, "backends"))
    return {element.split(" : ")[1].split(" . ")[0] for element in found.elements}


async def test_a_port_block_is_announced_before_it_is_used(loaded: FakeNode) -> None:
    """Replies to its ports must find the way here before the first flow uses one."""
    await loaded.load(changed(quiet_vpc(), "vpcs.red.snat", {"address": "203.0.113.1", "block": 64, "watermark": 0.5}))
    await _rest(loaded)
    before = loaded.engine().announced
    (low,) = {int(line.split(":")[-1].split("-")[0]) for line in _snat(loaded)}
    for port in range(low, low + 33):
        loaded.conntrack.add(RED, flow(port))
    await eventually_async(lambda: len(loaded.engine().announced) == len(before) + 1, what="a block is announced")
    assert f":{low}-" in _snat(loaded)[0]
    await eventually_async(lambda: f":{low}-" not in _snat(loaded)[0], what="the new block is used")
    assert loaded.engine().announced > before
    assert loaded.daemon.blocks.taken(loaded.daemon.intent, "h1") == {"red": (0, 1)}  # type: ignore[arg-type]


def _snat(node: FakeNode) -> list[str]:
    (body,) = (f.body for f in node.world.nft.values() if isinstance(f, NftTable) and f.ns == RED)
    return [line for line in body.splitlines() if "snat ip to 203.0.113.1:" in line]


def flow(port: int) -> CtEntry:
    """Return a flow of guest r1 that is translated to a port."""
    out, back = IPv4Address("172.16.1.11"), IPv4Address("203.0.113.1")
    far = IPv4Address("198.51.100.10")
    return CtEntry(6, CtTuple(out, far, 30000 + port, 80), CtTuple(far, back, 80, port))


# -- the kernel -------------------------------------------------------------------------------------------------------


async def test_what_the_kernel_refuses_for_now_is_tried_again(node: FakeNode) -> None:
    """The reload says what waits; later it is done."""
    node.ports["compose"].refusals = [errno.EBUSY] * 6
    outcome = await node.load()
    assert [type(failure.fact) for failure in outcome.pending] == [Compose]
    await eventually_async(lambda: node.world.composes, what="it is tried again")
    await eventually_async(lambda: node.daemon.outcome.done)


async def test_what_the_kernel_refuses_for_good_stays_pending(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another subsystem that is read again does not make it forgotten."""
    monkeypatch.setattr(dirty, "LONGEST_PAUSE", 3600)
    node.ports["compose"].refusals = [errno.EINVAL] * 1000
    await node.load()
    await _deafen(node)
    node.daemon.dirty.look(("links",))
    await _rest(node)
    assert [type(failure.fact) for failure in node.daemon.pending()] == [Compose]
    assert not node.daemon.converged


async def test_a_late_device_is_taken_when_it_appears() -> None:
    """Guests may be started after the daemon; their port is moved into the VPC with all that belongs to it."""
    async with FakeNode("h1", outside=("eth1",)) as node:
        outcome = await node.load()
        assert {getattr(f.fact, "name", "") for f in outcome.pending} == {"tap11", "tap13"}
        node.world.outside |= {"tap11", "tap13"}
        node.world.changed()
        await eventually_async(lambda: node.daemon.outcome.done, what="the devices are taken")
        assert {(RED, "tap11"), (RED, "tap13")} <= node.world.links.keys()


async def test_a_fabric_port_that_comes_late_gets_its_addresses_and_routes() -> None:
    """The addresses were refused with it, and so were the routes that BGP taught meanwhile."""
    async with FakeNode("h1", outside=()) as node:
        await node.load(pair())
        node.engine().push(OUTSIDE, Synced())
        await eventually_async(lambda: node.daemon.speakers.running["router"].synced)
        assert node.bgp_routes() == {}
        node.world.outside.add("eth1")
        node.world.changed()
        await eventually_async(lambda: node.daemon.converged, what="everything is in place")
        assert node.bgp_routes() == {"198.51.100.0/24": "10.0.0.21"}
        assert {str(entry.key[2]) for entry in node.world.entries.values() if entry.link == "eth1"} == {  # type: ignore[index]
            "10.0.0.11/24",
            "fd00:fab::11/64",
        }


async def test_what_somebody_else_destroys_is_made_again(loaded: FakeNode) -> None:
    """A device takes along what is on it; all of it comes back."""
    loaded.engine().push(OUTSIDE, GUEST_R2, Synced())
    await eventually_async(lambda: len(loaded.bgp_routes()) == 2)
    everything = _everything(loaded)
    loaded.world.remove_namespace(RED)
    loaded.world.changed()
    assert _everything(loaded) != everything
    await eventually_async(lambda: _everything(loaded) == everything, what="the namespace is whole again")


async def test_what_is_made_anew_is_looked_at_with_all_that_was_in_it(loaded: FakeNode) -> None:
    """Even if the kernel tells of the namespace alone."""
    everything = _everything(loaded)
    await _deafen(loaded)
    loaded.world.remove_namespace(RED)
    loaded.daemon.dirty.look(("namespaces",))
    await eventually_async(lambda: _everything(loaded) == everything, what="the namespace is whole again")


async def _deafen(node: FakeNode) -> None:
    """Keep from the daemon what the kernel tells, and from its clock what is pending."""
    await node.daemon.tasks.stop("tick", *(f"watch {name}" for name in node.ports))
    await _rest(node)


def _everything(node: FakeNode) -> tuple[frozenset[object], ...]:
    return tuple(port.port.read() for port in node.ports.values())


async def test_a_read_that_fails_is_told_to_who_waits_and_done_again(node: FakeNode) -> None:
    """A reload must never wait for ever."""
    node.ports["nft"].broken = [KernelError("nft", "list", errno.EIO)]
    with pytest.raises(KernelError, match="nft: list"):
        await node.load()
    await eventually_async(lambda: node.daemon.revision, what="the daemon converges by itself")
    assert node.engine().announced


async def test_a_bug_is_told_to_who_waits_and_does_not_end_the_daemon(node: FakeNode) -> None:
    """It is ours, and says so."""
    node.ports["links"].broken = [ZeroDivisionError("oops")]
    with pytest.raises(InternalError, match="oops"):
        await node.load()
    await eventually_async(lambda: node.daemon.revision)
    assert node.world.namespaces == {RED}


async def test_after_a_change_that_broke_off_halfway_the_rest_is_done(loaded: FakeNode) -> None:
    """What stands in the kernel is not known then, so it is read."""
    blue = changed(quiet_vpc(), "vpcs.blue", {"id": 102, "subnet": "172.16.1.0/24", "guests": {"b1": _guest()}})
    await _deafen(loaded)
    loaded.ports["nft"].bursting = [OSError("gone")]
    with pytest.raises(InternalError):
        await loaded.load(blue)
    await eventually_async(lambda: _tables(loaded) == {"vpc-red", "vpc-blue"}, what="the other VPC has its table")
    await eventually_async(lambda: loaded.daemon.outcome.done)


def _guest() -> Tree:
    return {"host": "h1", "interface": "tap21", "address": "172.16.1.21"}


def _tables(node: FakeNode) -> set[str]:
    return {str(fact.ns) for fact in node.world.nft.values() if isinstance(fact, NftTable)}


async def test_a_route_that_was_refused_is_not_pending_once_it_is_taken(loaded: FakeNode) -> None:
    """Pending is what the kernel does not have, not what it once refused."""
    loaded.engine().push(Synced())
    await eventually_async(lambda: loaded.daemon.converged)
    loaded.ports["routes"].refusals = [errno.EINVAL]
    loaded.engine().push(OUTSIDE)
    await eventually_async(loaded.daemon.pending, what="the route is refused")
    loaded.engine().push(best("198.51.100.0/24", "10.0.0.12"))
    await eventually_async(lambda: loaded.bgp_routes() == {"198.51.100.0/24": "10.0.0.12"})
    assert loaded.daemon.pending() == ()


async def test_a_withdrawn_route_is_deleted_by_one_change(loaded: FakeNode) -> None:
    """Cost follows the change, not the table."""
    many = [best(f"198.{n // 250}.{n % 250}.0/24", "10.0.0.21") for n in range(500)]
    loaded.engine().push(*many, Synced())
    await eventually_async(lambda: len(loaded.bgp_routes()) == 500)
    await eventually_async(lambda: loaded.daemon.converged)
    await _rest(loaded)
    loaded.engine().push(best("198.0.7.0/24", None))
    await eventually_async(lambda: len(loaded.bgp_routes()) == 499)
    (plan,) = (plan for name, plan in loaded.journal if name == "routes")
    assert isinstance(plan, Plan)
    assert [(c.operation, c.fact.ns, c.fact.destination) for c in plan.changes] == [
        ("delete", HOST, IPv4Network("198.0.7.0/24"))
    ]


async def test_a_wire_opens_when_its_engine_stands_and_tells_one_side_of_the_other() -> None:
    """A port without carrier takes its partner down; both come back with it; a restart changes nothing."""
    edge, ports = Namespace("inl-dmz"), {"eth5", "eth6"}
    async with FakeNode("h1") as node:

        def up() -> set[str]:
            links = node.world.links.values()
            return {link.name for link in links if link.ns == edge and link.kind == "physical" and link.up}

        node.world.outside |= ports
        engine = {
            "bridges": {"a": {"north": "eth5", "south": "eth6", "engine": "main"}},
            "engines": {"main": {"id": 1}},
        }
        await node.load(pair() | {"inline": {"dmz": {"id": 1, "host": "h1"} | engine}})
        await eventually_async(lambda: up() == ports, what="the wire opens")
        node.world.down.add((edge, "eth5"))
        node.world.changed()
        await eventually_async(lambda: up() == {"eth5"}, what="the other side is taken down")
        node.world.down.clear()
        node.world.changed()
        await eventually_async(lambda: up() == ports, what="both are up")
        await node.restart()
        assert up() == ports
