"""Steers: what has a mark goes to its hop, whatever its destination."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, ip_address, ip_interface
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.namespaces import SOL_NETLINK
from appliance.kernel.netlink import NETLINK_ROUTE, messages
from appliance.kernel.rtnetlink import RTM_NEWROUTE
from appliance.kernel.steers import nowhere
from appliance.kernel.steerwatch import IPV4_ROUTE
from appliance.kernel.watching import NETLINK_ADD_MEMBERSHIP
from appliance.model.facts import Decapsulate, Hop, Link, LinkAddress, Namespace, Steer
from appliance.model.marks import PROTO_BOX, STEER, STEERS
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import RealBox, prepare, reach, watching

if TYPE_CHECKING:
    from tests.contract.boxes import Box
    from tests.contract.worlds import World

RED = Namespace("red")
LINKS = (Link(RED, "n1", "bridge"), Link(RED, "n2", "bridge"))
#: More than one prefix, so that a hop of either family can be reached on either device.
ADDRESSES = tuple(
    LinkAddress(RED, link, address)
    for link, texts in (("n1", ("10.9.0.0/31", "fd00:9::1/64")), ("n2", ("10.9.0.2/31", "fd00:10::1/64")))
    for address in map(ip_interface, texts)
)


def steer(number: int, via: str | None = None, link: str = "n1") -> Steer:
    """Write a steer short."""
    return Steer(RED, number, Hop(link, None if via is None else ip_address(via)))


STATES: dict[str, frozenset[Steer]] = {
    "nothing": frozenset(),
    "two": frozenset({steer(1, "10.9.0.1"), steer(STEERS, "10.9.0.3", "n2")}),
    "both families": frozenset({steer(1, "10.9.0.1"), steer(1, "fd00:9::2")}),
    "moved": frozenset({steer(1, "10.9.0.3", "n2"), steer(1, "fd00:10::2", "n2")}),
    "on link": frozenset({steer(1), steer(2, "10.9.0.1")}),
}


@pytest.fixture
def ready(box: Box) -> Box:
    """Give a node with a namespace that has two devices with addresses."""
    prepare(box, RED)
    assert reach(box.port("links"), LINKS) == ()
    assert reach(box.port("addresses"), ADDRESSES) == ()
    return box


@pytest.fixture
def real(world: World) -> RealBox:
    """Give the same on this kernel alone."""
    box = RealBox(world)
    prepare(box, RED)
    assert reach(box.port("links"), LINKS) == ()
    assert reach(box.port("addresses"), ADDRESSES) == ()
    return box


@pytest.mark.parametrize("path", list(permutations(STATES, 3)), ids=" -> ".join)
def test_steers_depend_on_the_state_and_not_on_the_path(ready: Box, path: tuple[str, ...]) -> None:
    """A port that was made later reads the same, and there is nothing left to do."""
    port = ready.port("steers")
    for name in path:
        assert reach(port, STATES[name]) == ()
        assert port.read() == STATES[name]
        assert ready.port("steers").read() == STATES[name]
        assert not diff(port.read(), STATES[name])


def test_a_missing_device_is_a_failure_that_may_pass(ready: Box) -> None:
    """Until it comes, what has the mark goes nowhere, and a later attempt mends it."""
    port, wanted = ready.port("steers"), steer(1, "10.9.0.5", "n3")
    (failure,) = reach(port, [wanted])
    assert failure.fact == wanted
    assert failure.error.retry
    assert port.read() == {Steer(RED, 1, nowhere(4))}
    reach(ready.port("links"), (*LINKS, Link(RED, "n3", "bridge")))
    more = LinkAddress(RED, "n3", ip_interface("10.9.0.4/31"))
    reach(ready.port("addresses"), (*ADDRESSES, more))
    assert reach(port, [wanted]) == ()
    assert port.read() == {wanted}


def test_a_missing_namespace_is_a_failure_that_may_pass(box: Box) -> None:
    """It is no exception."""
    (failure,) = reach(box.port("steers"), [steer(1, "10.9.0.1")])
    assert failure.error.retry


@pytest.mark.parametrize("version", [4, 6])
def test_a_steer_whose_device_goes_leads_nowhere_and_can_still_be_deleted(ready: Box, version: int) -> None:
    """Never back to table main: that would be past the service node."""
    port, wanted = ready.port("steers"), steer(1, "10.9.0.1" if version == 4 else "fd00:9::2")
    assert reach(port, [wanted]) == ()
    reach(ready.port("links"), LINKS[1:])
    assert port.read() == {Steer(RED, 1, nowhere(version))}
    assert diff(port.read(), [wanted]).of("update")
    assert reach(port, ()) == ()
    assert port.read() == frozenset()


def test_deleting_what_is_absent_succeeds(box: Box) -> None:
    """First the steer, then the namespace."""
    gone: Plan[Steer] = Plan((Change("delete", steer(1, "10.9.0.1"), None),))
    prepare(box, RED)
    assert box.port("steers").apply(gone) == ()
    prepare(box)
    assert box.port("steers").apply(gone) == ()


def test_a_hop_that_takes_something_out_is_refused_for_good(ready: Box) -> None:
    """A service node gets packets as they are."""
    (failure,) = reach(ready.port("steers"), [Steer(RED, 1, Hop("n1", None, Decapsulate(IPv4Address("10.9.0.1"))))])
    assert not failure.error.retry


async def test_a_device_that_goes_is_told(ready: Box) -> None:
    """It takes its route with it, and the kernel says nothing of that."""
    port = ready.port("steers")
    reach(port, [steer(1, "10.9.0.1")])
    async with watching(port) as reasons:
        await asyncio.to_thread(reach, ready.port("links"), LINKS[1:])
        if isinstance(ready, RealBox):
            assert await asyncio.wait_for(anext(reasons), 10) == "carrier red"


# -- on this kernel only ----------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_the_kernel_routes_by_mark_and_by_nothing_else(real: RealBox) -> None:
    """As seen by its own look-up: to the hop with the mark, nowhere when the hop is gone, else as ever."""
    run = real.world.run
    run(RED, "ip", "route", "add", "default", "via", "10.9.0.3")
    reach(real.port("steers"), [steer(5, "10.9.0.1")])
    look_up = ("ip", "route", "get", "203.0.113.9")
    assert "via 10.9.0.3 dev n2" in run(RED, *look_up)
    assert "via 10.9.0.1 dev n1" in run(RED, *look_up, "mark", str(STEER + 5))
    assert "via 10.9.0.3 dev n2" in run(RED, *look_up, "mark", str(STEER + 6))
    assert "via 10.9.0.3 dev n2" in run(RED, *look_up, "mark", str(0x10000 + STEER + 5))
    assert "local" in run(RED, "ip", "route", "get", "10.9.0.2", "mark", str(STEER + 5)), (
        "what is for the box is its own"
    )
    run(RED, "ip", "link", "set", "n1", "down")
    with pytest.raises(AssertionError, match=r"Invalid argument|unreachable"):
        run(RED, *look_up, "mark", str(STEER + 5))
    (failure,) = reach(real.port("steers"), [steer(5, "10.9.0.1")])
    assert failure.error.retry


@pytest.mark.kernel
def test_rules_routes_and_tables_of_others_are_left_alone(real: RealBox) -> None:
    """Other marks, other protocols, other tables, and our protocol in the tables of others."""
    run = real.world.run
    box, table = str(PROTO_BOX), str(STEER + 1)
    for words in (
        f"rule add fwmark {STEER + 1} lookup 77 priority 1000",
        f"rule add fwmark {STEER + STEERS + 1} lookup 78 protocol {box}",
        f"rule add from 10.0.0.0/8 lookup 78 protocol {box}",
        f"route add default via 10.9.0.3 metric 9000 table {table} proto bird",
        f"route add 192.0.2.0/24 via 10.9.0.3 table {table} proto {box}",
        f"route add default via 10.9.0.3 table 77 proto {box}",
        f"route add default via 10.9.0.3 proto {box} metric 512",
    ):
        run(RED, "ip", *words.split())
    seen = [run(RED, "ip", "rule"), run(RED, "ip", "route", "show", "table", "all")]
    port = real.port("steers")
    assert port.read() == frozenset()
    assert reach(port, [steer(1, "10.9.0.1")]) == ()
    assert reach(port, ()) == ()
    assert [run(RED, "ip", "rule"), run(RED, "ip", "route", "show", "table", "all")] == seen


@pytest.mark.kernel
def test_a_route_of_others_in_our_place_is_a_failure(real: RealBox) -> None:
    """It is not overwritten."""
    real.world.run(RED, "ip", "route", "add", "default", "via", "10.9.0.3", "metric", "512", "table", str(STEER + 1))
    (failure,) = reach(real.port("steers"), [steer(1, "10.9.0.1")])
    assert "File exists" in str(failure.error)
    assert "10.9.0.3" in real.world.run(RED, "ip", "route", "show", "table", str(STEER + 1))


@pytest.mark.kernel
@pytest.mark.parametrize(
    "damage",
    [
        f"rule del fwmark {STEER + 1}",
        f"route flush table {STEER + 1}",
        f"route del blackhole default table {STEER + 1}",
        f"route del default via 10.9.0.1 table {STEER + 1}",
        f"route replace default via 10.9.0.3 metric 512 proto {PROTO_BOX} table {STEER + 1}",
        f"route replace unreachable default metric 512 proto {PROTO_BOX} table {STEER + 1}",
        f"rule add fwmark {STEER + 1} to 10.0.0.0/8 lookup {STEER + 1} protocol {PROTO_BOX}",
        f"rule add fwmark {STEER + 1} lookup main protocol {PROTO_BOX} priority 9",
    ],
)
def test_what_others_do_to_a_steer_is_seen_and_mended(real: RealBox, damage: str) -> None:
    """Nothing is left over."""
    port, wanted = real.port("steers"), steer(1, "10.9.0.1")
    reach(port, [wanted])
    before = [real.world.run(RED, "ip", "rule"), real.world.run(RED, "ip", "route", "show", "table", str(STEER + 1))]
    real.world.run(RED, "ip", *damage.split())
    assert port.read() != {wanted}
    assert reach(port, [wanted]) == ()
    assert port.read() == {wanted}
    after = [real.world.run(RED, "ip", "rule"), real.world.run(RED, "ip", "route", "show", "table", str(STEER + 1))]
    assert after == before


@pytest.mark.kernel
def test_a_steer_that_moves_is_never_without_a_way(real: RealBox) -> None:
    """The route is replaced in place: no listener hears that it was deleted."""
    port = real.port("steers")
    reach(port, [steer(1, "10.9.0.1")])
    with real.world.namespaces.new_netlink_socket(NETLINK_ROUTE, RED) as listener:
        listener.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, IPV4_ROUTE)
        assert reach(port, [steer(1, "10.9.0.3", "n2")]) == ()
        assert [kind for kind, *_ in messages(listener.recv(1 << 16))] == [RTM_NEWROUTE]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(1 << 16)
