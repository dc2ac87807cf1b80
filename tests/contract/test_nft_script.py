"""The script that leads from what is held to what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

from appliance.kernel.nft_engines import Flows
from appliance.kernel.nft_flows import Stamp, words_of
from appliance.kernel.nft_script import Fact, Held, Script, postponed, prepared, script
from appliance.kernel.nft_swap import body
from appliance.kernel.nft_text import MADE_FROM, digest
from appliance.model.facts import Engine, FlowKey, Instruction, Namespace, NftSet, NftTable
from appliance.model.marks import Action
from appliance.state.diff import Change, diff
from tests.support.flow_body import flow_body

RED = Namespace("red")
TABLE = NftTable(RED, flow_body({1: "80", 2: "81"}))
FLOW = FlowKey(ip_address("10.0.0.1"), 1, ip_address("10.0.0.2"), 2, 17, 7)
STOP = Instruction(RED, FLOW, Action.DENY)


def held() -> Held:
    """Hold a set, an engine that lives, one that is gone, and an instruction."""
    flows = Flows({1: Stamp(5, "p"), 2: Stamp(9, "")}, {1: words_of(1, 5)}, {FLOW: 0x8000_0100})
    return Held(3, TABLE, {"denied": frozenset({"80"})}, "", flows)


def known() -> Held:
    """Hold the same, in a table that is known to be made of its body."""
    was, whole = held(), body(TABLE.body)
    assert whole is not None
    return replace(was, hash=digest(TABLE.body), objects=frozenset({*whole.pieces, ("chain", MADE_FROM)}))


def advance(_: int, generation: int | None) -> int:
    """Count; begin at 100."""
    return 100 if generation is None else generation + 1


def lead(held: Held, *changes: Change[Fact]) -> tuple[Script, list[str]]:
    """Return the script, and its statements with the body left out."""
    made = script(RED, held, changes, advance)
    return made, [one.text.split("table inet edgeway {\n")[0] for one in made.statements]


def changes(old: Sequence[Fact], new: Sequence[Fact]) -> tuple[Change[Fact], ...]:
    """Compare."""
    return diff(old, new).changes


def test_an_engine_is_unsettled_with_the_elements_and_bumped_afterwards() -> None:
    """Its flows stay as they were judged; what is held becomes so only when it was carried out."""
    new: list[Fact] = [NftSet(RED, "denied", frozenset({"81"})), Engine(RED, 1, "q")]
    was = held()
    made, texts = lead(was, *changes([NftSet(RED, "denied", frozenset({"80"})), Engine(RED, 1, "p")], new))
    assert [text.split("{")[0].split()[:2] for text in texts] == [
        ["delete", "element"],
        ["add", "element"],
        ["flush", "chain"],
    ]
    assert "dispatch" not in "".join(texts)
    assert [(bump.stamp, bump.words) for bump in made.bumps] == [(Stamp(5, "unsettled"), words_of(1, 5))]
    assert [change.new for change in made.follow] == [Engine(RED, 1, "q")]
    assert made.after.sets == {"denied": {"81"}}
    assert was.flows.live(1) == Stamp(5, "p")


def test_instructions_are_left_to_others_while_the_table_stays() -> None:
    """They need no script."""
    made, texts = lead(held(), *changes([], [STOP]))
    assert texts == []
    assert not made.bumps


def test_a_table_made_anew_holds_all_that_was_held() -> None:
    """Sets, rows, engines with their generation, to be bumped afterwards; one that is gone keeps its last, without words."""
    other = NftTable(RED, TABLE.body + "# other")
    made, texts = lead(held(), *changes([TABLE], [other]))
    assert texts[0].startswith("table inet edgeway {}\ndelete table")
    text = "\n".join(texts)
    assert "add element inet edgeway denied { 80 }" in text
    assert "add element inet edgeway instructions4 { 7 . 10.0.0.1 . 1 . 10.0.0.2 . 2 . 17 : 0x80000100 }" in text
    assert 'or 0x00501000 comment "unsettled"' in text
    assert 'or 0x00902000 comment ""' in text
    assert text.count("add element inet edgeway dispatch") == 1
    assert "delete element" not in text
    assert [change.new for change in made.follow] == [Engine(RED, 1, "p")]
    assert made.after.table == other


def test_a_table_made_anew_takes_changes_of_engines_and_instructions_with_it() -> None:
    """An engine that comes back has no words before it is bumped."""
    other = NftTable(RED, TABLE.body + "# other")
    old: list[Fact] = [TABLE, Engine(RED, 1, "p"), Instruction(RED, FLOW, Action.ALLOW)]
    made, texts = lead(held(), *changes(old, [other, Engine(RED, 2, "r"), STOP]))
    text = "\n".join(texts)
    assert "17 : 0x80000200 }" in text
    assert 'or 0x00501000 comment ""' in text
    assert 'or 0x00902000 comment "unsettled"' in text
    assert "dispatch {" not in text
    assert [change.new for change in made.follow] == [Engine(RED, 2, "r")]


OTHER = NftTable(
    RED,
    flow_body({3: "82"}).replace("set denied {", "set refused {").replace("@denied", "@refused"),
)


def test_what_new_rules_lead_to_is_made_ready_with_all_its_elements() -> None:
    """In a transaction that no packet notices; a table that must be made anew has none."""
    given = changes(
        [TABLE, NftSet(RED, "denied", frozenset({"80"}))], [OTHER, NftSet(RED, "refused", frozenset({"81"}))]
    )
    made = prepared(known(), given)
    assert made is not None
    assert [one.text for one in made.statements] == [
        "table inet edgeway {\nset refused { type inet_service; }\nchain engine3 { }\n}",
        "add element inet edgeway refused { 81 }",
    ]
    assert made.after.sets == {"denied": {"80"}, "refused": {"81"}}
    assert made.after.objects - known().objects == {("set", "refused"), ("chain", "engine3")}
    assert prepared(held(), given) is None
    assert prepared(known(), changes([TABLE], [])) is None
    assert prepared(known(), changes([], [STOP])) is None


def test_rules_are_exchanged_and_what_the_old_ones_led_to_goes_afterwards() -> None:
    """All engines are unsettled with them and bumped last; what counts, counts on."""
    old: list[Fact] = [TABLE, NftSet(RED, "denied", frozenset({"80"})), Engine(RED, 1, "p")]
    given = changes(old, [OTHER, NftSet(RED, "refused", frozenset({"81"})), Engine(RED, 3, "r")])
    ready = prepared(known(), given)
    assert ready is not None
    now, later = postponed(ready.after, given)
    made = script(RED, ready.after, now, advance)
    text = "\n".join(one.text for one in made.statements)
    assert "delete table" not in text
    assert "element" not in text
    assert "flush chain inet edgeway judge" in text
    assert "counter judged" not in text
    assert 'or 0x00003000 comment "unsettled"' in text
    assert made.looked
    assert [(change.operation, change.new) for change in made.follow] == [
        ("update", Engine(RED, 3, "r")),
        ("delete", None),
    ]
    last = script(RED, made.after, [*later, *made.follow], advance, last=True)
    lines = "\n".join(one.text for one in last.statements).splitlines()
    assert [line for line in lines if line.startswith("delete")] == [
        *(line for line in lines if line.startswith("delete element inet edgeway dispatch")),
        "delete set inet edgeway denied",
        "delete chain inet edgeway engine1",
        "delete chain inet edgeway engine2",
    ]
    assert "add element inet edgeway dispatch" in "\n".join(lines)


def test_an_engine_and_a_row_that_the_new_body_has_no_place_for_are_left_out() -> None:
    """Unless they are wanted: then nft says that there is no such chain."""
    small = NftTable(RED, "map dispatch { type mark : verdict; }")
    _, texts = lead(held(), *changes([TABLE, Engine(RED, 1, "p")], [small]))
    assert "engine" not in "\n".join(texts)
    assert "instructions" not in "\n".join(texts)
    _, texts = lead(held(), *changes([TABLE], [small]))
    assert "flush chain inet edgeway engine1" in "\n".join(texts)


def test_a_table_that_goes_takes_all_with_it() -> None:
    """Nothing is held afterwards."""
    made, texts = lead(held(), *changes([TABLE, Engine(RED, 1, "p"), STOP], []))
    assert texts == ["table inet edgeway {}\ndelete table inet edgeway"]
    assert (made.after.table, made.after.sets, made.after.flows) == (None, {}, Flows())


WIDE = NftTable(
    RED,
    flow_body({1: "80", 2: "81"})
    + "\nmap regions { type ipv4_addr . inet_service : mark; flags interval; }\nmap verdicts { type mark : mark; }",
)


def wide() -> Held:
    """Hold a table with a map of intervals, and what it leads to."""
    return Held(3, WIDE, {"regions": region(1).elements, "verdicts": verdicts((1, 1), (5, 1)).elements})


def region(number: int) -> NftSet:
    """Return the map of regions with one element."""
    return NftSet(RED, "regions", frozenset({f"10.0.0.0/8 . 80 : {number:#010x}"}))


def verdicts(*pairs: tuple[int, int]) -> NftSet:
    """Return what regions lead to."""
    return NftSet(RED, "verdicts", frozenset(f"{key:#010x} : {value:#010x}" for key, value in pairs))


def test_what_old_intervals_lead_to_stays_until_every_packet_that_found_them_has_left() -> None:
    """New elements and new values come at once."""
    bump = Engine(RED, 1, "q")
    given = changes(
        [region(1), verdicts((1, 1), (5, 1)), Engine(RED, 1, "p")], [region(2), verdicts((2, 2), (5, 2)), bump]
    )
    first, second = postponed(wide(), given)
    assert {change.new for change in first} == {region(2), verdicts((1, 1), (2, 2), (5, 2)), bump}
    assert [change.new for change in second] == [verdicts((2, 2), (5, 2))]


def test_a_set_that_goes_is_emptied_later() -> None:
    """It may be what old intervals lead to."""
    given = changes([region(1), verdicts((1, 1), (5, 1))], [region(2)])
    _, second = postponed(wide(), given)
    assert [(change.operation, change.new) for change in second] == [("delete", None)]


def test_without_intervals_or_with_another_table_nothing_is_postponed() -> None:
    """Hashed sets change at one moment."""
    other = changes([verdicts((1, 1), (5, 1))], [verdicts((2, 2))])
    assert postponed(wide(), other) == (other, ())
    anew = (*changes([WIDE, region(1)], [TABLE, region(2)]), *other)
    assert postponed(wide(), anew) == (anew, ()), "nobody knows what it was made of"
    assert postponed(Held(3, None, {}), other) == (other, ())


def test_in_the_last_transaction_engines_are_bumped() -> None:
    """And not unsettled."""
    made = script(RED, held(), changes([Engine(RED, 1, "p")], [Engine(RED, 1, "q")]), advance, last=True)
    assert [bump.stamp for bump in made.bumps] == [Stamp(6, "q")]
    assert made.follow == []
