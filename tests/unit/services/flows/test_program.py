"""Pieces of the program that judges flows."""

from __future__ import annotations

import re

import pytest

from appliance.model.facts import Namespace, NftSet
from appliance.model.marks import DECIDED, VERDICTS, Action
from services.flows.program import COUNTERS, Rate, base, engines, index, instructions, room, rules, word
from services.rules.compile import compile_rules
from services.rules.rule import ANY_ADDRESS, ANY_PORT, Match

NS = Namespace("vpc-red")
WEB = Match((ANY_ADDRESS[4],), ((10, 10),), ((6, 6),), ((80, 80),))
REST = Match((ANY_ADDRESS[4],), ((10, 20),), ((0, 255),), (ANY_PORT,))


def test_a_word_is_told_from_every_other_number_by_its_first_bit() -> None:
    """Action and object stand where a mark has them."""
    assert word(Action.REDIRECT, 5) == DECIDED | 0x405
    assert all(word(action) & DECIDED for action in Action)


@pytest.mark.parametrize(("groups", "chains"), [(0, 4), (1, 4), (4, 4), (5, 8), (9, 16), (200, 256)])
def test_a_table_has_room_for_more_engines_than_there_are(groups: int, chains: int) -> None:
    """It is made anew only when they double."""
    assert room(groups) == chains


def test_every_verdict_has_its_chain_and_every_counter_is_declared() -> None:
    """What the kernel port and the chains refer to."""
    parts = base((), (Rate(Action.LIMIT, 1, 100), Rate(Action.SAMPLE, 2, 10)), links=True)
    names = {chain.name for chain in parts.chains}
    text = "\n".join(chain.text for chain in parts.chains)
    assert {verdict.removeprefix("goto ") for verdict in VERDICTS.values() if "goto" in verdict} <= names
    assert set(re.findall(r"counter name (\w+)", text)) == set(COUNTERS) - {"spoofed", "unmatched"}
    assert set(re.findall(r"goto (\w+)", text)) - names == {"decide"}
    assert "0x1 limit rate over 100/second" in text
    assert "0x2 numgen inc mod 10 0 log" in text


def test_the_first_rule_of_a_packet_is_the_dispatch() -> None:
    """One look-up for a flow that was judged."""
    (judge,) = (chain for chain in base(("slow",)).chains if chain.name == "judge")
    assert judge.statements[0] == "ct mark & 0xffffff00 vmap @dispatch"
    assert judge.statements[2] == "slow"


def test_instructions_are_looked_up_by_the_tuple_of_the_record() -> None:
    """In its zone."""
    (four, six) = instructions((4, 6))
    assert "ct zone . ct original ip saddr . ct original proto-src" in four
    assert six.endswith("ct original protocol map @instructions6")


def test_two_indexes_share_the_regions_and_have_verdicts_of_their_own() -> None:
    """The first rule in the order of the index gives the verdict of a set."""
    matches = {"web": WEB, "rest": REST}
    orders = (("web", "rest"), ("rest", "web"), ())
    compiled = {4: compile_rules(matches, orders)}
    words = {"web": word(Action.ALLOW), "rest": word(Action.DENY)}
    shared = rules(compiled, NS)  # type: ignore[arg-type]
    (regions,) = shared.sets
    assert len(regions.elements) > 1
    found = []
    for number, order in enumerate(orders):
        parts = index(compiled, NS, f"port{number}", order, words, "goto defaults")  # type: ignore[arg-type]
        (verdicts,) = parts.sets
        assert parts.chains[0].statements[-1] == "goto defaults"
        assert verdicts.name in parts.declarations[0]
        found.append(verdicts)
    assert {element[-10:] for element in found[0].elements} == {"0x80000100", "0x80000200"}
    assert {element[-10:] for element in found[1].elements} == {"0x80000200"}
    assert found[2] == NftSet(NS, found[2].name, frozenset())


def test_engines_have_empty_chains() -> None:
    """The kernel port fills them."""
    assert [chain.text for chain in engines((1, 2))] == ["chain engine1 {\n}", "chain engine2 {\n}"]
