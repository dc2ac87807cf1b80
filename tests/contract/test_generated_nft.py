"""Every nft table that is compiled is one that nft and this kernel take: over many random VPCs."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable

import pytest

from appliance.control.compile import Known, compile_intent
from appliance.model.facts import Fact, NftSet, NftTable
from appliance.model.intent import Intent
from services.feature import Runtime
from tests.support.intents import intent, lab, random_tree, two_vpcs
from tests.support.laws import every_block
from tests.support.namespaces import Namespaces

pytestmark = pytest.mark.kernel


def scripts(facts: Iterable[Fact], number: int) -> str:
    """Write every table with its elements; tables of several namespaces get names of their own, to be one check."""
    tables = {fact.ns: fact for fact in facts if isinstance(fact, NftTable)}
    sets = [fact for fact in facts if isinstance(fact, NftSet)]
    lines = []
    for index, (ns, table) in enumerate(sorted(tables.items())):
        lines.append(f"table inet t{number}x{index} {{\n{table.body}\n}}")
        for fact in sorted((fact for fact in sets if fact.ns == ns and fact.elements), key=lambda fact: fact.name):
            elements = ", ".join(sorted(fact.elements))
            lines.append(f"add element inet t{number}x{index} {fact.name} {{ {elements} }}")
    assert {fact.ns for fact in sets} <= set(tables)
    return "\n".join(lines)


def check(namespaces: Namespaces, script: str) -> str:
    """Let nft and the kernel judge in a namespace of the test; nothing is committed."""
    name = namespaces("nft")
    command = ["nsenter", f"--net=/run/netns/{name}", "nft", "-c", "-f", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr or "refused"


def tables_of(made: Intent, number: int, known: Known | None = None) -> str:
    """Write the tables of every host."""
    hosts = made.with_role("host")
    compiled = [compile_intent(made, host, known or every_block(made, host)) for host in hosts]
    return "\n".join(scripts(desired.facts, number * 100 + index) for index, desired in enumerate(compiled))


def test_nft_takes_the_tables_of_the_lab(netns_factory: Namespaces) -> None:
    """The intent that the README shows."""
    script = tables_of(lab(), 1)
    assert script.count("table inet") == 4
    assert check(netns_factory, script) == ""


@pytest.mark.parametrize("first", [0, 50])
def test_nft_takes_the_tables_of_random_vpcs(first: int, netns_factory: Namespaces) -> None:
    """Rules, ports, VIPs, floating addresses and port blocks in any combination."""
    script = "\n".join(tables_of(intent(random_tree(random.Random(seed))), seed) for seed in range(first, first + 50))
    assert script.count("table inet") > 50
    assert check(netns_factory, script) == ""


def test_nft_takes_the_tables_while_backends_are_down(netns_factory: Namespaces) -> None:
    """One backend left, and none."""
    made = intent(two_vpcs())
    one, none = frozenset({("red", "r1", 8080)}), frozenset({("red", "r1", 8080), ("red", "r3", 8080)})
    script = "\n".join(tables_of(made, n, Known(Runtime(down=down))) for n, down in enumerate((one, none)))
    assert check(netns_factory, script) == ""


def test_a_table_that_nft_refuses_is_noticed(netns_factory: Namespaces) -> None:
    """The check itself can fail."""
    assert "syntax error" in check(netns_factory, "table inet x { chain y { tcp dport { accept\n } }\n")
