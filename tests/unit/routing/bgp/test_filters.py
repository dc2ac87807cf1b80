from __future__ import annotations

import gc
import random
from ipaddress import ip_network
from weakref import ref

from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.filters import ExportFilter, Filters, RuleFilter, Rules
from routing.bgp.nlri import pack, unpack
from routing.bgp.policy import may_export
from routing.bgp.values import ExportPolicy, Family, Network, PrefixRule

RULES = [
    PrefixRule(ip_network("0.0.0.0/0"), 0, 32),
    PrefixRule(ip_network("10.0.0.0/8"), 8, 24),
    PrefixRule(ip_network("10.1.0.0/16"), 17, 32),
    PrefixRule(ip_network("2001:db8::/32"), 32, 48),
]
PREFIXES = {
    Family.IPV4: [
        ip_network(text) for text in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "11.0.0.0/32")
    ],
    Family.IPV6: [ip_network(text) for text in ("::/0", "2001:db8::/32", "2001:db8:1::/49")],
}
SOME = st.lists(st.sampled_from(RULES), max_size=3, unique=True).map(tuple)


def some_rules() -> tuple[PrefixRule, ...]:
    """Make rules that are equal every time, and not the same."""
    return tuple(PrefixRule(ip_network(f"10.{number}.0.0/16"), 16, 24) for number in range(3))


@given(st.builds(ExportPolicy, SOME, SOME), st.sampled_from(Family), st.sets(st.integers(0, 2)))
def test_what_may_go_out_is_what_the_policy_says(policy: ExportPolicy, family: Family, which: set[int]) -> None:
    """Of many prefixes at once; the same object if all may."""
    prefixes: list[Network] = [PREFIXES[family][number] for number in sorted(which)]
    nlri = pack(prefixes)
    found = ExportFilter(policy).allowed(family, nlri)
    assert unpack(found, family) == [prefix for prefix in prefixes if may_export(prefix, policy)]
    assert found is nlri or found != nlri


def test_equal_rules_have_one_filter() -> None:
    """Whether they are the same object or not: policies that let out the same are told by their keys."""
    filters, rules = Filters(), some_rules()
    found = filters.of(rules, Family.IPV4)
    assert filters.of(rules, Family.IPV4) is found
    assert filters.of(some_rules(), Family.IPV4) is found
    assert filters.of(rules, Family.IPV6) is not found
    assert ExportFilter(ExportPolicy(some_rules())).key == ExportFilter(ExportPolicy(some_rules())).key
    assert ExportFilter(ExportPolicy(some_rules())).key != ExportFilter(ExportPolicy((), some_rules())).key


def test_a_filter_that_nobody_has_is_let_go_with_its_rules() -> None:
    """However many there were; the one that somebody has stays."""
    filters, kept = Filters(), some_rules()
    found = filters.of(kept, Family.IPV4)
    gone = []
    for number in range(100):
        rules = (PrefixRule(ip_network(f"10.{number}.0.0/16"), 16, 24),)
        gone.append(ref(rules[0].network))
        filters.of(rules, Family.IPV4)
        filters.of(rules, Family.IPV6)
        del rules
    gc.collect()
    assert [network for reference in gone if (network := reference()) is not None] == []
    assert len(filters) == 1
    assert filters.of(kept, Family.IPV4) is found


def test_what_is_found_by_identity_is_what_is_found_by_value() -> None:
    """New rules take the places in memory of those that are gone, also of equal ones of a filter that stays."""
    filters, dice = Filters(), random.Random(7)
    held: list[tuple[Rules, RuleFilter]] = []
    for _ in range(3000):
        rules, family = tuple(dice.choices(RULES, k=dice.choice((1, 2)))), dice.choice(list(Family))
        held.append((rules if dice.random() < 0.5 else (), filters.of(rules, family)))
        passed = held[-1][1].split(pack(PREFIXES[family]))[0]
        wanted = [prefix for prefix in PREFIXES[family] if may_export(prefix, ExportPolicy(rules))]
        assert unpack(passed, family) == wanted
        if len(held) > 5:
            held.pop(dice.randrange(5))
    held.clear()
    gc.collect()
    assert len(filters) == 0


def test_a_filter_remembers_one_of_many_equal_rules() -> None:
    """The same rules may be read again and again while somebody has them."""
    filters = Filters()
    found = filters.of(some_rules(), Family.IPV4)
    gone = []
    for _ in range(100):
        again = some_rules()
        gone.append(ref(again[0].network))
        assert filters.of(again, Family.IPV4) is found
        assert filters.of(again, Family.IPV4) is found
        del again
    gc.collect()
    assert len([network for reference in gone if (network := reference()) is not None]) == 1


def test_who_has_a_policy_has_its_filters() -> None:
    """An export filter, and a judge."""
    prefix, other = ip_network("10.77.0.0/16"), ip_network("10.78.0.0/16")
    policy = ExportPolicy((PrefixRule(prefix, 16, 16),), (PrefixRule(other, 16, 16),))
    references = [ref(prefix), ref(other)]
    first = ExportFilter(policy)
    del policy, prefix, other
    gc.collect()
    assert [reference() for reference in references] != [None, None]
    assert first.allowed(Family.IPV4, pack([ip_network("10.77.0.0/16")]))
    del first
    gc.collect()
    assert [reference() for reference in references] == [None, None]
