"""Carriers of one side told to the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.facts import Engine, Fact, Link, Namespace, NftTable, Sysctl, Wire
from services.inline.mirror import GRACE, Mirror, State
from services.inline.names import SIDES, Side
from tests.support.intents import Tree, changed, intent, pair

NS = Namespace("inl-dmz")
NORTH, SOUTH = (NS, "eth5"), (NS, "eth6")
WHOLE = {NORTH: True, SOUTH: True}


def edge(**more: object) -> Tree:
    """Return an intent with one wire."""
    made = pair()
    wires = {"a": {"north": "eth5", "south": "eth6", "engine": "main"}}
    made["inline"] = {"dmz": {"id": 1, "host": "h1", "bridges": wires, "engines": {"main": {"id": 1}}, **more}}
    return made


def fresh(*links: Link, tree: Tree | None = None) -> Mirror:
    """Return the mirror of a daemon that has just started, with all wires open."""
    return Mirror().over(intent(tree or edge()), "h1", links).judged(())


@pytest.mark.parametrize(("lost", "other"), [(NORTH, SOUTH), (SOUTH, NORTH)])
def test_a_lost_carrier_takes_the_other_side_down_at_once(
    lost: tuple[Namespace, str], other: tuple[Namespace, str]
) -> None:
    """And it comes back when the carrier does."""
    whole = fresh().see(WHOLE, 0)
    assert whole.held == frozenset()
    torn = whole.see({**WHOLE, lost: False}, 1)
    assert torn.held == {other}
    dark = torn.see(dict.fromkeys(WHOLE, False), 2)
    assert dark.held == {other}, "that side has no carrier because of us: no cause"
    assert dark.see({lost: True}, 3).held == frozenset()


def test_a_side_that_was_raised_has_time_to_come_back() -> None:
    """Until then it is no cause; afterwards it is."""
    torn = fresh().see(WHOLE, 0).see({SOUTH: True}, 1)
    raised = torn.see({NORTH: True}, 10)
    assert raised.held == frozenset()
    assert raised.again == 10 + GRACE
    assert raised.see({NORTH: True}, 10 + GRACE / 2).held == frozenset()
    assert raised.see(WHOLE, 11).again is None
    late = raised.see({NORTH: True}, 10 + GRACE)
    assert late.held == {NORTH}
    assert late.see({SOUTH: True}, 30).held == frozenset()


def test_ports_that_are_plugged_in_one_after_the_other_flap_nothing() -> None:
    """Before the first carrier there is no loss of one, and no clock runs."""
    dark = fresh().see({}, 0)
    assert (dark.held, dark.again) == (frozenset(), None)
    first = dark.see({NORTH: True}, 100)
    assert (first.held, first.again) == (frozenset(), 100 + GRACE)
    assert first.see(WHOLE, 103).held == frozenset()


def test_a_restarted_daemon_remembers_from_the_kernel_what_it_held() -> None:
    """The side that is down is none of its causes."""
    mirror = fresh(Link(*NORTH, "physical"), Link(*SOUTH, "physical", up=False))
    assert mirror.held == {SOUTH}
    assert mirror.see({}, 0).held == {SOUTH}
    assert mirror.see({NORTH: True}, 0).held == frozenset()


def test_an_edge_that_does_not_mirror_holds_nothing_once_open() -> None:
    """Its carriers are its own."""
    mirror = fresh(tree=edge(mirror=False)).see(WHOLE, 0)
    assert mirror.held == frozenset()
    assert mirror.see({SOUTH: True}, 100).held == frozenset()
    assert mirror.namespaces == {NS}


def test_a_wire_keeps_its_state_over_a_new_intent() -> None:
    """One that is gone is forgotten; a new one is closed."""
    held = fresh().see(WHOLE, 0).see({SOUTH: True}, 1)
    more = changed(edge(), "inline.dmz.bridges.b", {"north": "eth7", "south": "eth8", "engine": "main"})
    after = held.over(intent(more), "h1", ())
    assert after.held == {SOUTH, (NS, "eth7"), (NS, "eth8")}
    assert after.judged(()).held == {SOUTH}
    assert after.over(intent(pair()), "h1", ()).held == frozenset()


@pytest.mark.parametrize(
    "refused",
    [
        NftTable(NS, ""),
        Engine(NS, 1, ""),
        Sysctl(NS, "net.bridge.bridge-nf-call-iptables", "1"),
        Wire(*NORTH, 1),
        Link(*SOUTH, "physical"),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_a_wire_is_closed_until_its_engine_stands(refused: Fact) -> None:
    """What was refused for another namespace, or another wire, is nothing to this one."""
    closed = Mirror().over(intent(edge()), "h1", ())
    assert closed.held == {NORTH, SOUTH}
    assert closed.see(WHOLE, 0).held == {NORTH, SOUTH}
    assert closed.judged([refused]).held == {NORTH, SOUTH}
    others = [NftTable(Namespace("vpc-red"), ""), Wire(NS, "eth9", 1), Link(NS, "eth9", "physical")]
    open_ = closed.judged(others)
    assert open_.held == frozenset()
    assert open_.judged([refused]).held == frozenset(), "what is open stays open: its mark still tells its engine"


def test_a_wire_that_stands_apart_waits_for_its_own_engine() -> None:
    """The table in its engine's namespace."""
    apart = Mirror().over(intent(edge(form="apart")), "h1", ())
    assert apart.judged([NftTable(Namespace("inl-dmz-main"), "")]).held == {NORTH, SOUTH}
    assert apart.judged([NftTable(NS, "")]).held == frozenset()


