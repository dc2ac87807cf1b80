"""A plan without a daemon is the plan of the daemon that would start."""

from __future__ import annotations

import pytest

from appliance.control.standalone import plan_without_daemon
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.model.errors import OperatorError
from routing.engines.engine import Synced
from tests.support.fake_engine import best
from tests.support.fake_node import OUTSIDE, FakeNode, quiet_vpc
from tests.support.intents import changed, intent
from tests.support.waiting import eventually_async


def test_on_an_untouched_kernel_everything_is_made() -> None:
    """And nothing is deleted, for nothing there is ours."""
    plans, desired = plan_without_daemon(intent(quiet_vpc()), "h1", fake_kernel())
    assert [change.fact.key for change in plans["namespaces"].changes] == ["vpc-red"]
    assert {change.operation for plan in plans.values() for change in plan.changes} == {"create"}
    assert desired.speakers[0].announcements


async def test_what_a_daemon_left_and_its_successor_would_keep_is_no_change() -> None:
    """BGP's routes and the members of VIPs stand until the engines have spoken."""
    async with FakeNode("h1", outside=OUTSIDE) as node:
        await node.load()
        node.engine().push(
            best("198.51.100.0/24", "10.0.0.21"), best("fd00:ed9e:0:2:cb00:7150:c:0/112", "fd00:fab::12"), Synced()
        )
        await eventually_async(lambda: node.members() and len(node.bgp_routes()) == 2)
    plans, _ = plan_without_daemon(intent(quiet_vpc()), "h1", fake_kernel(node.world))
    assert not any(plans.values())
    other = intent(changed(quiet_vpc(), "vpcs.red.subnet", "172.16.0.0/22"))
    plans, _ = plan_without_daemon(other, "h1", fake_kernel(node.world))
    assert {name for name, plan in plans.items() if plan} == {"addresses", "nft"}


def test_an_intent_without_the_node_is_refused() -> None:
    """Before the kernel is read."""
    with pytest.raises(OperatorError, match="no node h9"):
        plan_without_daemon(intent(quiet_vpc()), "h9", fake_kernel())
