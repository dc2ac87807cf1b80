from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.bgp import codec
from routing.bgp.values import (
    Announcement,
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    Origin,
    PrefixRule,
    Segment,
    SegmentType,
    Speaker,
    UnknownAttribute,
)

ASNS = st.integers(0, 2**32 - 1)
V4 = st.ip_addresses(v=4)
ADDRESSES = st.ip_addresses()
WORD = st.integers(0, 2**16 - 1)


def networks() -> st.SearchStrategy[Network]:
    """Draw prefixes of both families."""
    v4 = st.builds(lambda a, n: IPv4Network((a << 8, n), strict=False), st.integers(0, 99), st.integers(0, 32))
    v6 = st.builds(lambda a, n: IPv6Network((a << 64, n), strict=False), st.integers(0, 99), st.integers(0, 128))
    return v4 | v6


def tuples(of: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    """Draw short tuples."""
    return st.lists(of, max_size=most).map(tuple)


COMMUNITIES = tuples(st.tuples(WORD, WORD))
LARGE = tuples(st.tuples(ASNS, ASNS, ASNS))
RULES = tuples(st.builds(PrefixRule, networks(), st.integers(0, 128), st.integers(0, 128)))
ATTRIBUTES = st.builds(
    Attributes,
    next_hop=ADDRESSES,
    origin=st.sampled_from(Origin),
    as_path=tuples(st.builds(Segment, st.sampled_from(SegmentType), tuples(ASNS))),
    med=st.none() | ASNS,
    local_pref=st.none() | ASNS,
    atomic_aggregate=st.booleans(),
    aggregator=st.none() | st.tuples(ASNS, V4),
    communities=COMMUNITIES,
    large_communities=LARGE,
    extended_communities=tuples(st.binary(min_size=8, max_size=8)),
    originator_id=st.none() | V4,
    cluster_list=tuples(V4),
    unknown=tuples(st.builds(UnknownAttribute, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=20))),
)
NEIGHBORS = st.builds(
    Neighbor,
    name=st.text(max_size=5),
    asn=ASNS,
    address=st.none() | ADDRESSES,
    range=st.none() | networks(),
    local_address=st.none() | ADDRESSES,
    families=tuples(st.sampled_from(Family)),
    imports=st.builds(
        ImportPolicy,
        accept=RULES,
        never=RULES,
        first_as=st.none() | ASNS,
        forbidden_as=tuples(ASNS),
        max_path_length=WORD,
        next_hops=tuples(networks()),
        max_prefixes=st.none() | WORD,
        refuse_as_set=st.booleans(),
    ),
    exports=st.builds(ExportPolicy, accept=RULES, never=RULES),
    passive=st.booleans(),
    next_hop_self=st.booleans(),
    extended_next_hop=st.booleans(),
    hold_time=WORD,
    restart_time=WORD,
    client=st.booleans(),
)
SPEAKERS = st.builds(
    Speaker,
    name=st.text(max_size=5),
    mode=st.sampled_from(Mode),
    asn=ASNS,
    router_id=V4,
    listen=tuples(ADDRESSES),
    port=WORD,
    neighbors=tuples(NEIGHBORS, 2),
    announcements=tuples(
        st.builds(
            Announcement,
            prefix=networks(),
            next_hop=st.none() | ADDRESSES,
            communities=COMMUNITIES,
            large_communities=LARGE,
            med=st.none() | ASNS,
        )
    ),
)


@settings(max_examples=40)
@given(SPEAKERS)
def test_a_speaker_comes_back_as_it_went(speaker: Speaker) -> None:
    """Through text, not only through dicts."""
    assert codec.speaker_from_json(json.loads(json.dumps(codec.speaker_to_json(speaker)))) == speaker


@given(ATTRIBUTES)
def test_attributes_come_back_as_they_went(attributes: Attributes) -> None:
    """Every field."""
    assert codec.attributes_from_json(json.loads(json.dumps(codec.attributes_to_json(attributes)))) == attributes


def test_a_file_of_an_older_version_gets_the_defaults() -> None:
    """A field that it does not know is absent."""
    old = {"name": "s", "mode": "router", "asn": 1, "router_id": "10.0.0.1", "listen": []}
    assert codec.speaker_from_json(old).port == 179
    neighbor = {"name": "n", "asn": 2, "families": ["ipv4"]}
    assert codec.neighbor_from_json(neighbor, codec.RuleSets()) == Neighbor("n", 2)


def test_what_is_not_known_is_refused() -> None:
    """A newer file is not half understood."""
    with pytest.raises(TypeError):
        codec.neighbor_from_json({"name": "n", "asn": 2, "families": [], "colour": "blue"}, codec.RuleSets())


def test_equal_rules_are_one_object_as_long_as_somebody_has_them() -> None:
    """Of a neighbour's four, any; what nobody has is forgotten."""
    rules, text = codec.RuleSets(), [["10.0.0.0/8", 8, 24]]
    found = [rules.read(text), rules.read([["10.0.0.0/8", 8, 25]]), rules.read([["11.0.0.0/8", 8, 24], *text])]
    assert rules.read([["10.0.0.0/8", 8, 24]]) is found[0]
    assert found[0] == (PrefixRule(IPv4Network("10.0.0.0/8"), 8, 24),)
    assert found[2] == (PrefixRule(IPv4Network("11.0.0.0/8"), 8, 24), *found[0])
    rules.keep(
        [Neighbor("n", 1, imports=ImportPolicy(never=found[2])), Neighbor("m", 1, exports=ExportPolicy(found[0]))]
    )
    assert len(rules) == 2
    assert rules.read(text) is found[0]
    assert rules.read([["11.0.0.0/8", 8, 24], *text]) is found[2]
    assert rules.read([["10.0.0.0/8", 8, 25]]) is not found[1]


def test_neighbors_of_one_speaker_share_equal_rules() -> None:
    """Hundreds of them have the same."""
    policy = ImportPolicy((PrefixRule(IPv4Network("10.0.0.0/8"), 8, 24),))
    speaker = Speaker(
        "s", Mode.ROUTER, 1, IPv4Address(1), (), neighbors=tuple(Neighbor(n, 2, imports=policy) for n in "ab")
    )
    rules, text = codec.RuleSets(), json.dumps(codec.speaker_to_json(speaker))
    one, two = codec.speaker_from_json(json.loads(text), rules).neighbors
    assert one.imports.accept is two.imports.accept
    assert codec.speaker_from_json(json.loads(text), rules).neighbors[0].imports.accept is one.imports.accept
    codec.speaker_from_json(codec.speaker_to_json(replace(speaker, neighbors=())), rules)
    assert len(rules) == 0
