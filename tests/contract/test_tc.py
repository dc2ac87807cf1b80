"""Filters on the ingress of devices of this kernel."""

from __future__ import annotations

import socket
from errno import EEXIST
from typing import TYPE_CHECKING

import pytest

from appliance.kernel import tc
from appliance.kernel.compose import OBJECT, PROGRAM
from appliance.kernel.exchanges import Netlink
from appliance.kernel.libbpf import Program
from appliance.kernel.netlink import NETLINK_ROUTE
from appliance.model.errors import KernelError
from appliance.model.facts import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel


@pytest.fixture
def program() -> Iterator[Program]:
    """Load a program to hang somewhere."""
    with Program.load(OBJECT, PROGRAM) as loaded:
        yield loaded


@pytest.fixture
def netlink(world: World) -> Netlink:
    """Speak rtnetlink in the test's namespaces."""
    return Netlink(world.namespaces, NETLINK_ROUTE, "tc")


@pytest.fixture
def index(world: World) -> int:
    """Make a device."""
    world.run(HOST, "ip", "link", "add", "c0", "type", "veth", "peer", "name", "c1")
    with world.namespaces.in_namespace(HOST):
        return socket.if_nametoindex("c0")


def test_a_filter_is_found_replaced_and_taken_off(netlink: Netlink, index: int, program: Program) -> None:
    """Replacing leaves one filter in the same place, with the other program."""
    tc.attach(netlink, HOST, index, program.fd, "mine", None)
    (first,) = tc.hooks(netlink, HOST, "mine")
    assert (first.index, first.program) == (index, program.id)
    with Program.load(OBJECT, PROGRAM) as other:
        tc.attach(netlink, HOST, index, other.fd, "mine", first)
        (second,) = tc.hooks(netlink, HOST, "mine")
        assert (second.program, second.info, second.handle) == (other.id, first.info, first.handle)
    tc.detach(netlink, HOST, second)
    tc.detach(netlink, HOST, second)
    assert list(tc.hooks(netlink, HOST, "mine")) == []


def test_a_foreign_filter_is_neither_seen_nor_overwritten(netlink: Netlink, index: int, program: Program) -> None:
    """In our place it makes us fail instead."""
    tc.attach(netlink, HOST, index, program.fd, "theirs", None)
    assert list(tc.hooks(netlink, HOST, "mine")) == []
    with pytest.raises(KernelError) as caught:
        tc.attach(netlink, HOST, index, program.fd, "mine", None)
    assert caught.value.errno == EEXIST
    assert len(list(tc.hooks(netlink, HOST, "theirs"))) == 1
