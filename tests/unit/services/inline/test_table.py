"""The table in which engines of an inline edge judge."""

from __future__ import annotations

import re

from appliance.model.facts import Engine, Fact, Namespace, NftSet, NftTable
from appliance.model.marks import SIDE_SOUTH, inline_zone
from services.inline.table import ARRIVAL, engine_facts
from tests.support.intents import changed, intent
from tests.unit.services.inline.edges import two_wires

NS = Namespace("inl-dmz")
RULES = "inline.dmz.engines.main.rules"


def facts(path: str = "", value: object = None, engines: tuple[str, ...] = ("main", "other")) -> dict[object, Fact]:
    """Compile the engines of an edge, with one change."""
    tree = changed(two_wires(), path, value) if path else two_wires()
    return {(type(fact), fact.key): fact for fact in engine_facts(NS, intent(tree).inline["dmz"], engines)}


def body(engines: tuple[str, ...] = ("main", "other")) -> str:
    """Return the text of the table."""
    table = facts(engines=engines)[NftTable, NS]
    assert isinstance(table, NftTable)
    return table.body


def test_every_mark_of_an_engine_that_judges_here_has_its_zone() -> None:
    """Of an engine that stands elsewhere there is nothing: its frames would be dropped."""
    for engines, numbers in ((("main", "other"), (1, 7)), (("other",), (7,))):
        found = dict(re.findall(r"(0x[0-9a-f]{8}) : (\d{5})\b", body(engines)))
        zones = [inline_zone(1, number) for number in numbers]
        assert found == {f"{mark:#010x}": str(zone) for zone in zones for mark in (zone, zone | SIDE_SOUTH)}


def test_zones_are_given_before_fragments_are_put_together() -> None:
    """The kernel does that at -400, and what routers say to each other is let through before all."""
    text = body()
    assert ARRIVAL < -400
    assert f"priority {ARRIVAL}; policy accept" in text
    assert text.index("notrack") < text.index("ct zone set")
    assert "policy drop" in text


def test_each_packet_finds_the_rules_for_where_its_flow_began() -> None:
    """Original from south goes north, its replies come in at north."""
    roads = dict(re.findall(r"((?:original|reply) \. 0x[0-9a-f]{8}) : goto (road\w+)", body()))
    assert len(roads) == 8
    assert roads["original . 0x00010001"] == roads["reply . 0x00000001"] == "road1_north"
    assert roads["original . 0x00000007"] == roads["reply . 0x00010007"] == "road7_south"


def test_a_change_of_rules_changes_sets_and_one_engine_and_no_table() -> None:
    """So counters stay, and flows of the other engine are not judged again."""
    before = facts()
    after = facts(f"{RULES}.0.ports", [8443])
    differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    kinds = {type(after.get(key) or before[key]) for key in differing}
    assert kinds == {NftSet, Engine}
    assert [fact.number for key in differing if isinstance(fact := after.get(key), Engine)] == [1]


def test_a_changed_default_is_another_policy() -> None:
    """It stands in the text, and in the digest."""
    before, after = facts(), facts("inline.dmz.engines.other.northward", "allow")
    assert before[NftTable, NS] != after[NftTable, NS]
    assert before[Engine, (NS, 7)] != after[Engine, (NS, 7)]
    assert before[Engine, (NS, 1)] == after[Engine, (NS, 1)]
