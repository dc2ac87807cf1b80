"""What is shown of flows, instructions, rules and engines, and what may be ordered, as plain JSON values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from appliance.kernel.conntrack_codec import CtEntry, CtTuple, Icmp
from appliance.model.errors import OperatorError
from appliance.model.facts import Namespace
from appliance.model.marks import Action, Mark
from appliance.panel import flow_views
from appliance.panel.views import plan, show
from routing.engines.engine import Synced
from tests.support.fake_node import OUTSIDE, FakeNode, quiet_vpc
from tests.support.intents import Tree, changed, intent
from tests.support.waiting import eventually_async

RED = Namespace("vpc-red")
WIRES = {
    "id": 2,
    "host": "h1",
    "bridges": {"w1": {"north": "n1", "south": "s1", "engine": "one"}},
    "engines": {
        "one": {
            "id": 7,
            "rules": [
                {"action": "allow", "toward": "north", "protocol": "tcp", "ports": [80], "source": ["10.0.0.0/8"]}
            ],
        }
    },
}
RULES: list[Tree] = [
    {"action": "allow", "destination": ["r1"], "protocol": "udp", "ports": [8080]},
    {"action": "deny", "tier": "emergency", "applies-to": ["r3"]},
    {"action": "redirect", "to": "far", "source": ["r1"], "destination": ["r3"], "applies-to": ["r1"]},
]
NODE = {"id": 4, "host": "h2", "interface": "sn4", "link": "10.9.0.2/31"}
FLOW = "tcp 172.16.1.13:40000 > 198.51.100.10:80"


def tree(*rules: Tree) -> Tree:
    """Give VPC red and an inline edge."""
    made = changed(quiet_vpc(), "vpcs.red.firewall.rules", list(rules or RULES))
    made = changed(made, "vpcs.red.service-nodes", {"far": NODE})
    return changed(made, "inline.edge", WIRES)


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    """Give host h1 that has converged."""
    async with FakeNode("h1", outside=(*OUTSIDE, "n1", "s1")) as node:
        await node.load(tree())
        node.engine().push(Synced())
        await eventually_async(lambda: node.daemon.converged)
        yield node


async def ask(node: FakeNode, name: str, **options: str) -> Any:
    """Return a view as a client gets it: through JSON."""
    return json.loads(json.dumps(await show(node.daemon, name, {k.replace("_", "-"): v for k, v in options.items()})))


async def order(node: FakeNode, action: str, flow: str = FLOW, **more: str) -> Any:
    """Do what `edgeway flow` does."""
    return json.loads(
        json.dumps(await flow_views.order(node.daemon, {"vpc": "red", "flow": flow, "action": action} | more))
    )


def _flow(number: int = 0, mark: int = 0) -> CtEntry:
    guest, far, shared = (IPv4Address(text) for text in ("172.16.1.13", "198.51.100.10", "203.0.113.1"))
    out, back = CtTuple(guest, far, 40000 + number, 80), CtTuple(far, shared, 80, 11264 + number)
    return CtEntry(6, out, back, zone=1101, mark=mark, timeout=300, tcp_state="established")


# -- flows ------------------------------------------------------------------------------------------------------------


async def test_flows_show_both_directions(node: FakeNode) -> None:
    """The reply's destination is the translation."""
    node.conntrack.add(RED, _flow())
    (row,) = await ask(node, "flows")
    assert row == {
        "vpc": "red",
        "protocol": "tcp",
        "state": "established",
        "source": "172.16.1.13:40000",
        "destination": "198.51.100.10:80",
        "reply-source": "198.51.100.10:80",
        "reply-destination": "203.0.113.1:11264",
        "zone": 1101,
        "mark": 0,
        "timeout": 300,
        "engine": None,
        "generation": None,
        "judged": "never",
        "action": None,
        "object": None,
        "instruction": None,
    }
    assert await ask(node, "flows", vpc="red") == [row]


async def test_a_flow_without_ports_is_shown_by_what_it_has(node: FakeNode) -> None:
    """ICMP has an identifier, others have nothing; IPv6 addresses stand in brackets before a port."""
    one, two = IPv4Address("172.16.1.11"), IPv4Address("198.51.100.10")
    six = IPv6Address("2001:db8::1")
    node.conntrack.add(RED, CtEntry(1, CtTuple(one, two, icmp=Icmp(8, 0, 7)), CtTuple(two, one, icmp=Icmp(0, 0, 7))))
    node.conntrack.add(RED, CtEntry(47, CtTuple(one, two), CtTuple(two, one)))
    node.conntrack.add(RED, CtEntry(17, CtTuple(six, six, 53, 53), CtTuple(six, six, 53, 53)))
    rows = await ask(node, "flows")
    assert [(row["protocol"], row["source"], row["destination"]) for row in rows] == [
        ("icmp", "172.16.1.11", "198.51.100.10 type 8 id 7"),
        ("47", "172.16.1.11", "198.51.100.10"),
        ("udp", "[2001:db8::1]:53", "[2001:db8::1]:53"),
    ]


