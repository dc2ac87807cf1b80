"""Named states of one host, as facts: each is what the zone may be at some moment. Used by sequences and the reconciler.

A state, not a path: what a host must do on the way from any of them to any other follows from the two alone.
"""

from __future__ import annotations

from typing import Any

from appliance.control.compile import Known, compile_intent
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.kernel import Kernel
from appliance.model.facts import Fact
from services.feature import Runtime
from tests.support.intents import Tree, changed, intent, node, one_vpc, pair, two_vpcs

Facts = frozenset[Fact]
RED = "vpcs.red"
#: Every device that a state of h1 names and that others make.
DEVICES = ("eth1", "eth2", "tap11", "tap12", "tap13", "tap21", "tap22")


def facts(tree: Tree, **runtime: Any) -> Facts:
    """Compile h1."""
    vips = {vip.address: (11, 12) for vpc in intent(tree).vpcs.values() for vip in vpc.vips.values()}
    return compile_intent(intent(tree), "h1", Known(Runtime(**runtime), vips)).facts


def _swapped() -> Tree:
    """Return both VPCs with each other's devices on h1."""
    tree = two_vpcs()
    red, blue = tree["vpcs"]["red"]["guests"], tree["vpcs"]["blue"]["guests"]
    red["r1"]["interface"], blue["b1"]["interface"] = "tap21", "tap11"
    return tree


def _gateway_too() -> Tree:
    tree = one_vpc()
    tree["nodes"]["h1"] = node(11, "host", "gateway", exchange=True)
    return tree


def _renumbered() -> Tree:
    """Return h1 with another address on the fabric: its overlay ends cannot keep theirs."""
    return changed(one_vpc(), "nodes.h1.fabric.ipv4", "10.0.0.99/24")


STATES: dict[str, Facts] = {
    "EMPTY": frozenset(),
    "NO_VPC": facts(pair()),
    "ONE_VPC": facts(one_vpc()),
    "TWO_VPCS": facts(two_vpcs()),
    "GUEST_MOVED_AWAY": facts(changed(one_vpc(), f"{RED}.guests.r1.host", "h2")),
    "GUEST_MOVED_HERE": facts(changed(one_vpc(), f"{RED}.guests.r2.host", "h1")),
    "GUESTS_SWAPPED": facts(_swapped()),
    "BACKEND_DOWN": facts(one_vpc(), down=frozenset({("red", "r1", 8080)})),
    "ALL_BACKENDS_DOWN": facts(one_vpc(), down=frozenset({("red", "r1", 8080), ("red", "r3", 8080)})),
    "SECOND_BLOCK": facts(one_vpc(), blocks={"red": (0, 1)}),
    "FIRST_BLOCK_AGAIN": facts(one_vpc(), blocks={"red": (1, 0)}),
    "NO_SNAT": facts(changed(one_vpc(), f"{RED}.snat", ...)),
    "NO_FLOATING": facts(changed(one_vpc(), f"{RED}.guests.r1.public", ...)),
    "FIREWALL_OPEN": facts(changed(one_vpc(), f"{RED}.firewall", {"inbound": "allow"})),
    "OTHER_VPC_ID": facts(changed(one_vpc(), f"{RED}.id", 500)),
    "LARGER_MTU": facts(changed(one_vpc(), "nodes.h1.fabric.mtu", 9000)),
    "RENUMBERED": facts(_renumbered()),
    "GATEWAY_TOO": facts(_gateway_too()),
}


def kernel(*devices: str) -> tuple[FakeWorld, Kernel]:
    """Return a kernel in memory where others made these devices (all that the states name, if none is given)."""
    world = FakeWorld(*(devices or DEVICES))
    return world, fake_kernel(world)


def held(kernel_: Kernel) -> Facts:
    """Read everything of ours."""
    return frozenset(fact for port in kernel_.ports.values() for fact in port.read())
