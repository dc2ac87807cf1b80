"""One echo on one link."""

from __future__ import annotations

import struct
import subprocess
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.control.ping import answers, checksum, echo, ping
from appliance.kernel.namespaces import Namespaces
from appliance.model.facts import Namespace
from tests.support.namespaces import NAMED
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from tests.support.namespaces import Namespaces as Factory

IP_HEADER = bytes([0x45]) + bytes(19)


def replied(request: bytes) -> bytes:
    """Return the packet that answers a request."""
    return IP_HEADER + b"\0" + request[1:]


@given(st.binary(max_size=100))
def test_octets_with_their_checksum_sum_up_to_nothing(octets: bytes) -> None:
    """RFC 1071."""
    even = octets + b"\0" * (len(octets) % 2)
    assert checksum(even + struct.pack("!H", checksum(octets))) == 0


def test_an_answer_has_the_numbers_of_the_request() -> None:
    """Behind options too; a request is no answer, also not our own that came back."""
    request = echo(7, 9)
    assert checksum(request) == 0
    assert answers(replied(request), 7, 9)
    assert answers(bytes([0x46]) + bytes(23) + replied(request)[20:], 7, 9)
    assert not answers(replied(request), 7, 8)
    assert not answers(replied(request), 8, 9)
    assert not answers(IP_HEADER + request, 7, 9)


@given(st.binary(max_size=40))
def test_no_octets_make_it_stumble(octets: bytes) -> None:
    """Whatever comes is the answer or not."""
    assert answers(octets, 7, 9) in (True, False)


@pytest.mark.kernel
async def test_only_who_answers_on_the_link_is_there(netns_factory: Factory) -> None:
    """Another address, another link, another namespace, a node that fell silent: all are not."""
    edge, node = netns_factory("ping-edge"), netns_factory("ping-node")
    namespaces = Namespaces(NAMED)
    try:
        _wire(namespaces, edge, node)
        ns, other = Namespace(edge), IPv4Address("10.9.0.1")
        await eventually_async(lambda: ping(namespaces, ns, "n0", other, 0.5), what="the node answers")
        assert not await ping(namespaces, ns, "n0", IPv4Address("10.9.0.9"), 0.2)
        assert not await ping(namespaces, ns, "lo", other, 0.2)
        assert not await ping(namespaces, ns, "n9", other, 0.2)
        assert not await ping(namespaces, Namespace("none-of-this-name"), "n0", other, 0.2)
        _run(node, "ip", "link", "set", "n1", "down")
        assert not await ping(namespaces, ns, "n0", other, 0.2)
    finally:
        namespaces.close()


def _wire(namespaces: Namespaces, edge: str, node: str) -> None:
    _run(edge, "ip", "link", "add", "n0", "type", "veth", "peer", "name", "n1", "netns", str(NAMED / node))
    for ns, link, address in ((edge, "n0", "10.9.0.0/31"), (node, "n1", "10.9.0.1/31")):
        assert namespaces.exists(Namespace(ns))
        _run(ns, "ip", "address", "add", address, "dev", link)
        _run(ns, "ip", "link", "set", link, "up")


def _run(ns: str, *command: str) -> None:
    subprocess.run(["nsenter", f"--net={NAMED / ns}", *command], check=True)
