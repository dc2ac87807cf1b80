"""What an inline engine says to a flow; tests/packet/test_inline_trace.py holds it to the kernel."""

from __future__ import annotations

import pytest

from appliance.model.flow_text import parse_flow
from appliance.model.inline import InlineEngine, InlineRule
from appliance.model.marks import Action
from services.inline.trace import ask, rule_text
from tests.support.intents import Tree


def engine(*rules: Tree, **more: str) -> InlineEngine:
    """Write an engine short."""
    return InlineEngine.model_validate({"id": 1, "rules": list(rules), **more})


def test_the_first_rule_of_the_road_decides() -> None:
    """A rule that looks the other way is not on it, and has no place."""
    made = engine(
        {"action": "deny", "toward": "north"},
        {"action": "reject", "protocol": "tcp", "ports": [22]},
        {"action": "allow", "protocol": "tcp", "ports": ["20-80"]},
    )
    for text, action, position in (("tcp 10.0.0.1:5 > 10.0.0.2:22", Action.REJECT, 1), ("tcp 10.0.0.1:5 > 10.0.0.2:80", Action.ALLOW, 2)):  # fmt: skip
        said = ask(made, "south", parse_flow(text))
        assert (said.action, said.position) == (action, position)
        assert ask(made, "north", parse_flow(text)).position == 1
        assert ask(made, "north", parse_flow(text)).action is Action.DENY


def test_without_a_rule_the_default_of_the_side_decides() -> None:
    """A flow is named by the side that its first packet goes to."""
    made = engine(northward="allow")
    key = parse_flow("udp 10.0.0.1:5 > 10.0.0.2:53")
    assert ask(made, "north", key).action is Action.ALLOW
    said = ask(made, "south", key)
    assert (said.action, said.identity, said.position, said.rule) == (Action.DENY, None, None, None)


def test_a_rule_with_networks_is_of_their_family() -> None:
    """One without is of both; icmp is ICMPv6 too."""
    made = engine(
        {"action": "allow", "source": ["fd00::/8"]},
        {"action": "reject", "source": ["10.0.0.0/8"]},
        {"action": "allow", "protocol": "icmp"},
    )
    for text, position in (
        ("tcp [fd00::1]:5 > [2001:db8::2]:22", 1),
        ("tcp 10.0.0.1:5 > 192.0.2.1:22", 2),
        ("icmp 192.0.2.2:5 > 192.0.2.1", 3),
        ("icmp [2001:db8::1]:5 > 2001:db8::2", 3),
        ("tcp [2001:db8::1]:5 > [2001:db8::2]:22", None),
    ):
        assert ask(made, "south", parse_flow(text)).position == position


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"action": "deny"}, "deny anything"),
        (
            {"action": "allow", "protocol": "tcp", "toward": "south", "source": ["10.0.0.0/8"], "destination": ["192.0.2.1"], "ports": [80]},
            "allow tcp toward south from 10.0.0.0/8 to 192.0.2.1/32 ports 80",
        ),
    ],
)  # fmt: skip
def test_a_rule_is_one_line(rule: Tree, text: str) -> None:
    """As short as its section is."""
    assert rule_text(InlineRule.model_validate(rule)) == text
