"""The table decides, the operator's word overrides it, and every flow is handled once."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import get_args

import pytest

from appliance.model.facts import Flow
from appliance.model.marks import Action
from appliance.model.policy import Choice, Established
from services.feature import Runtime
from services.flows.changes import Change, changes, parse_change
from services.flows.index import FlowIndex
from services.flows.reconcile import EFFECTS, GRACE, TABLE, Count, affected, counts, decide, plan, table
from tests.unit.services.flows.examples import (
    R1,
    R3,
    SUBNET,
    TCP,
    UDP,
    VIP,
    called,
    entered,
    key,
    left,
    pinged,
    plain,
)
from tests.unit.services.flows.test_promises import promised

VAIN = Flow(key("198.51.100.7", 901, VIP, 80, UDP), key(VIP, 80, "198.51.100.7", 901, UDP))
EVERY = (
    called(1),
    called(2, R3),
    called(3, protocol=UDP),
    left(10),
    left(11, to=5120),
    entered(20),
    plain(30),
    pinged(77),
    VAIN,
)


@pytest.fixture
def index() -> FlowIndex:
    """Hold one flow of each kind."""
    made = FlowIndex([SUBNET])
    for flow in EVERY:
        made.add(flow)
    return made


HITS = {
    "vip-gone red/203.0.113.80:80/tcp": {called(1), called(2, R3)},
    "backend-gone red/203.0.113.80:80/tcp 172.16.1.13:8080": {called(2, R3)},
    "floating-moved red/203.0.113.11 172.16.1.11": {entered(20)},
    "snat-moved red/203.0.113.1 4096-5119": {left(10), pinged(77)},
    "guest-gone red/r1 172.16.1.11": {called(1), called(3, protocol=UDP), entered(20), plain(30)},
    "guest-moved red/r1 172.16.1.11": {called(1), called(3, protocol=UDP), entered(20), plain(30)},
    "vip-served red/203.0.113.80:80/udp": {VAIN},
}


@pytest.mark.parametrize("name", HITS)
def test_a_change_affects_exactly_the_flows_that_it_names(index: FlowIndex, name: str) -> None:
    """And no other."""
    assert set(affected(parse_change(name), index)) == HITS[name]


def test_every_kind_of_change_has_a_row_and_every_choice_an_effect() -> None:
    """Fields are those of the intent."""
    assert TABLE.keys() == {kind.kind for kind in get_args(Change)}
    assert EFFECTS.keys() == set(get_args(Choice))
    assert {row.field for row in TABLE.values()} - Established.model_fields.keys() == {"vip_served"}


def test_the_default_depends_on_the_protocol() -> None:
    """A connection cannot go on with another backend, a datagram can."""
    change = parse_change("backend-gone red/203.0.113.80:80/tcp 172.16.1.11:8080")
    steps = decide(change, [called(1), called(3, protocol=UDP), pinged(77)], {})
    assert [step.choice for step in steps] == ["reset", "re-judge", "re-judge"]


@pytest.mark.parametrize("word", get_args(Choice))
def test_the_operators_word_overrides_it_for_all_protocols(word: Choice) -> None:
    """For its own kind of change only."""
    change = parse_change("backend-gone red/203.0.113.80:80/tcp 172.16.1.11:8080")
    flows = [called(1), called(3, protocol=UDP)]
    assert {step.choice for step in decide(change, flows, {"backend_gone": word, "vip_gone": None})} == {word}
    assert [step.choice for step in decide(change, flows, {"vip_gone": word})] == ["reset", "re-judge"]


def test_a_choice_is_a_deletion_an_instruction_or_nothing() -> None:
    """A record that is answered for ends soon, so that a later packet is judged as a first one."""
    assert EFFECTS["keep"] == (False, None, None)
    assert EFFECTS["re-judge"] == (True, None, None)
    assert EFFECTS["reset"] == (False, Action.REJECT, GRACE)
    assert EFFECTS["drop"] == (False, Action.DENY, None)


def test_a_flow_is_handled_once_by_the_most_exact_change(index: FlowIndex) -> None:
    """A backend that is a guest that moved: its service's flows are reset, its others are judged again."""
    old, new = promised(), promised(vpcs__red__guests__r1__host="h2")
    found = {step.flow: (step.change.kind, step.choice) for step in plan(changes(old, new), index, {})}
    assert found == {
        called(1): ("backend-gone", "reset"),
        called(3, protocol=UDP): ("guest-moved", "re-judge"),
        entered(20): ("guest-moved", "re-judge"),
        plain(30): ("guest-moved", "re-judge"),
    }


def test_steps_are_counted_by_change_protocol_and_choice(index: FlowIndex) -> None:
    """As `plan` shows them."""
    old, new = promised(), promised(vpcs__red__vips=..., vpcs__red__guests__r1__public=...)
    rows = counts(plan(changes(old, new), index, {"floating_moved": "drop"}))
    vip, floating = changes(old, new)
    assert rows == (Count(vip, TCP, "reset", 2), Count(floating, TCP, "drop", 1))


def test_nothing_changed_nothing_done(index: FlowIndex) -> None:
    """Also when a backend was added."""
    down = Runtime(down=frozenset({("red", "r1", 8080)}))
    assert not list(plan(changes(promised(runtime=down), promised()), index, {}))
    assert ip_address(R1) in promised(runtime=down).here


def test_the_design_note_has_the_table() -> None:
    """Word for word."""
    assert table() in (Path(__file__).parents[4] / "design/0005-reconciliation.md").read_text()
