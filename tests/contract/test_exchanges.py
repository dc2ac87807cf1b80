"""Exchanges with the kernel in a namespace: answers in their order, errors in its words."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.devices import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, link_message
from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import NETLINK_ROUTE, NLM_F_CREATE, NLM_F_EXCL, Answer, Message, nest, text
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")


def _bridge(name: str) -> Message:
    """Make a bridge."""
    body = link_message() + text(3, name) + nest(18, text(1, "bridge"))
    return Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)


def test_each_request_of_a_batch_has_its_answer(world: World) -> None:
    """One that is refused stops no other; more than one send holds is sent in parts."""
    world.make(RED)
    netlink = Netlink(world.namespaces, NETLINK_ROUTE, "link")
    names = ["a0", "a0", *(f"b{number}" for number in range(20))]
    assert [said.errno for said in netlink.batch(RED, list(map(_bridge, names)))] == [0, errno.EEXIST, *[0] * 20]
    gone = Message(RTM_DELLINK, link_message(9999))
    assert {said.errno for said in netlink.batch(RED, [gone] * 600)} == {errno.ENODEV}
    assert len(netlink.dump(RED, Message(RTM_GETLINK, link_message()))) == 22


def test_an_error_keeps_the_kernels_own_words(world: World) -> None:
    """They say more than the number does."""
    world.make(RED)
    netlink = Netlink(world.namespaces, NETLINK_ROUTE, "link")
    nonsense = Message(RTM_NEWLINK, link_message() + text(3, "a0") + nest(18, text(1, "nonsense")), NLM_F_CREATE)
    with pytest.raises(KernelError, match=r"link: a0: .+: Operation not supported"):
        netlink.one(RED, nonsense, "a0")


def test_getting_one_object_gives_it_or_the_reason(world: World) -> None:
    """`lo` is always the first."""
    world.make(RED)
    netlink = Netlink(world.namespaces, NETLINK_ROUTE, "link")
    assert not isinstance(netlink.get(RED, Message(RTM_GETLINK, link_message(1))), Answer)
    missing = netlink.get(RED, Message(RTM_GETLINK, link_message(77)))
    assert isinstance(missing, Answer)
    assert missing.errno == errno.ENODEV
