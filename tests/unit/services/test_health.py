"""Health as an automaton."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.intent import Health
from services.health import NODE_HEALTH, NodeTarget, Target, Verdict, targets
from tests.support.intents import changed, intent, one_vpc

healths = st.builds(
    lambda rise, fall: Health.model_validate({"rise": rise, "fall": fall}), st.integers(1, 4), st.integers(1, 4)
)


@pytest.mark.parametrize(
    ("checks", "ups"),
    [
        ("--", "+-"),  # down at the second failure
        ("-+-", "+++"),  # a good check in between forgets the failure
        ("--+", "+--"),
        ("--+++", "+---+"),  # up at the third good check
        ("--++-+++", "+------+"),
        ("+++", "+++"),
    ],
)
def test_failures_in_a_row_take_it_down_and_good_checks_in_a_row_bring_it_back(checks: str, ups: str) -> None:
    """Two failures and three good checks are asked for."""
    health, verdict, seen = Health.model_validate({"rise": 3, "fall": 2}), Verdict(), ""
    for check in checks:
        verdict = verdict.observe(check == "+", health)
        seen += "+" if verdict.up else "-"
    assert seen == ups


@given(healths, st.lists(st.booleans(), max_size=30))
def test_a_verdict_turns_only_after_as_many_checks_in_a_row_as_asked(health: Health, checks: list[bool]) -> None:
    """Compared with counting back from each check."""
    verdict = Verdict()
    for index, good in enumerate(checks):
        before, verdict = verdict, verdict.observe(good, health)
        needed = health.fall if before.up else health.rise
        last = checks[max(0, index + 1 - needed) : index + 1]
        agreed = len(last) == needed and all(check != before.up for check in last)
        if verdict.up != before.up:
            assert agreed
        assert 0 <= verdict.streak < max(health.rise, health.fall)


@given(healths, st.booleans())
def test_enough_checks_of_one_kind_decide_whatever_was_before(health: Health, good: bool) -> None:
    """Ten of them always do."""
    verdict = Verdict(not good, 0)
    for _ in range(10):
        verdict = verdict.observe(good, health)
    assert verdict == Verdict(good)


def test_a_host_checks_its_own_tcp_backends() -> None:
    """At the target port, each once."""
    tree = one_vpc()
    web = tree["vpcs"]["red"]["vips"]["web"]
    tree["vpcs"]["red"]["vips"] |= {
        "also": web | {"port": 81, "health": {"interval": 5}},
        "dns": web | {"port": 53, "protocol": "udp", "target-port": 53},
        "own": {"address": "203.0.113.80", "port": 443, "backends": ["r1"]},
    }
    found = targets(intent(tree), "h1")
    assert set(found) == {
        Target("red", "r1", IPv4Address("172.16.1.11"), 8080),
        Target("red", "r3", IPv4Address("172.16.1.13"), 8080),
        Target("red", "r1", IPv4Address("172.16.1.11"), 443),
    }
    assert found[Target("red", "r1", IPv4Address("172.16.1.11"), 8080)].interval == 1.0
    assert {target.guest for target in targets(intent(tree), "h2")} == {"r2"}


def test_a_node_without_backends_checks_nothing() -> None:
    """Gateways, route servers, and hosts of others."""
    assert targets(intent(one_vpc()), "gw1") == {}
    assert targets(intent(changed(one_vpc(), "vpcs.red.vips", {})), "h1") == {}


def test_a_target_is_named_as_the_balancer_names_it() -> None:
    """(vpc, guest, port)."""
    assert Target("red", "r1", IPv4Address("172.16.1.11"), 8080).key == ("red", "r1", 8080)


def test_a_host_checks_the_service_nodes_on_its_links() -> None:
    """By an echo to the other address of the link."""
    tree = one_vpc()
    tree["vpcs"]["red"]["service-nodes"] = {
        "ids": {"id": 7, "host": "h1", "interface": "tap7", "link": "10.9.0.0/31"},
        "far": {"id": 2, "host": "h2", "interface": "tap2", "link": "10.9.0.4/31"},
    }
    target = NodeTarget("red", "ids", IPv4Address("10.9.0.1"), 0, "tap7")
    found = targets(intent(tree), "h1")
    assert {known: health for known, health in found.items() if isinstance(known, NodeTarget)} == {target: NODE_HEALTH}
    quick = Health(interval=0.2, timeout=0.2, rise=2, fall=2)
    assert targets(intent(tree), "h1", quick)[target] == quick
