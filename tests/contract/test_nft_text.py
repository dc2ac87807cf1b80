"""Scripts and listings of our table, as text."""

from __future__ import annotations

from appliance.kernel.nft_text import Statement, add, blame, key, parse, subtract, table
from appliance.model.facts import Namespace, NftSet, NftTable

RED = Namespace("red")


def elements(name: str, *texts: str) -> NftSet:
    """Write a set short."""
    return NftSet(RED, name, frozenset(texts))


def test_a_table_is_made_anew_in_one_script() -> None:
    """It removes what was there, and carries the hash of its body."""
    text = table(NftTable(RED, "chain c { }\n")).text
    assert text.startswith(
        'table inet edgeway {}\ndelete table inet edgeway\ntable inet edgeway {\nchain made_from { return comment "ew:'
    )
    assert text.endswith("\nchain c { }\n}")


def test_nothing_to_add_or_subtract_is_no_statement() -> None:
    """Nft refuses empty braces."""
    assert add(elements("s"), ()) == []
    assert subtract(elements("s"), ()) == []


def test_elements_are_sorted_and_subtracted_by_key() -> None:
    """The same change is the same text."""
    given = elements("m", "2 : b", "1 : a")
    assert [one.text for one in add(given, given.elements)] == ["add element inet edgeway m { 1 : a, 2 : b }"]
    assert [one.text for one in subtract(given, given.elements)] == ["delete element inet edgeway m { 1, 2 }"]


def test_keys_leave_out_what_a_map_gives_and_comments() -> None:
    """`delete element` wants the key alone."""
    assert key("10.0.0.1 . 80 : goto web") == "10.0.0.1 . 80"
    assert key("2001:db8::1 : fd00::1") == "2001:db8::1"
    assert key('10.0.0.1 comment "a : b, c" : drop') == "10.0.0.1"
    assert key("80-90") == "80-90"


def test_a_listing_is_split_at_commas_outside_quotes() -> None:
    """Braces and commas inside quotes are text; elements do not count as rules."""
    listing = 'table inet edgeway {\n\tset s {\n\t\ttype ifname\n\t\telements = { "a,}b",\n\t\t\t     "c" }\n\t}\n\tchain made_from {\n\t\treturn comment "ew:abc"\n\t}\n}\n'
    found = parse(listing)
    assert found.hash == "abc"
    assert found.objects == {("set", "s"), ("chain", "made_from")}
    assert found.sets == {"s": {'"a,}b"', '"c"'}}
    assert found.rest == parse(listing.replace('"c"', '"d"')).rest
    assert found.rest != parse(listing.replace("type ifname", "type mark")).rest


def test_blame_finds_the_statement_of_the_line() -> None:
    """Lines are counted over the whole script."""
    one = Statement("table inet edgeway {\n}", NftTable(RED, ""))
    two = Statement("add element inet edgeway s { 1 }", elements("s", "1"))
    assert blame("line 2:1-3: Error: syntax error", [one, two]) == (one.fact, 22)
    assert blame("line 3:26-33: Error: No such file or directory\nadd", [one, two]) == (two.fact, 2)
    assert blame("Error: syntax error", [one, two]) == (None, 22)


def test_what_flow_records_live_by_is_told_apart() -> None:
    """Words, engines and families; rows are read elsewhere, and neither they nor stamps count as rules of the body."""
    listing = (
        'table inet edgeway {\n\tcomment "ew:abc"\n\tmap dispatch {\n\t\ttype mark : verdict\n'
        "\t\telements = { 0x00101100 : accept,\n\t\t\t     0x00101200 : drop }\n\t}\n\n"
        "\tmap instructions4 {\n\t\ttype mark : mark\n\t\telements = { 239.3.0.0 : 0x80000100 }\n\t}\n\n"
        "\tchain engine1 {\n\t\tgoto act\n\t}\n\n\tchain engine20 {\n\t}\n\n\tchain act {\n\t\taccept\n\t}\n}\n"
    )
    found = parse(listing)
    assert found.sets == {}
    assert found.dispatch == {"0x00101100 : accept", "0x00101200 : drop"}
    assert (found.engines, found.families) == ((1, 20), (4,))
    assert parse(listing.replace("goto act", "drop").replace("239", "240")).rest == found.rest
    assert parse(listing.replace("accept\n\t}", "drop\n\t}")).rest != found.rest
    assert parse(listing.replace("engine20", "engine21")).rest != found.rest
