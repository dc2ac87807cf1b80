"""Netlink attributes, and exchanges with a real kernel."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.devices import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, link_message
from appliance.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Answer,
    Message,
    Netlink,
    attribute,
    be16,
    be32,
    nest,
    parse,
    text,
    to_text,
    to_u32,
    u32,
)
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=300), max_size=9))
def test_what_is_encoded_is_what_is_decoded(attributes: dict[int, bytes]) -> None:
    """Whatever the lengths: padding is no content."""
    buffer = b"".join(attribute(kind, value) for kind, value in attributes.items())
    assert len(buffer) % 4 == 0
    assert {kind: bytes(value) for kind, value in parse(memoryview(buffer)).items()} == attributes


@given(st.binary(max_size=100))
def test_garbage_is_decoded_to_something_and_never_hangs(garbage: bytes) -> None:
    """A length shorter than its own header ends the run."""
    assert all(len(value) <= len(garbage) for value in parse(memoryview(garbage)).values())


def test_numbers_and_texts_have_the_order_their_name_says() -> None:
    """Rtnetlink speaks host order, nfnetlink network order."""
    found = parse(memoryview(nest(1, u32(1, 258), be16(2, 258), be32(3, 258), text(4, "lo"))))
    inner = parse(found[1])
    assert to_u32(inner[1]) == 258
    assert (bytes(inner[2]), bytes(inner[3])) == (b"\1\2", b"\0\0\1\2")
    assert to_text(inner[4]) == "lo"


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
