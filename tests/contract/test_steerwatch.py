"""What wakes a watcher of steers, and what does not."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, ip_interface
from typing import TYPE_CHECKING

import pytest

from appliance.model.facts import Hop, Link, LinkAddress, Namespace, Steer
from appliance.model.marks import PROTO_BOX, STEER
from tests.contract.boxes import RealBox, prepare, reach, watching

if TYPE_CHECKING:
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel

RED = Namespace("red")
WANTED = Steer(RED, 1, Hop("n1", IPv4Address("10.9.0.1")))


@pytest.fixture
def real(world: World) -> RealBox:
    """Give a namespace with a device and a steer."""
    box = RealBox(world)
    prepare(box, RED)
    reach(box.port("links"), [Link(RED, "n1", "bridge")])
    reach(box.port("addresses"), [LinkAddress(RED, "n1", ip_interface("10.9.0.0/31"))])
    assert reach(box.port("steers"), [WANTED]) == ()
    return box


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (f"rule del fwmark {STEER + 1}", "steer red"),
        (f"route del default via 10.9.0.1 table {STEER + 1}", "steer red"),
        ("rule add fwmark 1 lookup 7", "steer red"),
        ("-6 rule add fwmark 1 lookup 7", "steer red"),
        (f"-6 route add blackhole default table {STEER + 1}", "steer red"),
        ("link set n1 down", "carrier red"),
    ],
)
async def test_what_others_do_to_steers_is_told(real: RealBox, words: str, reason: str) -> None:
    """Also what may be none of ours: reading is cheap."""
    async with watching(real.port("steers")) as reasons:
        await asyncio.to_thread(real.world.run, RED, "ip", *words.split())
        assert await asyncio.wait_for(anext(reasons), 10) == reason


async def test_what_we_do_and_other_routes_are_not_told(real: RealBox) -> None:
    """The first reason is the one that comes after them."""
    port = real.port("steers")
    async with watching(port) as reasons:
        reach(port, ())
        reach(port, [WANTED])
        for words in (f"route add 192.0.2.0/24 dev n1 proto {PROTO_BOX}", "route del 192.0.2.0/24"):
            await asyncio.to_thread(real.world.run, RED, "ip", *words.split())
        await asyncio.to_thread(real.world.run, RED, "ip", "link", "set", "n1", "down")
        assert await asyncio.wait_for(anext(reasons), 10) == "carrier red"
