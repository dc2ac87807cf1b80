from __future__ import annotations

from services.rules.order import Precedence, bits
from services.rules.plan import STAGE_COST, Planner
from services.rules.relations import Relations
from services.rules.rule import Index, Match
from tests.unit.services.rules.universes import rule


def planner(matches: dict[str, Match], *indexes: Index, most: int = 16) -> Planner:
    """Plan for rules that are broad where they match anything."""
    names = sorted(matches)
    relations = Relations([matches[name].merged() for name in names])
    numbers = {name: number for number, name in enumerate(names)}
    keys = [(tuple(2 * (len(value) == 1 and value[0][0] == 0) for value in matches[name]), name) for name in names]
    return Planner(relations, Precedence(indexes, numbers, relations.overlaps), keys, most)


def crossing(count: int) -> dict[str, Match]:
    """Return rules by source and rules by destination, each of which crosses all of the other kind."""
    sources = {f"s{n:02}": rule(source=(n + 1, n + 1)) for n in range(count)}
    return sources | {f"t{n:02}": rule(destination=(n + 1, n + 1)) for n in range(count)}


def test_rules_that_do_not_cross_share_one_stage() -> None:
    """There is no other plan."""
    (plan,) = planner({f"{n:02}": rule(source=(n + 1, n + 1)) for n in range(9)}, ("00", "01")).plans()
    assert plan.stages == (0b111111111,)
    assert plan.cost == STAGE_COST


def test_rules_that_cross_get_a_plan_with_a_stage_each_kind() -> None:
    """If no index forbids it."""
    rules = crossing(8)
    stages = {plan.stages for plan in planner(rules, tuple(sorted(rules))).plans()}
    assert (0x00FF, 0xFF00) in stages
    assert (0xFFFF,) in stages


def test_no_plan_breaks_the_order_of_an_index() -> None:
    """A rule that comes later is never in an earlier stage than one that it overlaps."""
    rules = crossing(4)
    names = sorted(rules)
    indexes = (("s00", "t00", "s01", "t01"), ("t02", "s03"))
    for plan in planner(rules, *indexes).plans():
        place = {names[number]: stage for stage, mask in enumerate(plan.stages) for number in bits(mask)}
        assert sorted(place) == names
        assert place["s00"] <= place["t00"] <= place["s01"] <= place["t01"]
        assert place["t02"] <= place["s03"]


def test_rules_that_indexes_disagree_about_share_a_stage() -> None:
    """Whatever it costs."""
    rules = crossing(2)
    for plan in planner(rules, ("s00", "t00"), ("t00", "s00")).plans():
        assert any(mask & 0b0101 == 0b0101 for mask in plan.stages)


def test_there_are_never_more_stages_than_allowed() -> None:
    """The rest share the last ones."""
    rules = crossing(8)
    alternating = tuple(name for pair in zip(sorted(rules)[:8], sorted(rules)[8:], strict=True) for name in pair)
    assert {len(plan.stages) for plan in planner(rules, alternating).plans()} >= {16}
    assert max(len(plan.stages) for plan in planner(rules, alternating, most=3).plans()) == 3
