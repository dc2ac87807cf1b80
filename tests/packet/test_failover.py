"""Leading routes another way by one message: whoever speaks meanwhile loses nothing, and is led at once.

A socket keeps what it has looked up (RFC 1122 3.3.1.3); it must look again although its route has not changed.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.routes import RoutesPort
from appliance.model.facts import HOST, Hop, Route
from appliance.model.marks import PROTO_BGP
from appliance.state.diff import diff
from tests.contract.roads import net
from tests.packet.yard import ANYWHERE, ANYWHERE6, FAR, NEAR, Neighbour, going_on, yard_of
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel


def way(beside: Neighbour, to: str) -> Hop:
    """Return the hop to a neighbour, in the family of an address."""
    return Hop(beside.device, ip_address(beside.address[":" in to]))


@pytest.mark.parametrize("to", [ANYWHERE, ANYWHERE6])
@pytest.mark.parametrize("shared", [False, True], ids=["its own hop", "a shared hop"])
async def test_sockets_follow_when_routes_are_led_another_way(
    world: World, netns_factory: Factory, to: str, *, shared: bool
) -> None:
    """Whether the hop is turned, or the group given another because a second one has it."""
    async with yard_of(world, netns_factory) as yard:
        for beside in (NEAR, FAR):
            for own, bits in zip(beside.own, (24, 64), strict=True):
                yard.ip(f"address add {own}/{bits} dev {beside.device}{' nodad' if ':' in own else ''}")
        near, far = ((way(beside, to),) for beside in (NEAR, FAR))
        port, wanted = RoutesPort(world.namespaces), [Route(HOST, net(to), near, PROTO_BGP)]
        if shared:
            wanted.append(
                Route(HOST, net("2001:db8:98::/48" if ":" in to else "203.0.113.0/26"), near + far, PROTO_BGP)
            )
        assert port.apply(diff(port.read(), wanted)) == ()
        flow = yard.flow(to)
        await eventually_async(lambda: flow.ask(1), what="the first packet comes through")
        flow.by.clear()
        async with going_on(flow):
            for old, new, name in ((near, far, "far"), (far, near, "near")) * 3:
                assert port.replace_hops(HOST, PROTO_BGP, old, new) == 1
                before = flow.by[name]
                await eventually_async(lambda name=name, before=before: flow.by[name] > before, within=120)  # type: ignore[misc]
        assert flow.by.keys() == {"near", "far"}
