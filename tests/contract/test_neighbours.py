"""Permanent neighbours and forwarding entries."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from appliance.model.facts import FdbEntry, Link, Namespace, Neighbour
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import RealBox, prepare, reach

if TYPE_CHECKING:
    from tests.contract.boxes import Box
    from tests.contract.worlds import World

RED = Namespace("red")
LINKS = (
    Link(RED, "br0", "bridge"),
    Link(RED, "vx7", "vxlan", vni=7, local=ip_address("192.0.2.1"), port=4789, learning=False, master="br0"),
    Link(RED, "vx8", "vxlan", vni=8, local=ip_address("2001:db8::1"), port=4789, learning=False),
)
ONE, TWO, ALL = "02:00:00:00:00:01", "02:00:00:00:00:02", "00:00:00:00:00:00"


def near(address: str, mac: str, link: str = "br0") -> Neighbour:
    """Write a neighbour short."""
    return Neighbour(RED, link, ip_address(address), mac)


def far(mac: str, remote: str, link: str = "vx7") -> FdbEntry:
    """Write a forwarding entry short."""
    return FdbEntry(RED, link, mac, ip_address(remote))


NEIGHBOURS: dict[str, frozenset[Neighbour]] = {
    "nothing": frozenset(),
    "two": frozenset({near("192.0.2.1", ONE), near("2001:db8::1", ONE)}),
    "moved": frozenset({near("192.0.2.1", TWO), near("2001:db8::1", ONE)}),
    "elsewhere": frozenset({near("192.0.2.1", ONE, "vx7"), near("192.0.2.2", TWO)}),
}
ENTRIES: dict[str, frozenset[FdbEntry]] = {
    "nothing": frozenset(),
    "two remotes": frozenset({far(ONE, "192.0.2.9"), far(ALL, "192.0.2.9"), far(ALL, "192.0.2.8")}),
    "moved": frozenset({far(ONE, "192.0.2.8"), far(ALL, "192.0.2.8"), far(TWO, "192.0.2.8")}),
    "both families": frozenset({far(ONE, "2001:db8::9", "vx8"), far(ALL, "2001:db8::9", "vx8"), far(ALL, "192.0.2.8")}),
}


def _follow(box: Box, kind: str, path: list[frozenset[Neighbour]] | list[frozenset[FdbEntry]]) -> None:
    """Reach one state after the other."""
    prepare(box, RED)
    reach(box.port("links"), LINKS)
    port = box.port(kind)
    for desired in path:
        assert reach(port, desired) == ()
        assert port.read() == desired
        assert box.port(kind).read() == desired
        assert not diff(port.read(), desired)


@pytest.mark.parametrize("path", list(permutations(NEIGHBOURS)), ids=" -> ".join)
def test_neighbours_depend_on_the_state_and_not_on_the_path(box: Box, path: tuple[str, ...]) -> None:
    """All orders of all states."""
    _follow(box, "neighbours", [NEIGHBOURS[name] for name in path])


@pytest.mark.parametrize("path", list(permutations(ENTRIES)), ids=" -> ".join)
def test_forwarding_entries_depend_on_the_state_and_not_on_the_path(box: Box, path: tuple[str, ...]) -> None:
    """All orders of all states."""
    _follow(box, "fdb", [ENTRIES[name] for name in path])


@pytest.mark.parametrize(
    ("kind", "fact"), [("neighbours", near("192.0.2.1", ONE, "vx9")), ("fdb", far(ONE, "192.0.2.9", "vx9"))]
)
def test_a_missing_device_is_a_failure_that_may_pass(box: Box, kind: str, fact: Neighbour | FdbEntry) -> None:
    """It is no exception."""
    prepare(box, RED)
    (failure,) = reach(box.port(kind), [fact])
    assert failure.fact == fact
    assert failure.error.retry


@pytest.mark.parametrize(("kind", "fact"), [("neighbours", near("192.0.2.1", ONE)), ("fdb", far(ONE, "192.0.2.9"))])
def test_deleting_what_is_absent_succeeds(box: Box, kind: str, fact: Neighbour | FdbEntry) -> None:
    """First the entry, then the device, then the namespace."""
    gone: Plan[Neighbour | FdbEntry] = Plan((Change("delete", fact, None),))
    for step in ("entry", "device", "namespace"):
        prepare(box, *([] if step == "namespace" else [RED]))
        reach(box.port("links"), LINKS if step == "entry" else ())
        assert box.port(kind).apply(gone) == ()


def test_neighbours_of_others_are_left_alone(world: World) -> None:
    """They have another protocol number, or none."""
    box = RealBox(world)
    prepare(box, RED)
    reach(box.port("links"), LINKS)
    world.run(RED, "ip", "neighbour", "add", "192.0.2.77", "lladdr", ONE, "dev", "br0")
    world.run(RED, "bridge", "fdb", "add", TWO, "dev", "br0", "self", "permanent")
    for kind, fact in (("neighbours", near("192.0.2.1", ONE)), ("fdb", far(ONE, "192.0.2.9"))):
        reach(box.port(kind), [fact])
        reach(box.port(kind), ())
        assert box.port(kind).read() == frozenset()
    assert "192.0.2.77" in world.run(RED, "ip", "neighbour")
    assert TWO in world.run(RED, "bridge", "fdb", "show", "dev", "br0")
