"""The policies for gobgpd say what `routing.bgp.policy` judges, by the way gobgpd reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.policy import judge, may_export
from routing.bgp.values import (
    Address,
    Attributes,
    ExportPolicy,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Segment,
    SegmentType,
    Speaker,
)
from routing.engines.gobgp_policy import EXPORT, IMPORT, Statement, independent, policies, statements

HERE = ip_address("192.0.2.1")
A, B = ip_address("192.0.2.2"), ip_address("192.0.2.3")


def speaker(*neighbors: Neighbor, mode: Mode = Mode.TRANSPARENT) -> Speaker:
    """Return a speaker of AS 65000."""
    return Speaker("rs", mode, 65000, IPv4Address("192.0.2.1"), (HERE,), neighbors=neighbors)


# How gobgpd 3.10 reads policies (seen in its source, and confirmed by tests/engines/test_gobgp.py).


@dataclass(frozen=True)
class Said:
    """A route as a policy of gobgpd sees it: who taught it (None: gobgpd itself), or who would get it."""

    prefix: Network
    attributes: Attributes
    other: Address | None = None
    source: str = "external"


def longest_matches(rules: tuple[PrefixRule, ...], prefix: Network) -> bool:
    """Ask only the rules of the longest network around `prefix`, as gobgpd does."""
    around = [r.network for r in rules if prefix.version == r.network.version and prefix.subnet_of(r.network)]  # type: ignore[arg-type]
    longest = max(around, key=lambda network: network.prefixlen, default=None)
    return any(r.network == longest and r.min_length <= prefix.prefixlen <= r.max_length for r in rules)


def written(path: tuple[Segment, ...]) -> str:
    """Write a path as gobgpd does before it looks for regular expressions in it."""
    texts = {
        SegmentType.SEQUENCE: lambda asns: " ".join(map(str, asns)),
        SegmentType.SET: lambda asns: "{" + ",".join(map(str, asns)) + "}",
    }
    return " ".join(texts[segment.type](segment.asns) for segment in path)


def holds(statement: Statement, said: Said) -> bool:
    """Tell whether all conditions of a statement hold."""
    pattern = statement.as_path.replace("_", "(^|[,{}() ]|$)")
    checks: list[tuple[bool, Callable[[], bool]]] = [
        (
            bool(statement.neighbors),
            lambda: said.other is not None and any(said.other in n for n in statement.neighbors),
        ),
        (bool(statement.prefixes), lambda: longest_matches(statement.prefixes, said.prefix)),
        (
            bool(pattern),
            lambda: (re.search(pattern, written(said.attributes.as_path)) is not None) != statement.as_path_inverted,
        ),
        (statement.longer_than is not None, lambda: said.attributes.path_length > (statement.longer_than or 0)),
        (bool(statement.next_hops), lambda: any(said.attributes.next_hop in n for n in statement.next_hops)),
        (bool(statement.source), lambda: said.source == statement.source),
    ]
    return all(check() for given_, check in checks if given_)


def decide(listed: tuple[Statement, ...], said: Said) -> Statement | None:
    """Return the accepting statement; None if the route is refused."""
    first = next((statement for statement in listed if holds(statement, said)), None)
    return first if first is not None and first.accept else None


asns = st.sampled_from([0, 1, 12, 65001, 65002, 64512])
segments = st.builds(Segment, st.sampled_from(SegmentType), st.lists(asns, min_size=1, max_size=3).map(tuple))
addresses = st.sampled_from([A, B])
lengths = st.integers(0, 32)
networks = st.builds(
    lambda number, length: IPv4Network((number << 24, length), strict=False), st.sampled_from([10, 11, 192]), lengths
)
rules = st.lists(
    st.builds(lambda n, low, more: PrefixRule(n, low, min(32, low + more)), networks, lengths, st.integers(0, 8)),
    max_size=6,
).map(tuple)
paths = st.builds(Attributes, next_hop=addresses, as_path=st.lists(segments, max_size=3).map(tuple))
imports = st.builds(
    ImportPolicy,
    accept=rules,
    never=rules,
    first_as=st.none() | asns,
    forbidden_as=st.lists(asns, max_size=2).map(tuple),
    max_path_length=st.integers(0, 5),
    next_hops=st.lists(addresses.map(lambda a: ip_network(str(a))), max_size=1).map(tuple),
    refuse_as_set=st.booleans(),
)


@given(imports, networks, paths)
def test_gobgpd_accepts_exactly_what_is_judged_acceptable(
    policy: ImportPolicy, prefix: Network, path: Attributes
) -> None:
    """Otherwise the reasons that we show would be those of another policy than the one in force."""
    neighbor = Neighbor("a", 65001, A, imports=policy)
    here = speaker(neighbor)
    told, _ = statements(neighbor, here, {})
    assert (decide(told, Said(prefix, path)) is not None) == (judge(prefix, path, neighbor, here) is None)


@given(st.builds(ExportPolicy, accept=rules, never=rules), networks)
def test_gobgpd_sends_exactly_what_may_be_exported(policy: ExportPolicy, prefix: Network) -> None:
    """The same for the other direction."""
    neighbor = Neighbor("a", 65001, A, exports=policy)
    _, told = statements(neighbor, speaker(neighbor), {})
    assert (decide(told, Said(prefix, Attributes(A))) is not None) == may_export(prefix, policy)


@given(rules, networks)
def test_independent_rules_mean_the_same_when_only_the_longest_is_asked(
    told: tuple[PrefixRule, ...], prefix: Network
) -> None:
    """Gobgpd forgets the rule around a rule."""
    assert longest_matches(independent(told), prefix) == any(rule.matches(prefix) for rule in told)


def test_everything_can_be_accepted() -> None:
    """A rule for all prefixes of a version is one entry."""
    everything = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32), PrefixRule(ip_network("::/0"), 0, 128))
    neighbor = Neighbor("a", 65001, A, imports=ImportPolicy(accept=everything))
    told, _ = statements(neighbor, speaker(neighbor), {})
    accepting = [statement.prefixes for statement in told if statement.accept]
    assert accepting == [(everything[0],), (everything[1],)]
    for prefix in map(ip_network, ("0.0.0.0/0", "192.0.2.1/32", "::/0", "2001:db8::1/128")):
        assert decide(told, Said(prefix, Attributes(A))) is not None


def test_nothing_is_accepted_or_sent_without_a_policy() -> None:
    """RFC 8212."""
    neighbor = Neighbor("a", 65001, A)
    told, sent = statements(neighbor, speaker(neighbor), {})
    said = Said(ip_network("192.0.2.0/24"), Attributes(A))
    assert decide(told, said) is None
    assert decide(sent, said) is None


def test_networks_that_gobgpd_takes_for_ipv4_are_refused_with_their_surroundings() -> None:
    """`::ffff:0:0/96` in a set of IPv6 prefixes makes gobgpd refuse the whole set."""
    mapped = IPv6Network("::ffff:0:0/96")
    everything = PrefixRule(IPv6Network("::/0"), 0, 128)
    policy = ImportPolicy(accept=(everything, PrefixRule.exact(mapped)), never=(PrefixRule(mapped, 96, 128),))
    told, _ = statements(Neighbor("a", 65001, A, imports=policy), speaker(), {})
    named = {rule.network for statement in told for rule in statement.prefixes}
    assert mapped not in named
    assert decide(told, Said(IPv6Network("::ffff:10.0.0.0/104"), Attributes(A))) is None
    assert decide(told, Said(IPv6Network("2001:db8::/32"), Attributes(A))) is not None


def test_a_route_server_client_has_policies_of_its_own() -> None:
    """They name no neighbours: gobgpd asks them for that client only."""
    made = policies(speaker(Neighbor("a", 65001, A), Neighbor("r", 65002, range=ip_network("10.0.0.0/8"))), {})
    assert [policy.name for policy in made] == ["import 192.0.2.2", "export 192.0.2.2", "import r", "export r"]
    assert not any(statement.neighbors for policy in made for statement in policy.statements)


def everything_for(name: str, address: Address | None = None, **changed: object) -> Neighbor:
    """Return a neighbour that may say and hear every IPv4 route."""
    every = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32),)
    settings = {"imports": ImportPolicy(accept=every), "exports": ExportPolicy(accept=every)} | changed
    return Neighbor(name, 65000, address, **settings)  # type: ignore[arg-type] # fields of a neighbour


def test_neighbours_with_equal_policies_share_statements_and_others_do_not_see_them() -> None:
    """Gobgpd asks statements one by one for every route and every neighbour."""
    here = speaker(everything_for("a", A), everything_for("b", B), Neighbor("c", 65000, HERE), mode=Mode.ROUTER)
    imported, exported = policies(here, {})
    assert (imported.name, exported.name) == (IMPORT, EXPORT)
    assert max(len(statement.neighbors) for statement in imported.statements) == 2
    said = ip_network("198.51.100.0/24"), Attributes(A)
    for told in (imported.statements, exported.statements):
        assert [decide(told, Said(*said, other)) is not None for other in (A, B, HERE)] == [True, True, False]


def test_our_own_routes_need_no_neighbours_permission_to_exist() -> None:
    """Gobgpd asks the import policy for routes that it originates as well."""
    imported, _ = policies(speaker(mode=Mode.ROUTER), {})
    assert decide(imported.statements, Said(ip_network("10.0.0.0/8"), Attributes(A), None, "local")) is not None


def test_a_neighbour_inside_a_range_keeps_its_own_policy() -> None:
    """And of two ranges the longer one counts, whatever the order."""
    wide = everything_for("wide", range=ip_network("192.0.0.0/16"))
    narrow = Neighbor("narrow", 65000, range=ip_network("192.0.2.0/25"))
    here = speaker(
        wide, narrow, everything_for("a", A), Neighbor("b", 65000, ip_address("192.0.3.1")), mode=Mode.ROUTER
    )
    imported, _ = policies(here, {})
    said = ip_network("198.51.100.0/24"), Attributes(A)
    others = (A, B, ip_address("192.0.2.200"), ip_address("192.0.3.1"))
    decided = [decide(imported.statements, Said(*said, other)) is not None for other in others]
    assert decided == [True, False, True, False]


def test_next_hop_self_is_for_routes_of_others_sent_inside() -> None:
    """Our own routes have their next hop, and what came by iBGP keeps its own."""
    here = speaker(everything_for("a", A, next_hop_self=True), mode=Mode.ROUTER)
    _, exported = policies(here, {})
    said = ip_network("198.51.100.0/24"), Attributes(B), A
    for source, expected in (("external", True), ("internal", False), ("local", False)):
        decided = decide(exported.statements, Said(*said, source))
        assert decided is not None
        assert decided.next_hop_self is expected


def test_prefixes_above_a_limit_are_refused_to_whoever_announced_them() -> None:
    """Two members of one range may announce the same prefix, and only one of them too much."""
    many = everything_for("many", range=ip_network("192.0.2.0/24"))
    excess = {A: frozenset({ip_network("198.51.100.0/24")})}
    for mode in (Mode.ROUTER, Mode.TRANSPARENT):
        told = policies(speaker(many, mode=mode), excess)[0].statements
        for prefix, other, expected in (
            ("198.51.100.0", A, False),
            ("198.51.100.0", B, True),
            ("203.0.113.0", A, True),
        ):
            said = Said(ip_network(f"{prefix}/24"), Attributes(A), other)
            assert (decide(told, said) is not None) is expected
    assert statements(many, speaker(many), excess)[0] != statements(many, speaker(many), {})[0]


def test_taking_back_withdraws_exactly_what_may_not_be_sent() -> None:
    """Between the old policy and the new one, so that nothing forbidden stays with the neighbour."""
    only = ExportPolicy(accept=(PrefixRule.exact(ip_network("198.51.100.0/24")),))
    a, b = everything_for("a", A, exports=only), everything_for("b", B, exports=only)
    for mode in (Mode.ROUTER, Mode.TRANSPARENT):
        made = {policy.name: policy.statements for policy in policies(speaker(a, b, mode=mode), {}, {str(A)})}
        for other, taken_back in ((A, True), (B, False)):
            told = made[EXPORT if mode is Mode.ROUTER else f"{EXPORT} {other}"]
            allowed = decide(told, Said(ip_network("198.51.100.0/24"), Attributes(A), other))
            forbidden = decide(told, Said(ip_network("203.0.113.0/24"), Attributes(A), other))
            assert allowed is not None
            assert not allowed.take_back
            assert (forbidden is not None and forbidden.take_back) is taken_back


def test_ipv6_next_hops_of_ipv4_go_only_where_they_are_understood() -> None:
    """Gobgpd sends them to everybody, and a neighbour that never heard of RFC 8950 ends the session."""
    prefix, far = ip_network("198.51.100.0/24"), Attributes(ip_address("2001:db8::2"))
    for mode, extended, expected in (
        (Mode.TRANSPARENT, False, False),
        (Mode.TRANSPARENT, True, True),
        (Mode.REFLECTOR, False, False),
        (Mode.REFLECTOR, True, True),
    ):
        neighbor = everything_for("a", A, extended_next_hop=extended)
        _, told = statements(neighbor, speaker(neighbor, mode=mode), {})
        assert (decide(told, Said(prefix, far)) is not None) is expected
        assert decide(told, Said(prefix, Attributes(B))) is not None
