"""What the table holds for flow records, and its changes, as values."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from appliance.kernel import nft_engines
from appliance.kernel.nft_engines import Bump, Flows
from appliance.kernel.nft_flows import Stamp, words_of
from appliance.model.errors import InternalError
from appliance.model.facts import Engine, FlowKey, Instruction, Namespace
from appliance.model.marks import Action
from tests.support.flow_body import flow_body

RED = Namespace("red")
FLOW = FlowKey(ip_address("10.0.0.1"), 1, ip_address("10.0.0.2"), 2, 17, 7)
SIX = FlowKey(ip_address("fd00::1"), 1, ip_address("fd00::2"), 2, 17, 7)


def advance(_: int, generation: int | None) -> int:
    """Count; begin at 100."""
    return 100 if generation is None else generation + 1


def live(number: int = 1, generation: int = 5, policy: str = "p") -> Flows:
    """Hold one engine that is as it must be."""
    return Flows({number: Stamp(generation, policy)}, {number: words_of(number, generation)})


def test_an_engine_is_told_with_its_policy() -> None:
    """If its chain and its words are right."""
    assert list(live().engines(RED)) == [Engine(RED, 1, "p")]


@pytest.mark.parametrize(
    "flows",
    [
        Flows({1: Stamp(5, "p")}),
        Flows({1: Stamp(5, "p")}, {1: words_of(1, 4)}),
        Flows({1: Stamp(5, "p")}, {1: {**words_of(1, 5), 0x0050_1100: "drop"}}),
        Flows({1: Stamp(5, "")}, {1: words_of(1, 5)}),
        Flows({1: None}),
        Flows({}, {1: words_of(1, 5)}),
    ],
)
def test_an_engine_that_is_not_as_it_must_be_has_no_policy(flows: Flows) -> None:
    """So it differs from what is wanted, whatever that is."""
    assert list(flows.engines(RED)) == [Engine(RED, 1, "")]


def test_an_engine_that_is_gone_keeps_its_generation_and_is_not_told() -> None:
    """Its next life goes on from there."""
    flows = live()
    change = nft_engines.end(flows, Engine(RED, 1, "p"), advance)
    assert change == Bump(Engine(RED, 1, "p"), Stamp(5, ""))
    assert change.words == {}
    nft_engines.record(flows, change)
    assert list(flows.engines(RED)) == []
    assert nft_engines.bump(flows, Engine(RED, 1, "q"), advance).stamp == Stamp(6, "q")


def test_a_bump_gives_the_next_generation_and_the_policy() -> None:
    """One that has no generation gets the first."""
    flows = live()
    change = nft_engines.bump(flows, Engine(RED, 1, "q"), advance)
    assert change.stamp == Stamp(6, "q")
    assert nft_engines.bump(flows, Engine(RED, 2, "q"), advance).stamp == Stamp(100, "q")
    nft_engines.record(flows, change)
    assert flows.live(1) == Stamp(6, "q")


def test_an_unsettled_engine_keeps_what_was_judged_and_is_no_policy_that_anybody_wants() -> None:
    """Its words are left alone, so the text is that of the chain."""
    flows = live()
    change = nft_engines.unsettle(flows, Engine(RED, 1, "q"))
    assert (change.stamp, change.words) == (Stamp(5, "unsettled"), flows.words[1])
    (made,) = nft_engines.statement(change, flows.words[1])
    assert "dispatch" not in made.text
    nft_engines.record(flows, change)
    assert list(flows.engines(RED)) == [Engine(RED, 1, "unsettled")]
    assert nft_engines.bump(flows, Engine(RED, 1, "q"), advance).stamp == Stamp(6, "q")


def test_an_engine_that_is_new_has_no_generation_until_it_is_bumped() -> None:
    """What its chain stamps until then counts as never judged."""
    flows = Flows()
    change = nft_engines.unsettle(flows, Engine(RED, 1, "q"))
    assert (change.stamp, change.words) == (Stamp(0, "unsettled"), {})
    nft_engines.record(flows, change)
    assert nft_engines.bump(flows, Engine(RED, 1, "q"), advance).stamp == Stamp(100, "q")


def test_words_without_a_chain_are_taken_away() -> None:
    """Nothing is written into a chain that may not be there."""
    flows = Flows({}, {0: {0x5: "accept"}})
    change = nft_engines.end(flows, Engine(RED, 0, ""), advance)
    assert change.stamp is None
    assert len(nft_engines.messages(flows, change)) == 1
    assert nft_engines.statement(change, flows.words[0])[0].text == (
        "delete element inet edgeway dispatch { 0x00000005 }"
    )


def test_a_policy_that_fits_no_comment_is_our_mistake() -> None:
    """Empty, quoted, or too long."""
    for policy in ("", 'a"b', "a b", "x" * 101):
        with pytest.raises(InternalError):
            nft_engines.bump(Flows(), Engine(RED, 1, policy), advance)


def test_a_bump_as_text_fills_the_chain_before_its_words() -> None:
    """Old words go by their keys."""
    change = Bump(Engine(RED, 1, "q"), Stamp(6, "q"))
    (made,) = nft_engines.statement(change, {0x0050_1100: "accept"})
    assert made.fact == Engine(RED, 1, "q")
    assert made.text.splitlines() == [
        "flush chain inet edgeway engine1",
        'add rule inet edgeway engine1 ct mark set meta mark and 0x00000fff or 0x00601000 comment "q"',
        "add rule inet edgeway engine1 goto act",
        "delete element inet edgeway dispatch { 0x00501100 }",
        "add element inet edgeway dispatch { 0x00601100 : accept, 0x00601200 : drop, 0x00601300 : goto do_reject, 0x00601400 : goto do_redirect, 0x00601500 : goto do_sample, 0x00601600 : goto do_limit }",
    ]


def test_a_body_says_which_engines_and_families_it_can_hold() -> None:
    """By its chains and maps."""
    assert nft_engines.declared(flow_body({1: "80", 254: "81"})) == (frozenset({1, 254}), frozenset({4, 6}))
    assert nft_engines.declared("map instructions4 { type mark : mark; }") == (frozenset(), frozenset({4}))


@pytest.mark.parametrize("action", list(Action))
def test_an_instruction_is_a_word_and_back(action: Action) -> None:
    """Never zero, with the bit that no mark has."""
    given = Instruction(RED, FLOW, action, 255)
    word = nft_engines.word_of(given)
    assert word == 0x8000_00FF | action << 8
    assert nft_engines.instruction(RED, FLOW, word) == given


@pytest.mark.parametrize("word", [0, 0x100, 0x8000_0000, 0x8000_0F00, 0x8010_0100])
def test_a_word_that_we_never_write_is_what_nobody_asks_for(word: int) -> None:
    """So it is put right, or taken away."""
    assert nft_engines.instruction(RED, FLOW, word).object == -1


def test_an_object_has_eight_bits() -> None:
    """More would reach into the action."""
    with pytest.raises(InternalError):
        nft_engines.word_of(Instruction(RED, FLOW, Action.LIMIT, 256))


def test_rows_are_text_for_the_map_of_their_family() -> None:
    """Only for maps that are declared; no rows are no statement."""
    rows = {FLOW: 0x8000_0100, SIX: 0x8000_0200}
    assert [one.text for one in nft_engines.rows_text(RED, rows, (4, 6))] == [
        "add element inet edgeway instructions4 { 7 . 10.0.0.1 . 1 . 10.0.0.2 . 2 . 17 : 0x80000100 }",
        "add element inet edgeway instructions6 { 7 . fd00::1 . 1 . fd00::2 . 2 . 17 : 0x80000200 }",
    ]
    assert nft_engines.rows_text(RED, {FLOW: 1}, (6,)) == []
