"""What is said about a flow, without a kernel; tests/packet/test_trace.py holds it to the kernel's own judgement."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from appliance.model.flow_text import parse_flow
from appliance.model.marks import Action
from appliance.model.policy import Rule
from services.feature import Runtime
from services.flows.trace import Edge, Judgement, Target, rule_text
from services.place import LAN, OVERLAY_DEVICE, UPLINK, Place
from tests.support.intents import Tree, changed, intent, one_vpc

NODES = {
    "ids": {"id": 3, "host": "h1", "interface": "sn3", "link": "10.9.0.0/31"},
    "far": {"id": 4, "host": "h2", "interface": "sn4", "link": "10.9.0.2/31"},
    "strict": {"id": 5, "host": "h1", "interface": "sn5", "link": "10.9.0.4/31", "on-failure": "deny"},
}


def edge(*rules: Tree, runtime: Runtime | None = None, **firewall: Any) -> Edge:
    """Give VPC red on h1 (r1 and r3 here, r2 on h2) with these rules."""
    tree = changed(one_vpc(), "vpcs.red.firewall", {"rules": list(rules), **firewall})
    tree = changed(tree, "vpcs.red.service-nodes", NODES)
    tree = changed(tree, "vpcs.red.groups", {"local": ["r1", "r3"]})
    made = intent(tree)
    return Edge.of(Place.of(made, "h1", "red"), made.vpcs["red"], runtime or Runtime())


def judged(here: Edge, text: str, came: str = "", instruction: tuple[Action, int] | None = None) -> Judgement:
    """Judge a flow as its first packet is, to its only target."""
    key = parse_flow(text, 1101)
    (target,) = here.targets(key)
    return here.judge(key, target, came or here.arrival(key.source), instruction)


IN = "tcp 198.51.100.1:1000 > 172.16.1.13:80"
OUT = "tcp 172.16.1.13:1000 > 198.51.100.1:80"
BETWEEN = "tcp 172.16.1.11:1000 > 172.16.1.13:80"


@pytest.mark.parametrize(
    ("text", "default", "action"),
    [
        (IN, "inbound", Action.DENY),
        (OUT, "outbound", Action.ALLOW),
        (BETWEEN, "internal", Action.ALLOW),
        ("tcp 172.16.1.12:1 > 172.16.1.13:80", "internal", Action.ALLOW),
    ],
)
def test_without_a_rule_the_default_of_the_direction_decides(text: str, default: str, action: Action) -> None:
    """Direction is that of the first packet."""
    said = judged(edge(), text)
    assert said.decided is not None
    assert (said.decided.default, said.decided.rule, said.action) == (default, None, action)


def test_the_first_rule_of_the_port_decides() -> None:
    """Its place in the index counts from one; tiers come before the order of the file."""
    here = edge(
        {"action": "allow", "protocol": "tcp", "ports": [80]},
        {"action": "deny", "protocol": "tcp", "tier": "emergency", "ports": [443]},
        {"action": "reject", "protocol": "tcp"},
    )
    for port, position, action in ((80, 2, Action.ALLOW), (443, 1, Action.DENY), (22, 3, Action.REJECT)):
        said = judged(here, f"tcp 198.51.100.1:1000 > 172.16.1.13:{port}")
        assert said.decided is not None
        assert (said.decided.guest, said.decided.end) == ("r3", "destination")
        assert (said.decided.position, said.action) == (position, action)


def test_both_ports_must_allow_and_the_source_is_asked_first() -> None:
    """A refusal ends the asking."""
    deny_out = {"action": "deny", "applies-to": ["r1"], "destination": ["r3"]}
    deny_in = {"action": "reject", "applies-to": ["r3"], "source": ["r1"]}
    assert [a.guest for a in judged(edge(), BETWEEN).asked] == ["r1", "r3"]
    said = judged(edge(deny_out, deny_in), BETWEEN)
    assert ([a.guest for a in said.asked], said.action) == (["r1"], Action.DENY)
    said = judged(edge(deny_in), BETWEEN)
    assert ([a.guest for a in said.asked], said.action) == (["r1", "r3"], Action.REJECT)


def test_what_the_source_wants_besides_is_not_lost() -> None:
    """The port of the destination merely allows."""
    special = {"action": "limit", "rate": 10, "applies-to": ["r1"], "destination": ["r3"]}
    said = judged(edge(special), BETWEEN)
    assert said.action is Action.LIMIT
    assert said.decided is not None
    assert said.decided.guest == "r1"
    other = {"action": "sample", "rate": 10, "applies-to": ["r3"], "source": ["r1"]}
    assert judged(edge(special, other), BETWEEN).action is Action.SAMPLE


def test_a_flow_without_a_guest_here_is_judged_by_the_edge() -> None:
    """As when a guest elsewhere calls what is behind this host."""
    said = judged(edge(), "tcp 172.16.1.12:1000 > 198.51.100.1:80")
    assert [(a.guest, a.end, a.default) for a in said.asked] == [("", "neither", "outbound")]
    assert said.engine == 1


def test_the_engine_is_that_of_the_destination_else_of_the_source() -> None:
    """Guests with one index are one engine."""
    here = edge({"action": "allow", "applies-to": ["r1"]})
    engines = {address: group.engine for group in here.groups for address in group.guests}
    assert judged(here, BETWEEN).engine == engines[IPv4Address("172.16.1.13")]
    assert judged(here, "tcp 172.16.1.11:1 > 198.51.100.1:2").engine == engines[IPv4Address("172.16.1.11")]
    assert len(set(engines.values())) == 2


def test_an_instruction_goes_over_the_head_of_the_rules() -> None:
    """Who reads still sees what the rules would say."""
    said = judged(edge({"action": "deny"}), IN, instruction=(Action.REDIRECT, 3))
    assert (said.action, said.object, said.decided) == (Action.REDIRECT, 3, None)
    assert [asked.action for asked in said.asked] == [Action.DENY]


@pytest.mark.parametrize(
    ("text", "came", "said"),
    [
        ("tcp 172.16.1.99:1 > 198.51.100.1:2", LAN, "spoofed source: 172.16.1.99 is no guest of h1"),
        ("tcp 198.51.100.9:1 > 198.51.100.1:2", LAN, "spoofed source: 198.51.100.9 is no guest of h1"),
        ("tcp 172.16.1.12:1 > 172.16.1.11:2", LAN, "spoofed source: 172.16.1.12 is no guest of h1"),
        ("tcp 172.16.1.12:1 > 172.16.1.11:2", UPLINK, "spoofed source: 172.16.1.12 is of the VPC"),
        ("tcp [fd00::1]:1 > [fd00::2]:2", LAN, "the edge: VPCs carry IPv4 only"),
    ],
)
def test_some_packets_do_not_come_to_a_judgement(text: str, came: str, said: str) -> None:
    """Whatever the rules or an instruction say."""
    found = judged(edge({"action": "allow"}), text, came, (Action.ALLOW, 0))
    assert found.refusal.startswith(said)


@pytest.mark.parametrize(
    ("source", "device"),
    [("172.16.1.11", LAN), ("172.16.1.12", OVERLAY_DEVICE), ("172.16.1.99", LAN), ("198.51.100.1", UPLINK)],
)
def test_where_a_source_comes_in_follows_from_who_it_is(source: str, device: str) -> None:
    """Guests elsewhere come over the overlay."""
    assert edge().arrival(ip_address(source)) == device


def test_a_vip_leads_to_one_of_its_healthy_backends_here() -> None:
    """Which one, the kernel decides by a hash that nobody else knows."""
    key = parse_flow("tcp 198.51.100.1:1000 > 203.0.113.80:80")
    assert {(str(t.address), t.port, t.why) for t in edge().targets(key)} == {
        ("172.16.1.11", 8080, "VIP web, backend r1"),
        ("172.16.1.13", 8080, "VIP web, backend r3"),
    }
    down = Runtime(down=frozenset({("red", "r1", 8080)}))
    assert [t.why for t in edge(runtime=down).targets(key)] == ["VIP web, backend r3"]
    all_down = Runtime(down=frozenset({("red", "r1", 8080), ("red", "r3", 8080)}))
    assert edge(runtime=all_down).targets(key) == (Target(IPv4Address("203.0.113.80"), 80),)
    assert edge().targets(replace(key, protocol=17)) == (Target(IPv4Address("203.0.113.80"), 80),)


def test_a_public_address_leads_to_its_guest() -> None:
    """With every protocol and port; rules see the guest's own address."""
    key = parse_flow("udp 198.51.100.1:1000 > 203.0.113.11:53")
    assert edge().targets(key) == (Target(IPv4Address("172.16.1.11"), 53, "public address of r1"),)
    here = edge({"action": "allow", "destination": ["r1"]})
    assert judged(here, "udp 198.51.100.1:1000 > 203.0.113.11:53").action is Action.ALLOW


