"""A thousand broken intents: each is either an intent that every node can compile, or findings with a place.

Every mutation follows from its seed: `mutate(seed)` gives the text of a failure again.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from appliance.control.compile import compile_intent, surroundings
from appliance.model.errors import Finding, OperatorError
from appliance.model.intent import Intent
from appliance.model.load import parse
from tests.support.intents import LAB, Tree, one_vpc, random_tree, to_yaml, two_vpcs
from tests.support.laws import clashes, compile_all, heard

SEEDS, BATCH = 1000, 50
ONE = to_yaml(one_vpc())

ODD_TEXT = (
    "\t", "\x00", "\x85", "\u2028", "\ufeff", "\ud800", "é", "🦊", "٣", "'", '"', "{", "}", "[", "]", ":", "- ", "? ",
    "&a ", "*a", "&a *a", "<<: *a", "<<: {as: 1}", "!!binary x", "!x ", "!!set {a}", "%YAML 1.1\n---\n", "---", "...",
    "|", ">", "#", "~", "null", "2001-12-14", "2001-99-99", "1:30", "0x" + "f" * 5000, "9" * 5000, "1e999", ".nan",
    ".inf", "-0", "010", "true", "yes", "@", "`", '"\\ud800"', '"\\0"', "{a: &b [*b, *b]}", " ", "\n", "\r", "[" * 300,
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**64, 10**60, 0.5, -0.0, 1e300, float("nan"), float("inf"), "", " ", "~",
    "x" * 5000, "lo", "ew-v1", "..", "0.0.0.0", "0.0.0.0/0", "255.255.255.255", "255.255.255.255/32", "::", "::/0",
    "10.0.0.11", "10.0.0.11/24", "10.255.0.11", "203.0.113.80", "203.0.113.0/24", "203.0.113.1/32", "172.16.1.1",
    "224.0.0.1", "100.64.0.1/31", "fe80::1", "fe80::1%eth0", "fd00:ed9e::1", "fd00::/8", "::ffff:10.0.0.1", "1.2.3",
    "10.0.0.0/8 ge 9 le 8", "10.0.0.0/8 ge 99999999999999999999", "outside", "h1", "rs1", "r1", "web", "é", "٨٠", "80-79",
    "0", "65536", "2001-12-14", [], {}, [[]], [None], {"a": 1}, {"é": {}}, ["outside", "outside"], ["r1", "r1"], [0],
    {1: 2}, ["host", "host"], ["host", "route-server"], ["host", "gateway"], 60_000, 63, 4096, 64, 64512, 64500,
)  # fmt: skip


def _lines(dice: random.Random, text: str) -> str:
    """Delete, double, swap, indent or join lines."""
    lines = text.split("\n")
    here, there = dice.randrange(len(lines)), dice.randrange(len(lines))
    action = dice.randrange(6)
    if action == 0:
        del lines[here]
    elif action == 1:
        lines.insert(there, lines[here])
    elif action == 2:
        lines[here], lines[there] = lines[there], lines[here]
    elif action == 3:
        lines[here] = " " * dice.randint(1, 5) + lines[here]
    elif action == 4:
        lines[here] = lines[here][dice.randint(1, 4) :]
    else:
        lines[here : here + dice.randint(2, 5)] = [" ".join(lines[here : here + 2])]
    return "\n".join(lines)


def _characters(dice: random.Random, text: str) -> str:
    """Put something odd anywhere, instead of what stands there or beside it."""
    here = dice.randrange(len(text))
    return text[:here] + dice.choice(ODD_TEXT) + text[here + dice.choice((0, 0, 1, 3)) :]


def _bytes(dice: random.Random, text: str) -> str:
    """Flip bytes, as a bad disk would."""
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(dice.randint(1, 3)):
        raw[dice.randrange(len(raw))] = dice.randrange(256)
    return raw.decode("utf-8", "surrogateescape")


def _values(dice: random.Random, text: str) -> str:
    """Write something odd where a value stands."""
    lines = text.split("\n")
    chosen = [index for index, line in enumerate(lines) if ": " in line]
    if not chosen:
        return text
    here = dice.choice(chosen)
    key, _, _ = lines[here].partition(": ")
    lines[here] = f"{key}: {dice.choice(ODD_TEXT)}"
    return "\n".join(lines)


def _anchors(dice: random.Random, text: str) -> str:
    """Anchor one line's value and use it in another place, as alias or merge key."""
    lines = text.split("\n")
    here, there = sorted(dice.choices(range(len(lines)), k=2))
    lines[here] = lines[here].replace(": ", ": &a ", 1) if ": " in lines[here] else lines[here] + " &a"
    key, _, _ = lines[there].partition(":")
    indent = lines[there][: len(lines[there]) - len(lines[there].lstrip())]
    lines[there] = dice.choice((f"{key}: *a", f"{indent}<<: *a", f"{indent}<<: [*a, *a]", f"{indent}- *a"))
    return "\n".join(lines)


