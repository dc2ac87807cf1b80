"""Next-hop objects on this kernel: shared, found again, gone with their last route."""

from __future__ import annotations

from errno import EINVAL, ENOENT
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import pytest

from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Decapsulate, Hop
from appliance.model.marks import BGP_NH, PROTO_BGP, PROTO_BOX
from tests.contract.boxes import reach
from tests.contract.roads import ONE, THREE, TWO, RealRoads, many, route

if TYPE_CHECKING:
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel


@pytest.fixture
def real(world: World) -> RealRoads:
    """Give a node of this kernel."""
    return RealRoads(world)


def test_objects_go_with_their_last_route(real: RealRoads) -> None:
    """No next-hop object of ours is left without routes, and each hop has one object for each protocol."""
    port = real.port()
    reach(port, [*many(10, ONE), *many(20, ONE, TWO)[10:], route("192.0.2.0/24", ONE, proto=PROTO_BOX)])
    assert len(real.objects()) == 2 + 2 + 2, "two hops and two groups of BGP, a hop and a group of the box"
    reach(port, many(10, ONE))
    assert len(real.objects()) == 2
    reach(port, many(10, TWO))
    assert len(real.objects()) == 2
    reach(port, [])
    assert real.objects() == []


def test_objects_that_a_killed_process_left_are_found_and_used(real: RealRoads) -> None:
    """A restarted process makes no second object, and removes what nothing uses."""
    reach(real.port(), many(10, ONE))
    reach(real.port(), [*many(10, ONE), route("192.0.2.0/24", TWO)])
    used = [line for line in real.objects() if int(line.split()[1]) < BGP_NH + 2]
    real.ip(HOST, "route", "del", "192.0.2.0/24", "proto", str(PROTO_BGP), "metric", "2048")
    reach(real.port(), many(20, ONE))
    assert real.objects() == used


@pytest.mark.parametrize("kind", ["of its own", "shared"])
def test_a_hop_is_turned_into_another_unless_a_second_group_has_it(real: RealRoads, kind: str) -> None:
    """The group keeps its hop under the same id; or it is given another hop, and the second group keeps the first."""
    port, rest = real.port(), [route("192.0.2.0/24", ONE, THREE)] if kind == "shared" else []
    reach(port, [*many(10, ONE), *rest])
    (group,) = [line for line in real.objects() if "group" in line and "/" not in line]
    assert port.replace_hops(HOST, PROTO_BGP, (ONE,), (TWO,)) == 10
    assert (group in real.objects()) == (kind == "of its own")
    assert port.read() == real.port().read() == {*many(10, TWO), *rest}
    assert len(real.objects()) == (2 if kind == "of its own" else 3 + 2)


def test_two_hops_that_were_turned_into_one_are_used_and_removed_like_any(real: RealRoads) -> None:
    """Whichever of the two is found by what it means, no object is lost and none is left."""
    port = real.port()
    reach(port, [*many(10, ONE), *many(20, TWO)[10:], *many(30, THREE)[20:]])
    for old in (ONE, TWO):
        assert port.replace_hops(HOST, PROTO_BGP, (old,), (THREE,)) == 10
    assert port.read() == frozenset(many(30, THREE))
    reach(port, [*many(10, ONE), *many(30, THREE)[10:]])
    reach(port, [*many(10, ONE), *many(20, TWO)[10:]])
    assert port.read() == real.port().read() == {*many(10, ONE), *many(20, TWO)[10:]}
    reach(port, [])
    assert real.objects() == []


def test_a_hop_that_the_kernel_took_is_not_turned(real: RealRoads) -> None:
    """Link down and up, and nobody has read: the error says so, reading again heals it."""
    port = real.port()
    reach(port, many(3, ONE))
    real.carrier(HOST, "a0", up=False)
    real.carrier(HOST, "a0", up=True)
    with pytest.raises(KernelError) as caught:
        port.replace_hops(HOST, PROTO_BGP, (ONE,), (TWO,))
    assert caught.value.errno == ENOENT
    assert reach(port, many(3, TWO)) == ()
    assert port.read() == frozenset(many(3, TWO))


def test_ways_that_differ_little_are_different(real: RealRoads) -> None:
    """Same device, same number of an address, yet another version or another treatment at the end."""
    some = [
        Hop("a0", IPv6Address("fd00:255::2")),
        Hop("a0", IPv6Address("fd00:255::2"), Decapsulate(IPv4Address("10.255.0.9"))),
        Hop("a0", IPv6Address("fd00:255::2"), Decapsulate(IPv4Address("10.255.0.8"))),
        Hop("a0", IPv6Address("fe80::2")),
        Hop("b0", IPv6Address("fe80::2")),
    ]
    want = frozenset(route(f"2001:db8:{number}::/48", hop) for number, hop in enumerate(some))
    assert reach(real.port(), want) == ()
    assert real.port().read() == want
    assert len(real.objects()) == 2 * len(some)


def test_a_route_without_hops_is_refused(real: RealRoads) -> None:
    """It would go nowhere, and silence would hide it."""
    (failure,) = reach(real.port(), [route("192.0.2.0/24")])
    assert failure.error.errno == EINVAL
    assert not failure.error.retry
