"""Rules of inline engines as values: what is compiled decides as the first rule that matches would."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.inline import InlineEngine, InlineRule
from appliance.model.marks import ACTION_SHIFT, DECIDED, Action
from services.inline.names import SIDES, Side
from services.inline.rules import compiled, default, index, match, policy, rule_id, words
from services.rules.rule import Packet

ACTIONS = {"allow": Action.ALLOW, "deny": Action.DENY, "reject": Action.REJECT}


def engine(*rules: dict[str, Any], **more: Any) -> InlineEngine:
    """Return an engine."""
    return InlineEngine.model_validate({"id": 1, "rules": rules, **more})


def rule(**fields: Any) -> InlineRule:
    """Return a rule."""
    return InlineRule.model_validate({"action": "allow", **fields})


def decided(judge: InlineEngine, toward: Side, source: str, destination: str, protocol: int, port: int) -> Action:
    """Decide about a flow as the kernel's program does."""
    packet = Packet(int(ip_address(source)), int(ip_address(destination)), protocol, port)
    found = compiled([judge])[4 if "." in source else 6].decide(index(judge, toward), packet)
    word = default(judge, toward) if found is None else words([judge])[found]
    assert word & DECIDED
    return Action(word >> ACTION_SHIFT & 15)


def test_a_rule_looks_one_way_or_both() -> None:
    """Its identity does not depend on it, so it is stored once."""
    judge = engine({"action": "allow", "toward": "south"}, {"action": "deny"}, {"action": "allow", "toward": "north"})
    allow, deny, again = map(rule_id, judge.rules)
    assert allow == again != deny
    assert index(judge, "south") == (allow, deny)
    assert index(judge, "north") == (deny, allow)


def test_icmp_is_that_of_either_family() -> None:
    """And a rule without prefixes is of both."""
    assert match(rule(protocol="icmp"), 4).protocol == ((1, 1),)
    assert match(rule(protocol="icmp"), 6).protocol == ((58, 58),)
    judge = engine({"action": "allow", "protocol": "icmp"})
    assert decided(judge, "south", "10.0.0.1", "10.0.0.2", 1, 0) is Action.ALLOW
    assert decided(judge, "south", "fd00::1", "fd00::2", 58, 0) is Action.ALLOW
    assert decided(judge, "south", "fd00::1", "fd00::2", 1, 0) is Action.DENY


def test_a_rule_with_prefixes_is_of_their_family() -> None:
    """It says nothing about the other one."""
    judge = engine({"action": "deny", "source": ["10.0.0.0/8"]}, southward="allow")
    assert decided(judge, "south", "10.1.2.3", "192.0.2.1", 6, 80) is Action.DENY
    assert decided(judge, "south", "fd00::1", "fd00::2", 6, 80) is Action.ALLOW


def test_ports_with_leading_zeros_are_decimal() -> None:
    """As the intent reads them."""
    assert match(rule(protocol="tcp", ports=["0080", "08000-08099"]), 4).port == ((80, 80), (8000, 8099))


@pytest.mark.parametrize(("side", "expected"), [("north", Action.ALLOW), ("south", Action.DENY)])
def test_the_default_depends_on_the_direction(side: Side, expected: Action) -> None:
    """Northward allowed, southward not."""
    assert decided(engine(northward="allow"), side, "10.0.0.1", "10.0.0.2", 17, 53) is expected


def test_the_digest_is_of_all_that_decides() -> None:
    """A rule, its place, the defaults; equal engines have equal ones."""
    one = engine({"action": "allow"}, {"action": "deny", "protocol": "tcp"})
    others = [
        engine({"action": "deny", "protocol": "tcp"}, {"action": "allow"}),
        engine({"action": "allow"}),
        engine({"action": "allow", "toward": "south"}, {"action": "deny", "protocol": "tcp"}),
        engine({"action": "allow"}, {"action": "deny", "protocol": "tcp"}, northward="allow"),
    ]
    assert policy(one) == policy(engine({"action": "allow"}, {"action": "deny", "protocol": "tcp"}))
    assert len({policy(each) for each in (one, *others)}) == 5


NETS = st.sampled_from([[], ["10.0.0.0/8"], ["10.1.0.0/16", "192.0.2.0/24"], ["fd00::/8"], ["fd00:1::/32"]])
RULES = st.fixed_dictionaries(
    {
        "action": st.sampled_from(sorted(ACTIONS)),
        "toward": st.sampled_from(["any", *SIDES]),
        "source": NETS,
        "protocol": st.sampled_from(["any", "tcp", "udp", "icmp"]),
        "ports": st.sampled_from([[], ["80"], ["80-90", "443"]]),
    }
)


def fits(each: InlineRule, toward: Side, source: str, protocol: int, port: int) -> bool:
    """Tell whether a rule matches, in the plainest words."""
    address = ip_address(source)
    names = {"tcp": (6,), "udp": (17,), "icmp": (1 if address.version == 4 else 58,), "any": (protocol,)}
    ports = [(int(text.split("-")[0]), int(text.split("-")[-1])) for text in each.ports]
    return (
        each.toward in ("any", toward)
        and (not each.source or any(address in network for network in each.source))
        and protocol in names[each.protocol]
        and (not ports or any(low <= port <= high for low, high in ports))
    )


@given(
    st.lists(RULES.filter(lambda each: not each["ports"] or each["protocol"] in {"tcp", "udp"}), max_size=6),
    st.sampled_from(SIDES),
    st.sampled_from(["10.0.0.1", "10.1.0.1", "192.0.2.1", "fd00::1", "fd00:1::1"]),
    st.sampled_from([1, 6, 17, 58, 47]),
    st.sampled_from([0, 80, 85, 443]),
)
def test_the_first_rule_that_matches_decides(
    rules: list[dict[str, Any]], toward: Side, source: str, protocol: int, port: int
) -> None:
    """Else the default of the direction."""
    judge = engine(*rules, northward="allow")
    first = next((each for each in judge.rules if fits(each, toward, source, protocol, port)), None)
    otherwise = Action.ALLOW if toward == "north" else Action.DENY
    expected = otherwise if first is None else ACTIONS[first.action]
    destination = "198.51.100.1" if "." in source else "fd00:2::1"
    assert decided(judge, toward, source, destination, protocol, port) is expected
