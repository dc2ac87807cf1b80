"""The way from one body to another that no packet falls into, as text."""

from __future__ import annotations

import pytest

from appliance.kernel.nft_swap import Body, body, exchange, prepare, remove, surplus

OLD = """
    counter seen { }  # of all
    set kept { type ipv4_addr; }
    map old { type ipv4_addr : verdict; }
    chain engine1 { }
    chain web { counter name seen accept; }
    chain leaf { drop; }
    chain raw { type filter hook output priority raw; policy accept; }
    chain input {
        type filter hook input priority 0; policy drop;
        ip saddr vmap { 10.0.0.1 : accept, 10.0.0.2 : goto leaf }
        ip saddr vmap @old
    }
"""
NEW = """
    counter seen { }
    set kept { type ipv4_addr; }
    map new { type ipv4_addr : verdict; }
    chain engine1 { }
    chain engine2 { }
    chain web { counter name seen drop; }
    chain twig { accept; }
    chain input {
        type filter hook input priority 0; policy drop;
        ip saddr vmap @new
    }
    chain late { type filter hook postrouting priority 0; policy accept; }
"""


def taken(text: str) -> Body:
    """Take a body apart that can be."""
    found = body(text)
    assert found is not None
    return found


def test_a_body_is_taken_apart_at_its_braces() -> None:
    """Those inside chains are the chains'; maps and sets share their names, and comments are nobody's."""
    found = taken(OLD)
    assert [*found.pieces] == [
        ("counter", "seen"),
        ("set", "kept"),
        ("set", "old"),
        ("chain", "engine1"),
        ("chain", "web"),
        ("chain", "leaf"),
        ("chain", "raw"),
        ("chain", "input"),
    ]
    assert found.pieces["chain", "input"].endswith("vmap @old\n    }")
    assert found.hooks == {
        "raw": "type filter hook output priority raw; policy accept;",
        "input": "type filter hook input priority 0; policy drop;",
    }
    assert [*found.chains] == ["web", "leaf", "raw", "input"]


@pytest.mark.parametrize("text", ["flowtable f { hook ingress priority 0; }", "set a { } garbage", "chain { }"])
def test_what_is_not_known_is_not_taken_apart(text: str) -> None:
    """Such a table is made anew."""
    assert body(text) is None


def test_what_both_declare_must_be_declared_alike() -> None:
    """Sets in every word, chains by their hook; what only one of them has is in nobody's way."""
    old = taken(OLD)
    assert taken(NEW).follows(old)
    assert not taken(NEW.replace("kept { type ipv4_addr;", "kept { type ipv6_addr;")).follows(old)
    assert not taken(NEW.replace("priority 0; policy drop", "priority 1; policy drop")).follows(old)
    assert not taken(NEW.replace("policy drop", "policy accept")).follows(old)
    assert not taken(NEW.replace("chain web {", "chain web { type nat hook input priority 0;")).follows(old)
    assert taken(NEW.replace("set kept { type", "set kept {\n  type")).follows(old)


def test_what_is_new_is_there_before_a_packet_can_get_there() -> None:
    """Chains empty, and those with a hook not yet: a hook is where packets come from."""
    text, made = prepare(taken(OLD), taken(NEW))
    assert text.splitlines() == [
        "table inet edgeway {",
        "map new { type ipv4_addr : verdict; }",
        "chain engine2 { }",
        "chain twig { }",
        "}",
    ]
    assert made == {("set", "new"), ("chain", "engine2"), ("chain", "twig")}
    assert prepare(taken(OLD), taken(OLD)) == ("", frozenset())


def test_all_rules_change_at_once() -> None:
    """A chain that nobody comes to any more stays as it is; one with a hook goes. What stamps flows is not touched."""
    lines = exchange(taken(OLD), taken(NEW), NEW).splitlines()
    begin = lines.index("table inet edgeway {")
    assert set(lines[:begin]) == {
        *(f"flush chain inet edgeway {name}" for name in ("web", "raw", "input", "made_from")),
        "delete chain inet edgeway raw",
    }
    text = "\n".join(lines[begin:])
    assert "counter name seen drop" in text
    assert "chain late {" in text
    assert 'chain made_from { return comment "ew:' in text
    assert "engine" not in text


def test_what_is_left_goes_in_the_order_in_which_nothing_leads_to_it() -> None:
    """Rules, then sets and the verdicts in them, then chains."""
    held = {*taken(OLD).pieces, *taken(NEW).pieces, ("chain", "made_from"), ("counter", "x")} - {("chain", "raw")}
    gone = surplus(taken(NEW), held)
    assert gone == {("set", "old"), ("chain", "leaf"), ("counter", "x")}
    assert [*remove(gone)] == [
        "flush chain inet edgeway leaf",
        "delete set inet edgeway old",
        "delete chain inet edgeway leaf",
        "delete counter inet edgeway x",
    ]