async def test_of_very_many_flows_some_are_shown_and_the_loop_goes_on(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best paths must reach the kernel while somebody looks at flows."""
    monkeypatch.setattr(flow_views, "FLOWS", 300)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    for number in range(400):
        node.conntrack.add(RED, _flow(number))
    task = asyncio.create_task(others())
    rows = await show(node.daemon, "flows", {})
    task.cancel()
    assert len(rows) == 300
    assert turns >= 2


async def test_flows_of_a_vpc_that_is_not_here_are_the_operators_error(node: FakeNode) -> None:
    """An empty table would look like a quiet VPC."""
    with pytest.raises(OperatorError, match="VPCs here: red"):
        await show(node.daemon, "flows", {"vpc": "blue"})


# -- instructions -----------------------------------------------------------------------------------------------------


async def test_a_flow_shows_how_it_was_judged_and_what_was_decided_for_it(node: FakeNode) -> None:
    """Current while its generation is that of its engine; an instruction makes it stale."""
    generation = node.daemon.kernel.ports["nft"].generations(RED)[2]  # type: ignore[attr-defined]
    node.conntrack.add(RED, _flow(mark=Mark(generation, 2, Action.ALLOW).word))
    (row,) = await ask(node, "flows")
    shown = {key: row[key] for key in ("engine", "generation", "judged", "action", "object", "instruction")}
    judged = {"engine": 2, "generation": generation, "judged": "current", "action": "allow"}
    assert shown == judged | {"object": None, "instruction": None}
    answer = await order(node, "deny")
    assert (answer["live"], answer["in-force"], answer["generation-after"]) == (True, True, generation + 1)
    (row,) = await ask(node, "flows")
    assert (row["judged"], row["action"], row["instruction"]) == ("stale", "allow", "deny")


async def test_instructions_are_shown_until_they_are_cleared(node: FakeNode) -> None:
    """One by one, or all of a VPC."""
    await order(node, "deny")
    await order(node, "allow", "udp 172.16.1.11:5 > 198.51.100.10:53")
    assert [(row["action"], row["live"]) for row in await ask(node, "instructions", vpc="red")] == [
        ("deny", False),
        ("allow", False),
    ]
    assert await ask(node, "instructions", vpc="inline/edge") == []
    assert (await order(node, "clear"))["cleared"] == 1
    assert (await order(node, "clear", ""))["cleared"] == 1
    assert await ask(node, "instructions") == []


async def test_a_flow_of_an_inline_edge_is_instructed_by_its_edge(node: FakeNode) -> None:
    """In the zone of its engine."""
    answer = await order(node, "reset", "tcp [fd00::1]:1 > [fd00::2]:2", vpc="inline/edge")
    assert (answer["vpc"], answer["in-force"]) == ("inline/edge/one", True)
    (row,) = await ask(node, "instructions")
    assert (row["vpc"], row["flow"], row["action"]) == ("inline/edge/one", "tcp [fd00::1]:1 > [fd00::2]:2", "reject")


# -- rules and engines ------------------------------------------------------------------------------------------------


async def test_each_rule_is_shown_once_with_its_places_in_the_indexes(node: FakeNode) -> None:
    """In the order in which tiers are asked; what cannot be says why; the defaults come last."""
    rows = await ask(node, "rules", vpc="red")
    assert [(row["tier"], row["action"], row["text"], row["positions"], row["references"]) for row in rows[:3]] == [
        ("emergency", "deny", "deny anything", {"r3": 1}, 1),
        ("application", "allow", "allow udp to r1 ports 8080", {"r1": 1, "r3": 2}, 2),
        ("application", "redirect", "redirect from r1 to r3 through far", {"r1": 2}, 1),
    ]
    assert [row["note"] for row in rows[:3]] == [None, None, "service node far stands on h2"]
    assert len({row["rule"] for row in rows[:3]}) == 3
    assert [(row["rule"], row["text"], row["action"]) for row in rows[3:]] == [
        (None, "inbound traffic that no rule matches", "deny"),
        (None, "outbound traffic that no rule matches", "allow"),
        (None, "internal traffic that no rule matches", "allow"),
    ]


async def test_rules_of_an_inline_edge_stand_in_their_order(node: FakeNode) -> None:
    """Each road of an engine has its own."""
    rows = await ask(node, "rules", vpc="inline/edge")
    assert [(row["text"], row["positions"]) for row in rows] == [
        ("allow tcp toward north from 10.0.0.0/8 ports 80", {"north": 1}),
        ("traffic toward north that no rule matches", {}),
        ("traffic toward south that no rule matches", {}),
    ]


async def test_engines_show_generation_members_and_policy(node: FakeNode) -> None:
    """And what the namespace has counted, once."""
    whole, nobody, *groups = await ask(node, "engines", vpc="red")
    assert (whole["vpc"], whole["engine"]) == ("red", "all")
    assert {"rechecked", "denied", "invalid", "spoofed"} <= whole["counters"].keys()
    assert (nobody["engine"], nobody["members"]) == (1, ["flows without a guest here"])
    assert [(row["engine"], row["members"]) for row in groups if row["members"]] == [(2, ["r1"]), (3, ["r3"])]
    assert all(row["generation"] == 1 and row["policy"] for row in (nobody, *groups))
    whole, engine = await ask(node, "engines", vpc="inline/edge")
    assert (whole["vpc"], engine["vpc"]) == ("inline/edge", "inline/edge/one")
    assert (engine["engine"], engine["members"]) == (7, ["w1"])


async def test_only_the_engine_whose_rules_changed_has_another_generation(node: FakeNode) -> None:
    """A person sees which flows are judged again."""
    before = {row["engine"]: row for row in await ask(node, "engines", vpc="red")}
    await node.load(tree(*RULES, {"action": "allow", "applies-to": ["r3"], "destination": ["r3"]}))
    after = {row["engine"]: row for row in await ask(node, "engines", vpc="red")}
    changed_ = [n for n in after if n != "all" and after[n]["generation"] != before[n]["generation"]]
    assert changed_ == [3]
    assert after[3]["policy"] != before[3]["policy"]


# -- established flows ------------------------------------------------------------------------------------------------


def _through_vip() -> CtEntry:
    client, vip, backend = (IPv4Address(text) for text in ("198.51.100.10", "203.0.113.80", "172.16.1.13"))
    return CtEntry(17, CtTuple(client, vip, 40000, 80), CtTuple(backend, client, 8080, 40000), zone=1101, timeout=30)


BACKEND_GONE = "backend-gone red/web 172.16.1.13:8080"


async def test_flows_that_a_change_would_affect_are_shown_before_it_is_made(node: FakeNode) -> None:
    """With what would be done to each."""
    node.conntrack.add(RED, _through_vip())
    node.conntrack.add(RED, _flow())
    await eventually_async(lambda: len(node.daemon.flows.watch.index(RED) or ()) == 2)
    (row,) = await ask(node, "flows", affected_by=BACKEND_GONE)
    assert (row["source"], row["would"]) == ("198.51.100.10:40000", "re-judge")
    assert await ask(node, "flows", affected_by=BACKEND_GONE, vpc="red") == [row]
    assert await ask(node, "flows", affected_by="backend-gone red/web 172.16.1.11:8080") == []
    with pytest.raises(OperatorError, match="is not the name of a change"):
        await ask(node, "flows", affected_by="everything")


async def test_a_plan_tells_what_becomes_of_established_flows_and_the_audit_what_became(node: FakeNode) -> None:
    """The same words, the same numbers."""
    node.conntrack.add(RED, _through_vip())
    await eventually_async(lambda: len(node.daemon.flows.watch.index(RED) or ()) == 1)
    other = changed(tree(), "vpcs.red.vips.web.backends", ["r1", "r2"])
    rows = [row for row in await plan(node.daemon, intent(other)) if row["subsystem"] == "flows"]
    change = "backend-gone red/203.0.113.80:80/udp 172.16.1.13:8080"
    assert rows == [
        {"subsystem": "flows", "operation": "re-judge", "object": f"1 udp because of {change}", "was": None}
    ]
    assert await ask(node, "audit") == []
    await node.load(other)
    (row,) = await ask(node, "audit")
    assert (row["vpc"], row["change"], row["choice"], row["result"]) == ("red", change, "re-judge", "deleted")
    assert row["flow"] == "udp 198.51.100.10:40000 > 203.0.113.80:80"
    assert await ask(node, "audit", change=change) == [row]
    assert await ask(node, "audit", change=BACKEND_GONE.replace(".13", ".11")) == []


# -- trace ------------------------------------------------------------------------------------------------------------


async def test_a_trace_is_plain_json(node: FakeNode) -> None:
    """What is in it is the business of `flow_trace`."""
    row = json.loads(json.dumps(await flow_views.trace(node.daemon, {"vpc": "red", "flow": FLOW})))
    assert (row["live"], row["result"]) == (False, row["ways"][0]["result"])
    assert row["result"].startswith("dropped by rule ")