def _tree(dice: random.Random, text: str) -> str:
    """Change the tree: `text` is not looked at."""
    tree = dice.choice((one_vpc, two_vpcs, lambda: random_tree(dice)))()
    for _ in range(dice.randint(1, 2)):
        _change(dice, tree)
    return to_yaml(tree)


def _clash(dice: random.Random, text: str) -> str:
    """Change values into others of their kind: the types stay right, what they say together does not."""
    tree = dice.choice((one_vpc, two_vpcs, lambda: random_tree(dice)))()
    for _ in range(dice.randint(1, 2)):
        leaves = [(c, k) for c, k in _places(tree) if not isinstance(c[k], dict | list)]
        parent, key = dice.choice(leaves)
        value = parent[key]
        alike = [c[k] for c, k in leaves if type(c[k]) is type(value) and _shape(k, c[k]) == _shape(key, value)]
        if type(value) is int:
            alike += [value - 1, value + 1, value * 2, value + 16]
        parent[key] = dice.choice(alike)
    if dice.random() < 0.2:
        parent, key = dice.choice([(c, k) for c, k in _places(tree) if isinstance(c, dict)])
        del parent[key]
    return to_yaml(tree)


def _shape(key: Any, value: Any) -> str:
    """Tell addresses from prefixes, and words by the key they stand under."""
    return re.sub(r"[0-9a-f]+", "0", str(value)) if str(value)[:1].isdigit() else str(key)


def _change(dice: random.Random, tree: Tree) -> None:
    """Delete, add, replace or move one value of a tree."""
    places = list(_places(tree))
    parent, key = dice.choice(places)
    if key not in (parent if isinstance(parent, dict) else range(len(parent))):
        return
    action = dice.randrange(6)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, dict):
        parent[dice.choice(("x", "_as", "as_", "id", "lax-1", "[key]", "é", "function-x", ""))] = copy.deepcopy(
            parent[key]
        )
    elif action == 2:
        other, name = dice.choice(places)
        parent[key] = (
            copy.deepcopy(other[name]) if name in (other if isinstance(other, dict) else range(len(other))) else 0
        )
    elif action == 3 and isinstance(parent, dict):
        parent[dice.choice(list(parent))] = copy.deepcopy(parent[key])
    else:
        parent[key] = copy.deepcopy(dice.choice(ODD_VALUES))


def _places(value: Any) -> Any:
    """Yield (container, key) of everything in a tree."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


MUTATIONS: tuple[Callable[[random.Random, str], str], ...] = (
    _lines, _lines, _characters, _values, _bytes, _anchors, _tree, _tree, _tree, _clash, _clash, _clash, _clash,
)  # fmt: skip


def mutate(seed: int) -> str:
    """Return the text of a seed."""
    dice = random.Random(seed)
    mutation = dice.choice(MUTATIONS)
    text = dice.choice((LAB, ONE, ONE, None)) or to_yaml(random_tree(dice))
    for _ in range(1 if mutation in (_tree, _clash) else dice.randint(1, 3)):
        text = mutation(dice, text) or "\n"
    return text


def read(text: str) -> tuple[Intent | None, tuple[Finding, ...]]:
    """Take the operator's road; whatever is raised apart from findings goes through."""
    try:
        return parse(text, "intent.yaml"), ()
    except OperatorError as error:
        return None, error.findings


def judge(text: str) -> str:
    """Hold the law for one text: return "accepted" or "refused", or fail."""
    intent, findings = read(text)
    for finding in findings:
        assert 1 <= finding.line <= len(text.splitlines()) + 1, finding
        assert finding.column >= 1, finding
        assert finding.message, finding
        assert finding.file == "intent.yaml"
        assert str(finding).encode(), "what is printed is text"
    if intent is None:
        assert findings
        return "refused"
    for name in intent.nodes:
        desired = compile_intent(intent, name)
        assert clashes(desired) == []
        assert surroundings(intent, name).node_id == intent.nodes[name].id
    assert [sent for sent in heard(intent, compile_all(intent)) if sent.reason is not None] == []
    return "accepted"


@pytest.mark.timeout(120)  # a hang; a batch takes a fiftieth
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_a_mutation_is_an_intent_or_findings_with_a_place(first: int) -> None:
    """Never another exception, never a hang, never a finding that points nowhere."""
    for seed in range(first, first + BATCH):
        text = mutate(seed)
        try:
            judge(text)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def test_mutations_reach_both_sides() -> None:
    """Mutations that were all refused, or all accepted, would test nothing."""
    verdicts = [judge(mutate(seed)) for seed in range(100)]
    assert 5 < verdicts.count("accepted") < 50