def test_what_leaves_is_translated_to_the_guests_own_address_or_to_a_port_block() -> None:
    """What stays inside keeps its source, unless a guest calls a VIP of its own VPC."""
    here = edge(runtime=Runtime(blocks={"red": (0, 2)}))
    out = Target(IPv4Address("198.51.100.1"), 80)
    r1, r3 = parse_flow("tcp 172.16.1.11:1 > 198.51.100.1:80"), parse_flow(OUT)
    assert here.translated_source(r1, out, LAN, UPLINK) == "203.0.113.11: public address of r1"
    assert here.translated_source(r3, out, LAN, UPLINK).startswith("203.0.113.1, one of its ports ")
    fresh = edge().translated_source(r3, out, LAN, UPLINK)
    assert fresh != here.translated_source(r3, out, LAN, UPLINK)
    assert here.translated_source(r3, Target(IPv4Address("172.16.1.12"), 80), LAN, OVERLAY_DEVICE) == ""
    vip = Target(IPv4Address("172.16.1.11"), 8080, "VIP web, backend r1")
    assert here.translated_source(r3, vip, LAN, LAN).startswith("172.16.1.1: a guest calls")
    assert here.translated_source(replace(r3, protocol=47), out, LAN, UPLINK) == ""


def test_a_redirect_that_cannot_be_says_why() -> None:
    """The node stands elsewhere, or does not answer and the flow goes on or not as it says."""
    rules = [{"action": "redirect", "to": to, "source": ["local"], "destination": ["local"], "protocol": p}
             for to, p in (("ids", "tcp"), ("far", "udp"), ("strict", "icmp"))]  # fmt: skip
    here = edge(*rules)
    said = {rule.to: here.unlike(rule) for rule in here.rules.rules.values()}
    assert said == {"ids": "", "far": "service node far stands on h2", "strict": ""}
    assert (judged(here, BETWEEN).action, judged(here, BETWEEN).object) == (Action.REDIRECT, 3)
    down = edge(*rules, runtime=Runtime(nodes_down=frozenset({("red", "ids"), ("red", "strict")})))
    said = {rule.to: down.unlike(rule) for rule in down.rules.rules.values()}
    assert said["ids"] == "service node ids does not answer: on-failure allow"
    assert said["strict"] == "service node strict does not answer: on-failure deny"
    assert judged(down, BETWEEN).action is Action.ALLOW
    assert judged(down, "icmp 172.16.1.11:9 > 172.16.1.13").action is Action.DENY


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"action": "deny"}, "deny anything"),
        (
            {"action": "allow", "protocol": "tcp", "source": ["outside"], "destination": ["web", "db"], "ports": [443]},
            "allow tcp from outside to web,db ports 443",
        ),
        ({"action": "limit", "rate": 10, "protocol": "udp"}, "limit 10/s udp"),
        ({"action": "sample", "rate": 10, "source": ["r1"]}, "sample 1 of 10 from r1"),
        ({"action": "redirect", "to": "ids", "source": ["r1"]}, "redirect from r1 through ids"),
    ],
)
def test_a_rule_is_one_line(rule: Tree, text: str) -> None:
    """As short as its section is."""
    assert rule_text(Rule.model_validate(rule)) == text
