"""What the daemon shows, as plain JSON values."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from appliance.kernel.conntrack_codec import CtEntry, CtTuple
from appliance.model.errors import EngineError, OperatorError
from appliance.model.facts import Namespace
from appliance.panel.views import VIEWS, plan, plan_rows, show, speaker_rows
from routing.bgp.values import Announcement, Attributes, Mode, Neighbor, Reason, Segment, SegmentType, Speaker
from routing.engines.engine import RouteView, SessionState, SessionView, Synced
from services.health import Target
from tests.support.fake_engine import best
from tests.support.fake_node import FakeNode, quiet_vpc
from tests.support.intents import bare, changed, intent, one_vpc, pair
from tests.support.waiting import eventually_async

RED = Namespace("vpc-red")
RS1 = SessionView("rs1/fabric/ipv4", IPv4Address("10.0.0.1"), 64512, SessionState.ESTABLISHED, (), 12.6, 5, 4, 3)
OUTSIDE = IPv4Network("198.51.100.0/24")
PATH = Attributes(
    IPv4Address("10.0.0.21"),
    as_path=(Segment(SegmentType.SEQUENCE, (65101, 65102)),),
    med=10,
    local_pref=100,
    communities=((64512, 100),),
    large_communities=((64512, 1, 2),),
)


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    """Give host h1 with one VPC, synced, with one session of two that is up."""
    async with FakeNode("h1") as node:
        await node.load()
        node.engine().push(best("198.51.100.0/24", "10.0.0.21"), Synced())
        await eventually_async(lambda: node.daemon.converged)
        node.engine().neighbors = (RS1,)
        yield node


async def ask(node: FakeNode, name: str, **options: str) -> Any:
    """Return a view as a client gets it: through JSON."""
    return json.loads(json.dumps(await show(node.daemon, name, options)))


async def test_status_says_that_everything_agrees(node: FakeNode) -> None:
    """Intent, kernel, sessions and routes in one look."""
    row = await ask(node, "status")
    assert row["node"] == "h1"
    assert row["converged"] is True
    assert row["intent"] == {"file": "intent.yaml", "number": 1}
    assert row["sessions"] == {"established": 1, "configured": 1}
    assert row["synced"] == {"router": True}
    assert (row["routes"], row["pending"], row["engines"], row["notice"]) == (1, [], {}, "")


async def test_status_of_a_node_without_an_intent_is_not_converged() -> None:
    """Nothing is pending, but nothing is right either."""
    async with FakeNode("h1") as node:
        row = await ask(node, "status")
    assert row["converged"] is False
    assert row["intent"] is None


async def test_a_session_that_is_down_is_not_converged(node: FakeNode) -> None:
    """Whatever the kernel says."""
    node.engine().neighbors = (RS1, replace(RS1, name="rs1/fabric/ipv6", state=SessionState.ACTIVE))
    row = await ask(node, "status")
    assert row["converged"] is False
    assert row["sessions"] == {"established": 1, "configured": 2}


async def test_what_is_pending_stands_in_words(node: FakeNode) -> None:
    """Which object, what the kernel said, and whether it can pass."""
    node.ports["namespaces"].refusals = [22] * 99
    await node.load(changed(quiet_vpc(), "vpcs.blue", {"id": 102, "subnet": "10.9.0.0/24", "guests": {"b1": _guest()}}))
    row = await ask(node, "status")
    assert {"object": "namespace vpc-blue", "error": "namespaces: refused: Invalid argument", "retry": False} in row[
        "pending"
    ]
    assert row["converged"] is False


def _guest() -> dict[str, str]:
    return {"host": "h1", "interface": "tap21", "address": "10.9.0.21"}


async def test_nodes_of_the_zone_by_name(node: FakeNode) -> None:
    """With a mark at the one that is asked."""
    rows = await ask(node, "nodes")
    assert [row["node"] for row in rows] == ["gw1", "h1", "h2", "rs1"]
    assert [row["node"] for row in rows if row["here"]] == ["h1"]
    assert rows[1]["fabric"] == "10.0.0.11/24"


async def test_without_an_intent_the_views_of_one_say_so() -> None:
    """The daemon has just started, or never got one."""
    async with FakeNode("h1") as node:
        for name in ("nodes", "vpcs", "flows", "plan"):
            with pytest.raises(OperatorError, match="no intent is installed yet"):
                await show(node.daemon, name, {})


async def test_neighbors_are_sessions_with_their_counts(node: FakeNode) -> None:
    """Uptime in whole seconds."""
    (row,) = await ask(node, "neighbors")
    assert row == {
        "speaker": "router",
        "neighbor": "rs1/fabric/ipv4",
        "address": "10.0.0.1",
        "as": 64512,
        "state": "established",
        "uptime": 13,
        "received": 5,
        "accepted": 4,
        "advertised": 3,
        "detail": "",
    }


async def test_an_engine_that_does_not_answer_is_a_row_of_its_own() -> None:
    """The other speaker of a route server is shown all the same."""
    async with FakeNode("rs1") as node:
        await node.load(bare())
        node.engine("zone").lost = EngineError("gobgpd does not run")
        node.engine("exchange").neighbors = (RS1,)
        node.engine("exchange").paths = (RouteView(OUTSIDE, "up1/ipv4", IPv4Address("192.0.2.101"), PATH),)
        neighbors, routes = await ask(node, "neighbors"), await ask(node, "routes")
    assert [(row["speaker"], row["state"]) for row in neighbors] == [
        ("exchange", "established"),
        ("zone", "engine lost"),
    ]
    assert [row["speaker"] for row in routes] == ["exchange", "zone"]
    assert "gobgpd does not run" in routes[1]["why"]


async def test_routes_show_attributes_and_why_a_path_was_refused(node: FakeNode) -> None:
    """The reason by its number, which scripts know, and its name."""
    refused = RouteView(
        OUTSIDE, "up2/ipv4", IPv4Address("192.0.2.102"), PATH, reason=Reason.BOGON, why="never accepted"
    )
    node.engine().paths = (refused,)
    (row,) = await ask(node, "routes")
    assert row["prefix"] == "198.51.100.0/24"
    assert (row["as-path"], row["next-hop"], row["origin"]) == ("65101 65102", "10.0.0.21", "igp")
    assert (row["communities"], row["large-communities"]) == (["64512:100"], ["64512:1:2"])
    assert row["refused"] == {"number": 3, "name": "BOGON"}
    assert row["best"] is False


async def test_the_route_of_a_prefix_tells_what_became_of_it_in_the_kernel(node: FakeNode) -> None:
    """Only of the path that won."""
    won = RouteView(OUTSIDE, "rs1/fabric/ipv4", IPv4Address("10.0.0.1"), PATH, best=True, why="the only path")
    lost = replace(won, neighbor="rs2/fabric/ipv4", best=False)
    other = replace(won, prefix=IPv4Network("192.0.2.0/24"))
    node.engine().paths = (won, lost, other)
    first, second = await ask(node, "routes", prefix="198.51.100.0/24")
    assert first["fib"] == "installed: via 10.0.0.21 dev eth1"
    assert "fib" not in second
    (row,) = await ask(node, "routes", neighbor="rs2/fabric/ipv4")
    assert row["neighbor"] == "rs2/fabric/ipv4"


async def test_a_prefix_that_is_none_is_the_operators_error(node: FakeNode) -> None:
    """With an example of one."""
    with pytest.raises(OperatorError, match=r"give a prefix like 203.0.113.0/24"):
        await show(node.daemon, "routes", {"prefix": "everything"})


async def test_vpcs_tell_guests_ports_and_who_serves_a_vip_here(node: FakeNode) -> None:
    """With what is down."""
    await node.load(changed(one_vpc(), "vpcs.red.vips.web.health", {"interval": 0.1, "fall": 1}))
    down = Target("red", "r3", IPv4Address("172.16.1.13"), 8080)
    node.dead = {down}
    await eventually_async(lambda: node.daemon.checker.down)
    node.conntrack.add(RED, _flow())
    (row,) = await ask(node, "vpcs")
    assert row["here"] is True
    assert row["guests"] == {"r1": "h1", "r2": "h2", "r3": "h1"}
    assert (row["snat"], row["ports"], row["flows"]) == ("203.0.113.1", ["11264-12287"], 1)
    assert row["vips"] == {"web": {"endpoint": "203.0.113.80:80/tcp", "here": ["r1", "r3 down"]}}


async def test_on_a_gateway_vpcs_are_elsewhere() -> None:
    """It has no guests, and so neither ports nor flows."""
    async with FakeNode("gw1") as node:
        await node.load()
        (row,) = await ask(node, "vpcs")
    assert (row["here"], row["ports"], row["flows"]) == (False, [], 0)
    assert row["vips"]["web"]["here"] == []


def _flow(number: int = 0) -> CtEntry:
    guest, far, shared = (IPv4Address(text) for text in ("172.16.1.11", "198.51.100.10", "203.0.113.1"))
    out, back = CtTuple(guest, far, 40000 + number, 80), CtTuple(far, shared, 80, 11264 + number)
    return CtEntry(6, out, back, zone=1101, timeout=300, tcp_state="established")


async def test_the_plan_of_the_running_intent_is_empty(node: FakeNode) -> None:
    """What is in place is no change."""
    assert await ask(node, "plan") == []


async def test_a_plan_tells_kernel_and_bgp_in_the_order_of_application(node: FakeNode) -> None:
    """Each row says what an object is and, of an update, what it was."""
    rows = await plan(node.daemon, intent(changed(quiet_vpc(), "vpcs.red.guests.r1.host", "h2")))
    objects = {row["object"]: row for row in rows}
    assert objects["link tap11 physical mtu 1500 master ew-lan isolated in vpc-red"]["operation"] == "delete"
    assert objects["announcement 203.0.113.11/32"] == {
        "subsystem": "bgp router",
        "operation": "delete",
        "object": "announcement 203.0.113.11/32",
        "was": None,
    }
    (nft,) = (row for row in rows if row["object"].startswith("nft table"))
    assert (nft["subsystem"], nft["operation"], nft["was"][:9]) == ("nft", "update", "nft table")
    assert [row["subsystem"] for row in rows][-1] == "bgp router"
    assert node.world.links


def test_changes_of_a_speaker_itself_are_part_of_a_plan() -> None:
    """Another AS number ends every session; a plan that hides it would be a trap."""
    old = Speaker("router", Mode.ROUTER, 64512, IPv4Address("10.255.0.1"), ())
    new = replace(
        old,
        asn=64513,
        neighbors=(Neighbor("rs1/fabric/ipv4", 64513),),
        announcements=(Announcement(OUTSIDE),),
    )
    assert [(row["operation"], row["object"]) for row in speaker_rows((old,), (new,))] == [
        ("update", "speaker"),
        ("create", "session rs1/fabric/ipv4"),
        ("create", "announcement 198.51.100.0/24"),
    ]
    assert [(row["operation"], row["object"]) for row in speaker_rows((new,), (replace(new, asn=1),))] == [
        ("update", "speaker")
    ]
    assert [row["operation"] for row in speaker_rows((new,), ())] == ["delete", "delete", "delete"]
    assert speaker_rows((new,), (new,)) == []


async def test_a_plan_counts_the_elements_of_large_sets(node: FakeNode) -> None:
    """Hundreds of elements are no line that anybody reads."""
    rows = await plan(node.daemon, intent(changed(quiet_vpc(), "vpcs.red.vips.web.backends", ["r1"])))
    objects = {row["object"]: row["was"] for row in rows}
    (backends,) = (text for text in objects if text.startswith("nft set backends "))
    assert backends.startswith("nft set backends of 64 elements in vpc-red: ")
    assert objects[backends] == "nft set backends of 64 elements in vpc-red"


async def test_a_plan_where_nothing_stands_creates_everything(node: FakeNode) -> None:
    """As `edgeway plan` shows it without a daemon."""
    plans, desired = node.daemon.plan(intent(pair()))
    rows = plan_rows(plans, desired, ())
    assert {"subsystem": "bgp router", "operation": "create", "object": "speaker", "was": None} in rows


async def test_a_view_or_option_that_does_not_exist_is_the_operators_error(node: FakeNode) -> None:
    """With the names of those that do."""
    with pytest.raises(OperatorError, match="one of status, nodes"):
        await show(node.daemon, "everything", {})
    with pytest.raises(OperatorError, match=r"flows has no option color \(options: vpc, affected-by\)"):
        await show(node.daemon, "flows", {"color": "red"})
    with pytest.raises(OperatorError, match="plan has no option intent"):
        await show(node.daemon, "plan", {"intent": "x"})


async def test_every_view_is_plain_json(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of any kind can read it."""
    monkeypatch.setattr("appliance.kernel.probe.capabilities", lambda: [{"name": "VXLAN", "present": True}])
    for name in VIEWS:
        assert await ask(node, name) is not None
