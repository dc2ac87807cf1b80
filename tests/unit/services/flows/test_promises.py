"""What a VPC promises on a host is what its translations say."""

from __future__ import annotations

import json
import random
from ipaddress import ip_address

import pytest

from services.feature import Runtime
from services.flows.promises import Backend, Mappings, Ports, Service, from_tree, mappings, nothing, to_tree
from tests.support.intents import changed, intent, one_vpc, random_tree
from tests.unit.services.flows.examples import PUBLIC, R1, R2, R3, SHARED, SUBNET, VIP

WEB = Service(ip_address(VIP), 80, 6)
A1, A2, A3 = (Backend(ip_address(address), 8080) for address in (R1, R2, R3))


def promised(node: str = "h1", runtime: Runtime | None = None, **paths: object) -> Mappings:
    """Return what red promises."""
    tree = one_vpc()
    for path, value in paths.items():
        tree = changed(tree, path.replace("__", "."), value)
    return mappings(intent(tree), node, "red", runtime or Runtime())


def test_a_host_promises_its_own_backends_blocks_and_guests() -> None:
    """And every pair and every VIP of the VPC."""
    made = promised()
    assert made.vips == {WEB: {A1, A3}}
    assert made.names == {"web": WEB}
    assert (made.snat, made.subnet) == (ip_address(SHARED), SUBNET)
    assert made.floating == {ip_address(PUBLIC): ip_address(R1)}
    assert made.guests == {ip_address(R1): "r1", ip_address(R2): "r2", ip_address(R3): "r3"}
    assert made.here == {ip_address(R1), ip_address(R3)}
    assert promised("h2").vips == {WEB: {A2}}


def test_what_is_down_is_not_promised() -> None:
    """The VIP itself still is: clients may come back to it."""
    down = frozenset({("red", "r1", 8080), ("red", "r3", 8080)})
    assert promised(runtime=Runtime(down=down)).vips == {WEB: frozenset()}


def test_every_block_in_hand_is_promised_not_only_the_newest() -> None:
    """Older ones serve the flows they have."""
    made = promised(runtime=Runtime({"red": (0, 1)}))
    assert len(made.ports) == 2
    assert all(high - low == 1023 for low, high in made.ports)
    assert promised(runtime=Runtime({"red": (1,)})).ports == made.ports[1:]


def test_a_vpc_without_translations_promises_none() -> None:
    """Its guests are still there."""
    made = promised(vpcs__red__snat=..., vpcs__red__vips=...)
    assert (made.vips, made.snat, made.ports) == ({}, None, ())
    assert nothing(made) == Mappings("red", SUBNET)


@pytest.mark.parametrize("seed", range(20))
def test_promises_can_be_kept_as_json(seed: int) -> None:
    """Whatever the intent."""
    made = intent(random_tree(random.Random(seed)))
    for node in made.with_role("host"):
        for vpc in made.vpcs:
            kept = mappings(made, node, vpc, Runtime())
            assert from_tree(json.loads(json.dumps(to_tree(kept)))) == kept


def test_the_parts_are_written_as_they_are_read() -> None:
    """As in the names of changes."""
    assert [str(WEB), str(A1), str(Ports(1, 2))] == ["203.0.113.80:80/tcp", "172.16.1.11:8080", "1-2"]
    assert (Service.parse(str(WEB)), Backend.parse(str(A1)), Ports.parse("1-2")) == (WEB, A1, Ports(1, 2))
