"""Promises before and after tell what changed; each change has a name."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address

import pytest

from appliance.model.errors import OperatorError
from services.feature import Runtime
from services.flows.changes import changes, parse_change
from services.flows.promises import Mappings, Ports, mappings, nothing
from tests.support.intents import intent, random_tree
from tests.unit.services.flows.examples import R1, SHARED
from tests.unit.services.flows.test_promises import promised

NOW = promised()


def names(new: Mappings, old: Mappings = NOW) -> list[str]:
    """Return the names of what changed."""
    return list(map(str, changes(old, new)))


CASES = {
    "nothing": ({}, []),
    "a new name for a VIP": ({"vpcs__red__vips": {"www": {"address": "203.0.113.80", "port": 80, "target-port": 8080, "backends": ["r1", "r2", "r3"]}}}, []),
    "a VIP with another address": (
        {"vpcs__red__vips__web__address": "203.0.113.81"},
        ["vip-gone red/203.0.113.80:80/tcp", "vip-served red/203.0.113.81:80/tcp"],
    ),
    "no VIPs": ({"vpcs__red__vips": ...}, ["vip-gone red/203.0.113.80:80/tcp"]),
    "a backend less": (
        {"vpcs__red__vips__web__backends": ["r3", "r2"]},
        ["backend-gone red/203.0.113.80:80/tcp 172.16.1.11:8080"],
    ),
    "a backend of another host less": ({"vpcs__red__vips__web__backends": ["r1", "r3"]}, []),
    "another target port": (
        {"vpcs__red__vips__web__target-port": 81},
        [f"backend-gone red/203.0.113.80:80/tcp 172.16.1.{n}:8080" for n in (11, 13)],
    ),
    "another address of source NAT": (
        {"vpcs__red__snat__address": "203.0.113.9"},
        ["snat-moved red/203.0.113.1 11264-12287"],
    ),
    "smaller blocks": (
        {"vpcs__red__snat__block": 512},
        ["snat-moved red/203.0.113.1 11264-12287"],
    ),
    "another public address": (
        {"vpcs__red__guests__r1__public": "203.0.113.12"},
        ["floating-moved red/203.0.113.11 172.16.1.11"],
    ),
    "a guest that moves": (
        {"vpcs__red__guests__r1__host": "h2"},
        ["backend-gone red/203.0.113.80:80/tcp 172.16.1.11:8080", "guest-moved red/r1 172.16.1.11"],
    ),
    "a guest with another address": (
        {"vpcs__red__guests__r2__address": "172.16.1.22"},
        ["guest-gone red/r2 172.16.1.12"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_changed_is_named(case: str) -> None:
    """And nothing else."""
    paths, expected = CASES[case]
    assert names(promised(**paths)) == expected  # type: ignore[arg-type]


def test_health_takes_backends_and_the_first_that_is_back_serves_the_vip_again() -> None:
    """Scale to zero and back."""
    none = promised(runtime=Runtime(down=frozenset({("red", "r1", 8080), ("red", "r3", 8080)})))
    one = promised(runtime=Runtime(down=frozenset({("red", "r1", 8080)})))
    assert names(none) == [f"backend-gone red/203.0.113.80:80/tcp 172.16.1.{n}:8080" for n in (11, 13)]
    assert names(one, none) == ["vip-served red/203.0.113.80:80/tcp"]
    assert names(NOW, one) == []


def test_another_block_in_hand_moves_nothing() -> None:
    """Only one that is given back does."""
    two = promised(runtime=Runtime({"red": (0, 1)}))
    assert names(two) == []
    assert names(NOW, two) == [f"snat-moved red/203.0.113.1 {two.ports[1]}"]


def test_of_ports_only_those_move_that_no_new_block_covers() -> None:
    """Blocks of another size may overlap old ones."""
    old = replace(NOW, ports=(Ports(4096, 8191),))
    new = replace(NOW, ports=(Ports(1024, 2047), Ports(4096, 4607), Ports(5120, 5631)))
    assert names(new, old) == [f"snat-moved red/{SHARED} 4608-5119", f"snat-moved red/{SHARED} 5632-8191"]


def test_a_guest_that_got_another_name_is_the_same() -> None:
    """Addresses count."""
    assert names(replace(NOW, guests={**NOW.guests, ip_address(R1): "other"})) == []


def test_a_vpc_that_is_removed_takes_all_with_it() -> None:
    """Each promise by name."""
    assert names(nothing(NOW)) == [
        "vip-gone red/203.0.113.80:80/tcp",
        "floating-moved red/203.0.113.11 172.16.1.11",
        "snat-moved red/203.0.113.1 11264-12287",
        *(f"guest-gone red/r{n} 172.16.1.1{n}" for n in (1, 2, 3)),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_every_name_can_be_read_back(seed: int) -> None:
    """Between any two intents, in both directions."""
    dice = random.Random(seed)
    one, other = intent(random_tree(dice)), intent(random_tree(dice))
    for node in one.with_role("host").keys() & other.with_role("host").keys():
        for vpc in one.vpcs.keys() & other.vpcs.keys():
            old, new = (mappings(made, node, vpc, Runtime()) for made in (one, other))
            for change in (*changes(old, new), *changes(new, old)):
                assert parse_change(str(change)) == change
            assert changes(old, old) == ()


def test_a_vip_may_be_written_by_its_name() -> None:
    """While its VPC is known."""
    read = parse_change("backend-gone red/web 172.16.1.11:8080", {"red": NOW})
    assert str(read) == "backend-gone red/203.0.113.80:80/tcp 172.16.1.11:8080"


@pytest.mark.parametrize(
    "text",
    ["", "backend-gone", "backend-gone red/web 172.16.1.11:8080", "vip-gone red/203.0.113.80:80/tcp more", "gone red/a",
     "snat-moved red/203.0.113.1 5", "guest-gone red/r1", "guest-gone red/r1 nowhere", "vip-gone red/203.0.113.80:80/ip"],
)  # fmt: skip
def test_what_is_no_name_is_the_operators_error(text: str) -> None:
    """With an example."""
    with pytest.raises(OperatorError, match="is not the name of a change"):
        parse_change(text)
