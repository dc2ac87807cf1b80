"""Facts are values with a key: what may change under one key, and what is another thing."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network

import pytest

from appliance.model.facts import (
    HOST,
    Advertisement,
    Compose,
    Fact,
    FdbEntry,
    Hop,
    Link,
    LinkAddress,
    Namespace,
    Neighbour,
    Netns,
    NftSet,
    NftTable,
    Route,
    Sysctl,
)

RED = Namespace("vpc-red")
MAC = "02:00:00:00:00:01"
ROUTE = Route(HOST, IPv4Network("10.0.0.0/8"), (Hop("eth1"),), 217)
LINK = Link(HOST, "eth1", "physical")
FDB = FdbEntry(RED, "ew-vx", MAC, IPv4Address("10.0.0.1"))
COMPOSE = Compose(HOST, "ew-comp1", IPv6Address("fd00::1"), IPv6Network("fd00:ed9e::/48"))

SAME_KEY: list[tuple[Fact, Fact]] = [
    (LINK, replace(LINK, mtu=9000)),
    (Neighbour(RED, "ew-vx", IPv4Address("10.0.0.1"), MAC), Neighbour(RED, "ew-vx", IPv4Address("10.0.0.1"), "other")),
    (FDB, replace(FDB, remote=IPv4Address("10.0.0.2"))),
    (Sysctl(HOST, "net.ipv4.ip_forward", "1"), Sysctl(HOST, "net.ipv4.ip_forward", "0")),
    (ROUTE, replace(ROUTE, hops=(Hop("eth2"),))),
    (NftTable(RED, "a"), NftTable(RED, "b")),
    (NftSet(RED, "s", frozenset({"1"})), NftSet(RED, "s", frozenset())),
    (COMPOSE, replace(COMPOSE, members=((IPv4Address("203.0.113.80"), (11,)),))),
]
OTHER_KEY: list[tuple[Fact, Fact]] = [
    (Netns(RED), Netns(Namespace("vpc-blue"))),
    (LINK, replace(LINK, ns=RED)),
    (LinkAddress(HOST, "lo", IPv4Interface("10.0.0.1/32")), LinkAddress(HOST, "lo", IPv4Interface("10.0.0.1/24"))),
    (ROUTE, replace(ROUTE, proto=218)),
    (ROUTE, replace(ROUTE, ns=RED)),
    (replace(FDB, mac="00:00:00:00:00:00"), replace(FDB, mac="00:00:00:00:00:00", remote=IPv4Address("10.0.0.2"))),
    (NftSet(RED, "s", frozenset()), NftSet(RED, "t", frozenset())),
    (COMPOSE, replace(COMPOSE, link="other")),
]


@pytest.mark.parametrize(("one", "other"), SAME_KEY)
def test_a_change_under_one_key_is_an_update(one: Fact, other: Fact) -> None:
    """The object stays, so what hangs on it stays."""
    assert one != other
    assert one.key == other.key


@pytest.mark.parametrize(("one", "other"), OTHER_KEY)
def test_what_cannot_be_changed_in_place_is_another_object(one: Fact, other: Fact) -> None:
    """One goes, one comes."""
    assert one.key != other.key


@pytest.mark.parametrize("fact", [one for one, _ in SAME_KEY + OTHER_KEY], ids=lambda fact: type(fact).__name__)
def test_a_fact_is_a_frozen_value(fact: Fact) -> None:
    """It can stand in a set, and nobody changes it there."""
    assert len({fact, replace(fact)}) == 1
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(fact, fields(fact)[0].name, RED)


def test_an_announcement_is_known_by_its_prefix_alone() -> None:
    """Two services cannot announce one prefix from one node."""
    prefix = IPv4Network("203.0.113.80/32")
    assert Advertisement(prefix, "vip", "red").key == Advertisement(prefix, "floating", "blue").key
