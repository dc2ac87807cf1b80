from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from routing.bgp.values import Family
from routing.interop.world import ASN, Knob, Part, World

CASTS = {
    "g/one": {"a": Part(), "b": Part(Family.IPV6)},
    "g/two": {"a": Part(four_octet=True), "c": Part(shuns="a", role=True)},
}


def test_everybody_has_an_address_and_an_as_of_its_own() -> None:
    """Of its family, with the same number everywhere."""
    members = World.of(CASTS).members
    assert [str(member.address) for member in members] == ["192.0.2.10", "2001:db8::b", "192.0.2.12", "192.0.2.13"]
    assert [member.asn for member in members] == [65010, 65011, 4200000012, 65013]
    assert len({member.identifier for member in members}) == 4


def test_places_do_not_depend_on_what_is_run() -> None:
    """A configuration written by hand stays right."""
    world = World.of(CASTS)
    assert world.only(["g/two"]).cast("g/two") == world.cast("g/two")
    assert [member.name for member in world.only(["g/two"]).members] == ["g/two/a", "g/two/c"]


def test_who_shuns_knows_whom() -> None:
    """By AS number; the configuration must be able to say so."""
    shy = World.of(CASTS).cast("g/two")["c"]
    assert shy.shuns == 4200000012
    assert shy.knobs == {Knob.SHUN, Knob.ROLE}
    assert replace(shy, shuns=None, role=False, no_policy=True).knobs == {Knob.NO_POLICY}


def test_more_than_the_lan_has_room_for_is_a_mistake() -> None:
    """The addresses are those of a /24."""
    with pytest.raises(ValueError, match="240 members"):
        World.of({str(number): {"a": Part()} for number in range(240)})


def test_the_device_is_nobody_s_neighbour() -> None:
    """Its addresses and its AS are its own."""
    world = World.of(CASTS)
    assert ASN not in {member.asn for member in world.members}
    assert not {interface.ip for interface in world.own_interfaces} & {ip_address(m.address) for m in world.members}