def test_a_restarted_daemon_leaves_open_what_it_finds_open() -> None:
    """Both ports up: nothing is held, not for a moment; both down: closed as before."""
    links = (Link(*NORTH, "physical"), Link(*SOUTH, "physical"))
    assert Mirror().over(intent(edge()), "h1", links).held == frozenset()
    closed = (Link(*NORTH, "physical", up=False), Link(*SOUTH, "physical", up=False))
    assert Mirror().over(intent(edge()), "h1", closed).held == {NORTH, SOUTH}


@dataclass
class Cables:
    """Two cables that may be cut, and how long a port takes to have a carrier after it was raised."""

    delay: float
    cut: dict[Side, bool] = field(default_factory=lambda: {"north": False, "south": False})
    ready: dict[Side, float] = field(default_factory=lambda: {"north": 0.0, "south": 0.0})

    def carrier(self, side: Side, held: Side | None, now: float) -> bool:
        """Tell whether a side has a carrier."""
        if self.cut[side] or held == side:
            self.ready[side] = now + self.delay
            return False
        return now >= self.ready[side]


@given(
    st.floats(0, GRACE * 0.9),
    st.lists(st.tuples(st.sampled_from(["north", "south"]), st.booleans(), st.floats(0.1, 20)), max_size=12),
)
def test_whatever_happens_to_the_cables_it_ends_as_they_are(
    delay: float, events: list[tuple[Side, bool, float]]
) -> None:
    """Whole cables hold nothing, one cut cable holds the other side, and two sides are never held."""
    cables, state, now = Cables(delay), State(open=True), 0.0
    steps = [(side, cut) if step == 0 else None for side, cut, pause in events for step in range(int(pause * 4))]
    for step in [*steps, *[None] * 80]:
        if step is not None:
            cables.cut[step[0]] = step[1]
        now += 0.25
        north, south = (cables.carrier(side, state.held, now) for side in SIDES)
        state = state.see(north=north, south=south, now=now)
    expected: dict[tuple[bool, bool], set[Side | None]] = {
        (False, False): {None},
        (True, False): {"south"},
        (False, True): {"north"},
    }
    cuts = (cables.cut["north"], cables.cut["south"])
    assert state.held in expected.get(cuts, {None, "north", "south"})
    if cuts == (False, False):
        assert state == State(open=True, patience=None)


def test_a_state_is_whole_only_when_both_were_seen() -> None:
    """Then patience is over."""
    assert State() == State(open=False, held=None, patience=inf)
    assert replace(State(), patience=3.0).see(north=True, south=True, now=0).patience is None
