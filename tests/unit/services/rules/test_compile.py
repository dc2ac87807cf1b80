from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from services.rules import compile as compiling
from services.rules import plan
from services.rules.compile import SETS, RulesMultiplyError, compile_rules, first, number_sets
from services.rules.rule import Box, Match, Packet, evaluate
from tests.unit.services.rules.universes import Universe, rule, universe


@pytest.fixture(params=["few stages", "many stages"])
def price(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile as usual, and as if a stage cost nothing: small rule sets would need one stage only."""
    if request.param == "many stages":
        for module in (plan, compiling):
            monkeypatch.setattr(module, "STAGE_COST", 0)


@pytest.mark.parametrize("agree", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_the_stages_decide_as_the_rules_one_after_the_other(price: None, seed: int, agree: bool) -> None:
    """For every index at once, whatever their orders."""
    made = universe(seed, agree=agree)
    stages = compile_rules(made.rules, made.indexes)
    for packet in made.packets(Random(seed), 60):
        for index in made.indexes:
            assert stages.decide(index, packet) == evaluate(made.rules, index, packet)


def test_a_single_rule_set_is_right_for_every_packet() -> None:
    """No corner is left out."""
    made = universe(7, 8)
    small = Universe(made.rules, made.indexes)
    stages = compile_rules(small.rules, small.indexes)
    corners = sorted({point for match in made.rules.values() for spans in match for span in spans for point in span})
    for source in corners:
        for destination in corners:
            for port in corners:
                packet = Packet(source, destination, source % 8, port)
                for index in made.indexes:
                    assert stages.decide(index, packet) == evaluate(made.rules, index, packet)


@pytest.mark.parametrize("seed", range(12))
def test_regions_of_a_stage_are_disjoint(price: None, seed: int) -> None:
    """The kernel refuses elements that overlap."""
    made = universe(seed, 10)
    for stage in compile_rules(made.rules, made.indexes).stages:
        for one, other in combinations(list(stage.regions)[:400], 2):
            assert not all(low <= top and bottom <= high for (low, high), (bottom, top) in zip(one, other, strict=True))


def test_many_stages_are_really_tried() -> None:
    """Rules by source and rules by destination, many enough, are kept apart."""
    width = 2**32 - 1
    anything = ((0, width),)
    sources = {f"s{n:03}": Match(((n, n),), anything, ((6, 6),), ((0, 65535),)) for n in range(0, 600, 2)}
    targets = {f"t{n:03}": Match(anything, ((n, n),), ((6, 6),), ((0, 65535),)) for n in range(0, 600, 2)}
    rules = sources | targets
    stages = compile_rules(rules, [tuple(sorted(rules))])
    assert [len(stage.regions) for stage in stages.stages] == [300, 300]
    assert [stage.order[0] for stage in stages.stages] == ["source", "destination"]
    packet = Packet(4, 8, 6, 1)
    assert stages.decide(("s004", "t008"), packet) == "s004"
    assert stages.decide(("t008",), packet) == "t008"


def test_two_rules_in_opposite_order_give_opposite_decisions() -> None:
    """In one stage, with one set for both indexes."""
    rules = {"allow": rule(source=(0, 7)), "deny": rule(destination=(0, 7))}
    indexes = [("allow", "deny"), ("deny", "allow")]
    stages = compile_rules(rules, indexes)
    assert [stages.decide(index, Packet(1, 1, 1, 1)) for index in indexes] == ["allow", "deny"]
    assert len(stages.stages) == 1


def test_the_order_of_mappings_is_nothing(price: None) -> None:
    """The same rules are always divided alike."""
    made = universe(3)
    turned = dict(reversed(made.rules.items()))
    assert compile_rules(made.rules, made.indexes) == compile_rules(turned, tuple(reversed(made.indexes)))


def test_one_more_rule_changes_few_regions() -> None:
    """And no number of a set that stays."""
    anything = ((0, 2**32 - 1),)
    rules = {f"{n:03}": Match(((n * 256, n * 256 + 255),), anything, ((6, 6),), ((80, 80),)) for n in range(200)}
    names = tuple(sorted(rules))
    before = compile_rules(rules, [names])
    rules["new"] = Match(((512, 520),), anything, ((6, 6),), ((80, 90),))
    after = compile_rules(rules, [("new", *names)])
    (old,), (new,) = (stages.stages for stages in (before, after))
    assert old.order == new.order
    assert len(set(old.regions.items()) ^ set(new.regions.items())) <= 6
    assert len(set(old.sets.items()) ^ set(new.sets.items())) <= 2


def test_rules_of_no_index_and_rules_that_match_nothing_take_no_place() -> None:
    """No packet can be decided by them."""
    rules = {"held": rule(source=(1, 1)), "lost": rule(), "empty": rule(port=())}
    stages = compile_rules(rules, [("empty", "held")])
    assert list(stages.sets.values()) == [("held",)]
    assert compile_rules(rules, []).stages == ()
    assert compile_rules(rules, [("empty",), ()]).stages == ()
    assert compile_rules(rules, [("empty",), ()]).decide(("empty",), Packet(0, 0, 0, 0)) is None


def test_rules_that_multiply_are_refused_and_named() -> None:
    """The operator learns which ones."""
    some = {f"s{n}": rule(source=(n, n)) for n in range(0, 16, 2)} | {
        f"t{n}": rule(port=(n, n)) for n in range(0, 16, 2)
    }
    names = tuple(sorted(some))
    with pytest.raises(RulesMultiplyError, match=r"more than 50 ways.*s0") as caught:
        compile_rules(some | {"calm": rule()}, [(*names, "calm"), names[::-1]], most_regions=50)
    assert caught.value.who == "operator"
    assert set(caught.value.rules) <= set(names)
    assert "calm" not in caught.value.rules


def test_a_number_means_one_set_in_every_stage(price: None) -> None:
    """So one table of verdicts serves all stages."""
    made = universe(11, 25)
    stages = compile_rules(made.rules, made.indexes)
    for stage in stages.stages:
        assert set(stage.regions.values()) == set(stage.sets)
        assert all(stages.sets[number] == rules for number, rules in stage.sets.items())
        assert all(1 <= number <= SETS for number in stage.sets)


def test_sets_that_want_one_number_get_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Always in the same way, round the end."""
    monkeypatch.setattr(compiling, "SETS", 3)
    numbers = number_sets([("a",), ("b",), ("a", "b")])
    assert sorted(numbers.values()) == [1, 2, 3]
    assert number_sets([("a", "b"), ("b",), ("a",)]) == numbers


def test_the_first_rule_of_a_set_is_that_of_the_index() -> None:
    """Not that of the set."""
    assert first(("c", "b", "a"), ("a", "b")) == "b"
    assert first(("c",), ("a", "b")) is None


def test_a_stage_finds_the_rules_that_cover_a_packet() -> None:
    """Nothing where there is no region."""
    (stage,) = compile_rules({"a": rule(source=(1, 2))}, [("a",)]).stages
    assert stage.covering(Packet(2, 0, 0, 0)) == ("a",)
    assert stage.covering(Packet(3, 0, 0, 0)) == ()
    assert list(stage.regions) == [Box((1, 2), (0, 15), (0, 7), (0, 15))]
