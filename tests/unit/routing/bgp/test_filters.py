from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.filters import ExportFilter, Filters
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


def test_no_more_filters_are_kept_than_so_many() -> None:
    """What comes back after that is made anew, and does the same."""
    filters = Filters()
    filters.LIMIT = 2
    made = [filters.of((rule,), Family.IPV4) for rule in RULES]
    again = filters.of((RULES[0],), Family.IPV4)
    nlri = pack(PREFIXES[Family.IPV4])
    assert again is not made[0]
    assert again.split(nlri) == made[0].split(nlri)
